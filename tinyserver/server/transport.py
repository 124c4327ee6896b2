"""Other machines: how they are reached, and which servers they are."""

from __future__ import annotations

import time

from tinyserver.api.federation.authentication import SignedRequests
from tinyserver.api.federation.keys import KeysApi as ServerKeysApi
from tinyserver.api.federation.version import VersionApi
from tinyserver.federation.client import FederationClient
from tinyserver.federation.destinations import Destinations
from tinyserver.federation.discovery import Discovery
from tinyserver.federation.key_ring import KeyRing
from tinyserver.federation.key_store import KeyStore
from tinyserver.federation.notary import Notary
from tinyserver.federation.signing_identity import SigningIdentity
from tinyserver.federation.well_known import WellKnown
from tinyserver.outgoing.addresses import AddressPolicy
from tinyserver.outgoing.dns import Resolver
from tinyserver.outgoing.http import HttpClient
from tinyserver.outgoing.tls import TlsClient
from tinyserver.server.core import Core


class Transport:
    """Names, connections and keys. What is heavy of it is loaded when it is used."""

    def __init__(self, core: Core) -> None:
        config = core.config
        self.tls = TlsClient(
            verify=config.outgoing.verify_tls,
            extra_ca_files=config.outgoing.extra_ca_files,
            wall_ms=lambda: int(time.time() * 1000),
            best_known_ms=core.clock.now_ms,
        )
        self.resolver = Resolver(config.outgoing.dns_servers, time.monotonic)
        policy = AddressPolicy(allow_private=config.outgoing.allow_private_addresses)
        self.http = HttpClient(self.resolver, policy, self.tls)
        self.well_known = WellKnown(self.http, time.monotonic)
        self.destinations = Destinations(core.db, core.clock, first_pause_ms=core.retry_pause_ms)
        discovery = Discovery(self.resolver, self.well_known)
        self.client = FederationClient(core.server_name, core.signing_key, self.http, discovery, self.destinations)
        old_keys = core.data.read_old_signing_keys()
        identity = SigningIdentity(core.server_name, core.signing_key, old_keys, core.clock)
        store = KeyStore(core.db)
        notaries = config.federation.trusted_key_servers
        self.key_ring = KeyRing(identity, store, self.client, core.clock, notaries, time.monotonic)
        self.signed_requests = SignedRequests(core.server_name, self.key_ring, self.destinations, core.limiter)
        if core.federates:
            core.router.add(ServerKeysApi(identity, Notary(identity, self.key_ring, store, core.clock), core.limiter))
            core.router.add(VersionApi())

    async def stop(self) -> None:
        """End what is under way, and note which servers failed."""
        await self.key_ring.close()
        await self.well_known.close()
        await self.http.close()
        await self.resolver.close()
        await self.destinations.close()
