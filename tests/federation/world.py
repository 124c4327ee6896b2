"""tinyserver's side of the small internet: the client's parts, and other servers with keys."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tinyserver.clock import Clock
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
from tinyserver.protocol.server_keys import PublishedKey, make_key_document
from tinyserver.protocol.signing import SigningKey, sign_json
from tinyserver.storage.database import Database

from .network import Authority, Handler, Reply, Seen, WebServer, Zone, dns_server, json_reply

DAY_MS = 24 * 3600 * 1000


class FakeTime:
    """A monotonic clock and a wall clock that the test moves: `now` seconds, `wall` seconds since 1970."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = time.time()

    def monotonic(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


class World:
    """All parts that tinyserver talks to others with."""

    def __init__(
        self,
        directory: Path,
        db: Database,
        dns: str,
        *,
        authority: Authority,
        zone: Zone,
        stack: AsyncExitStack,
        server_name: str = "tiny.test",
        allow_private: bool = True,
        notaries: tuple[str, ...] = (),
        start_wall: float | None = None,
    ) -> None:
        self.authority = authority
        self.zone = zone
        self.db = db
        self.time = FakeTime()
        if start_wall is not None:
            self.time.wall = start_wall
        self._stack = stack
        self.clock = Clock(wall=lambda: self.time.wall, monotonic=self.time.monotonic)
        self.tls = TlsClient(
            verify=True,
            extra_ca_files=[str(authority.ca_file)],
            wall_ms=lambda: int(self.time.wall * 1000),
            best_known_ms=self.clock.now_ms,
        )
        self.resolver = Resolver([dns], self.time.monotonic)
        self.http = HttpClient(self.resolver, AddressPolicy(allow_private=allow_private), self.tls)
        self.well_known = WellKnown(self.http, self.time.monotonic)
        self.discovery = Discovery(self.resolver, self.well_known)
        self.destinations = Destinations(db, self.clock, jitter=lambda: 0.5)
        self.identity = SigningIdentity(server_name, SigningKey("mine", b"m" * 32), [], self.clock)
        self.client = FederationClient(server_name, self.identity.key, self.http, self.discovery, self.destinations)
        self.store = KeyStore(db)
        self.key_ring = KeyRing(self.identity, self.store, self.client, self.clock, notaries, self.time.monotonic)
        self.notary = Notary(self.identity, self.key_ring, self.store, self.clock)

    async def serve(self, handler: Handler, *names: str, address: str = "127.0.0.1") -> WebServer:
        """A web server with a certificate for these names."""
        server = WebServer(self.authority.issue(*names), handler, address)
        return await self._stack.enter_async_context(server)

    async def peer(self, key_name: str = "k1", *, handler: Handler | None = None) -> Peer:
        """Another Matrix server, at an explicit port of 127.0.0.1."""
        peer = Peer(SigningKey(key_name, key_name.encode().ljust(32, b"p")), self.time, handler)
        peer.web = await self.serve(peer.handle, "127.0.0.1")
        peer.name = f"127.0.0.1:{peer.web.port}"
        return peer

    async def close(self) -> None:
        await self.key_ring.close()
        await self.well_known.close()
        await self.http.close()
        await self.resolver.close()
        await self.destinations.close()


class Peer:
    """A server that publishes its keys. What it says can be bent by the test: `document`, `date`, `answer`."""

    web: WebServer
    name: str

    def __init__(self, key: SigningKey, clock: FakeTime, handler: Handler | None) -> None:
        self.key = key
        self.keys = [key]
        self.old_keys: list[PublishedKey] = []
        self.valid_for_ms = DAY_MS
        self.document: Callable[[], Any] = self.own_document
        self.date: str | None = None
        self.asked = 0
        self._clock = clock
        self.answer = handler

    def own_document(self) -> dict[str, Any]:
        until = int(self._clock.wall * 1000) + self.valid_for_ms
        return make_key_document(self.name, self.keys, self.old_keys, until)

    async def handle(self, seen: Seen) -> Reply:
        if seen.target == "/_matrix/key/v2/server":
            self.asked += 1
            return json_reply(self.document(), **({"Date": self.date} if self.date else {}))
        if self.answer is None:
            return json_reply({"errcode": "M_UNRECOGNIZED", "error": "No"}, 404)
        return await self.answer(seen)

    def sign(self, obj: dict[str, Any]) -> dict[str, Any]:
        return sign_json(obj, self.name, self.key)


@asynccontextmanager
async def world(directory: Path, **options: Any) -> AsyncIterator[World]:
    """A world for one test."""
    zone = Zone()
    database = Database(directory / "t.db")
    database.start()
    try:
        async with AsyncExitStack() as stack, dns_server(zone) as dns:
            made = World(directory, database, dns, authority=Authority(directory), zone=zone, stack=stack, **options)
            try:
                yield made
            finally:
                await made.close()
    finally:
        await database.close()
