"""Some tinyservers, each of which reaches each other one over a link of its own, and what they have stored."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from tinyserver.storage import events, names, rooms, state_trie
from tinyserver.storage.database import Database
from tinyserver.storage.stored_event import Flag
from tinyserver.storage.transaction import ReadTransaction

from ...server.harness import TinyServer, free_port
from ..network import Authority, Zone, dns_server
from .links import Link, Way

RETRY_PAUSE = "1s"


@dataclass
class Kept:
    """What a server has of a room.

    Attributes:
        state_after: by event ID the state after it (event IDs by type and state key), None where it is unknown.
        flags: by event ID what became of it.
        bodies: the texts of the messages that are not redacted, one for each event.
        current: the state of the room.
    """

    state_after: dict[str, frozenset[tuple[str, str, str]] | None] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    bodies: list[str] = field(default_factory=list)
    current: frozenset[tuple[str, str, str]] = frozenset()

    def count(self, flag: Flag) -> int:
        """How many events have a flag."""
        return sum(1 for flags in self.flags.values() if flags & flag)


class Cluster:
    """The servers, `s0.test` and so on; `links[a, b]` is how `a` reaches `b`. `is_up[a]` is set while it runs."""

    def __init__(self, servers: list[TinyServer], links: dict[tuple[int, int], Link]) -> None:
        self.servers = servers
        self.links = links
        self.is_up = [asyncio.Event() for _ in servers]
        self.kills = 0

    async def start(self) -> None:
        """Start all of them."""
        for number, server in enumerate(self.servers):
            await asyncio.to_thread(server.start)
            self.is_up[number].set()

    async def kill(self, number: int, seconds: float) -> None:
        """Pull the plug of a server and start it again after a while."""
        self.kills += 1
        self.is_up[number].clear()
        await asyncio.to_thread(self.servers[number].kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.servers[number].start)
        self.is_up[number].set()

    def heal(self) -> None:
        """Let everybody reach everybody."""
        for link in self.links.values():
            link.become(Way.OPEN)

    async def stop(self) -> None:
        """Stop all of them; none may have logged an error."""
        for server in self.servers:
            await asyncio.to_thread(server.stop)
        for server in self.servers:
            server.log.check()

    async def ids(self, number: int, room_id: str) -> frozenset[str]:
        """The events that a running server has stored of a room."""
        return await asyncio.to_thread(_ids, self.servers[number].data_dir / "tinyserver.db", room_id)

    async def kept(self, number: int, room_id: str) -> Kept:
        """All that a server which was stopped has stored of a room."""
        database = Database(self.servers[number].data_dir / "tinyserver.db")
        database.start()
        try:
            return database.glance(lambda tx: _read(tx, room_id))
        finally:
            await database.close()


def _ids(path: Path, room_id: str) -> frozenset[str]:
    sql = (
        "SELECT hex(event_id) FROM events JOIN rooms ON rooms.nid = events.room "
        "WHERE room_id = ? AND events.state IS NOT NULL"
    )
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as connection:
        return frozenset(event_id for (event_id,) in connection.execute(sql, (room_id,)))


def _read(tx: ReadTransaction, room_id: str) -> Kept:
    room = rooms.find(tx, room_id)
    assert room is not None
    kept = Kept()
    nids = [nid for (nid,) in tx.execute("SELECT nid FROM events WHERE room = ?", (room.nid,))]
    stored = events.get_many(tx, nids, keep=False)
    ids = {nid: each.event_id for nid, each in stored.items()}
    states: dict[int, frozenset[tuple[str, str, str]]] = {}

    def state(root: int) -> frozenset[tuple[str, str, str]]:
        if root not in states:
            states[root] = frozenset(
                (names.text(tx, kind), names.text(tx, key), ids[nid]) for (kind, key), nid in state_trie.items(tx, root)
            )
        return states[root]

    for each in stored.values():
        kept.state_after[each.event_id] = None if each.state is None else state(each.state)
        kept.flags[each.event_id] = each.flags
        if each.event.type == "m.room.message" and isinstance(body := each.event.content.get("body"), str):
            kept.bodies.append(body)
    kept.current = state(room.state)
    return kept


@asynccontextmanager
async def cluster(directory: Path, count: int) -> AsyncIterator[Cluster]:
    """So many running servers."""
    authority = Authority(directory)
    ports = [free_port() for _ in range(count)]
    async with AsyncExitStack() as stack:
        links = {
            (here, there): await stack.enter_async_context(Link(ports[there]))
            for here in range(count)
            for there in range(count)
            if here != there
        }
        servers = []
        for number in range(count):
            zone = Zone()
            for there in range(count):
                if there != number:
                    name = f"s{there}.test"
                    zone.add_address(name, "127.0.0.1")
                    zone.add_srv(f"_matrix-fed._tcp.{name}", name, links[number, there].port)
            dns = await stack.enter_async_context(dns_server(zone))
            servers.append(_server(directory / f"s{number}", authority, number, ports[number], dns))
        made = Cluster(servers, links)
        try:
            await made.start()
            yield made
        finally:
            for server in servers:
                server.kill()


def _server(directory: Path, authority: Authority, number: int, port: int, dns: str) -> TinyServer:
    directory.mkdir()
    name = f"s{number}.test"
    certificate, key = authority.issue(name)
    outgoing = {"extra_ca_files": [str(authority.ca_file)], "allow_private_addresses": True, "dns_servers": [dns]}
    server = TinyServer(directory, server_name=name, config={"outgoing": outgoing})
    server.init_with_federation(port, certificate, key, {"federation": {"retry_pause": RETRY_PAUSE}})
    return server
