"""Identity servers: bindings, and invites by address."""

from __future__ import annotations

from tinyserver.api.client.bindings import BindingsApi
from tinyserver.api.federation.third_party_invites import ThirdPartyInvitesApi
from tinyserver.federation.participation.third_party_invites import ThirdPartyExchange
from tinyserver.identity.bindings import Bindings
from tinyserver.identity.client import IdentityClient
from tinyserver.identity.invites import IdentityInvites
from tinyserver.rooms.membership import RoomMembership
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.server.core import Core
from tinyserver.server.transport import Transport
from tinyserver.threepids.contacts import Contacts


class IdentityParts:
    """The parts: `bindings` of accounts, `invites` into rooms. Nothing of it needs to be started or stopped."""

    def __init__(self, core: Core, transport: Transport, membership: RoomMembership, pipeline: EventPipeline) -> None:
        servers = core.config.identity.servers
        client = IdentityClient(transport.http, core.server_name, core.signing_key, servers)
        self.bindings = Bindings(core.db, client)
        self.invites = IdentityInvites(core.db, client, membership, pipeline)
        if core.federates:
            exchange = ThirdPartyExchange(core.db, transport.client, membership, pipeline, client, core.server_name)
            membership.proofs = exchange
            core.router.add(ThirdPartyInvitesApi(exchange, core.limiter))

    def serve(self, core: Core, contacts: Contacts) -> None:
        """Give the endpoints of accounts to the router."""
        core.router.add(BindingsApi(self.bindings, contacts))
