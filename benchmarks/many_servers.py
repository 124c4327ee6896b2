"""Many scripted servers in rooms of one tinyserver: they share what is said there, as real ones do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.federation.network import Authority, Reply, Seen, WebServer
from tests.federation.peers.conftest import tiny_server
from tests.federation.scripted_peer import Pdu, RemoteRoom, ScriptedPeer
from tests.server.client import Client
from tests.server.harness import TinyServer

ANSWERED_AT_ONCE = 20
"""How many missing events a server gives in one answer; Synapse gives as many."""


@dataclass
class Counted:
    """Bytes of the bodies of requests and answers, without heads and TLS; `requests` by the name of the endpoint."""

    received: int = 0
    sent: int = 0
    requests: dict[str, int] = field(default_factory=dict)


class Server(ScriptedPeer):
    """One of the servers."""

    traffic: Counted

    async def handle(self, seen: Seen) -> Reply:
        """As one alone, but counted."""
        endpoint = seen.target.split("/")[4]
        self.traffic.requests[endpoint] = self.traffic.requests.get(endpoint, 0) + 1
        if endpoint == "get_missing_events":
            asked = {**json.loads(seen.body), "limit": ANSWERED_AT_ONCE}
            seen = Seen(seen.method, seen.target, seen.headers, json.dumps(asked).encode(), seen.sni)
        reply = await super().handle(seen)
        self.traffic.sent += len(seen.body)
        self.traffic.received += len(reply.body)
        return reply


@dataclass
class SharedRoom:
    """A room, and how each of its servers knows it. `last` and `depth` are where it goes on."""

    room_id: str
    servers: list[Server]
    last: str = ""
    depth: int = 0

    def event(self, server: Server, **members: Any) -> Pdu:
        """The next event of a server's user."""
        known = server.rooms[self.room_id]
        known.last, known.depth = self.last, self.depth
        pdu = server.say(known, str(self.depth), **members)
        self.last, self.depth = known.last, known.depth
        return pdu


class ManyServers:
    """A running tinyserver with Alice on it, and the others. `traffic` is what tinyserver received and sent."""

    def __init__(self, tiny: TinyServer, authority: Authority, alice: Client) -> None:
        self.tiny, self.alice = tiny, alice
        self.servers: list[Server] = []
        self.traffic = Counted()
        self._authority = authority
        self._said: dict[str, Pdu] = {}

    async def add(self, stack: contextlib.AsyncExitStack, count: int) -> None:
        """More servers."""
        certificate = self._authority.issue("127.0.0.1")
        for number in range(len(self.servers), len(self.servers) + count):
            server = Server(self._authority, self.tiny, b"server %d" % number)
            server.traffic, server.said = self.traffic, self._said
            web = await stack.enter_async_context(WebServer(certificate, server.handle))
            server.name = f"127.0.0.1:{web.port}"
            stack.push_async_callback(server.close)
            self.servers.append(server)

    async def room(self, servers: Sequence[Server]) -> SharedRoom:
        """A public room of Alice's that these servers have joined."""
        made = SharedRoom(await self.alice.create_room(preset="public_chat", room_version="11"), list(servers))
        for server in servers:
            known: RemoteRoom = await server.join(made.room_id)
            made.last, made.depth = known.last, known.depth
        return made

    def events(self) -> int:
        """How many events are in timelines."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM events WHERE place IS NOT NULL").fetchone()[0])

    def database_size(self) -> int:
        """Bytes, also of what is in the write-ahead log only."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as db:
            return int(db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0])

    @property
    def database(self) -> Path:
        return self.tiny.data_dir / "tinyserver.db"

    async def until_events(self, count: int, seconds: float) -> None:
        """Wait until so many events are in timelines."""
        deadline = time.monotonic() + seconds
        while (have := self.events()) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{have} of {count} events after {seconds} s")
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def many_servers(count: int) -> AsyncIterator[ManyServers]:
    """A tinyserver that runs, and so many others."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        authority = Authority(path)
        (path / "server").mkdir()
        tiny = tiny_server(path / "server", authority)
        await asyncio.to_thread(tiny.start)
        try:
            alice = await Client(tiny.base_url).register("alice")
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(alice.close)
                made = ManyServers(tiny, authority, alice)
                await made.add(stack, count)
                yield made
        finally:
            await asyncio.to_thread(tiny.kill)
