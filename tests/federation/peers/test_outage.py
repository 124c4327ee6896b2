"""A server that was away: what came meanwhile is there soon after, without anybody saying anything more."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...server.client import Client
from ...server.harness import free_port
from ..network import Authority
from .conftest import AnyServer, NewUser, Pair, on_tinyserver, tiny_server
from .eventually import eventually, same_state, whole_history
from .synapse import Synapse

MISSED = 300
"""Events that one server does not hear of while it is away."""


async def test_what_nobody_sent_is_found(
    synapse: Synapse, authority: Authority, new_user: NewUser, tmp_path: Path
) -> None:
    """The other server cannot reach this one, as if it had lost what it wanted to send: it is asked."""
    tiny = tiny_server(tmp_path, authority)
    try:
        await asyncio.to_thread(tiny.start)
        alice, bob = await new_user(synapse, "alice"), await new_user(tiny, "bob")
        rooms = [await alice.create_room(preset="public_chat", name=f"Room {number}") for number in range(3)]
        for room in rooms:
            await bob.join(room, params={"via": synapse.server_name})
            await alice.sync_on()
        await asyncio.to_thread(tiny.stop)
        said = {room: [await alice.send(room, f"while away {number}") for number in range(30)] for room in rooms}
        await alice.put_state(rooms[0], "m.room.topic", {"topic": "changed meanwhile"})
        port = tiny.server_name.rpartition(":")[2]
        config = tiny.config_file.read_text()
        assert f"127.0.0.1:{port}" in config
        tiny.config_file.write_text(config.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"))
        with contextlib.closing(
            sqlite3.connect(tiny.data_dir / "tinyserver.db")
        ) as db:  # as if it had been away for long
            db.execute("UPDATE counters SET value = value - 3600000 WHERE name = 'outgoing_alive'")
            db.commit()
        await asyncio.to_thread(tiny.start)
        for room in rooms:
            await eventually(lambda room=room: _has_all(bob, room, said[room]), seconds=30)
            await same_state(room, alice, bob)
    finally:
        await asyncio.to_thread(tiny.kill)
    tiny.log.check()


async def _has_all(reader: Client, room: str, event_ids: list[str]) -> bool:
    seen = [event["event_id"] for event in await whole_history(reader, room)]
    assert [event_id for event_id in reversed(seen) if event_id in event_ids] == event_ids
    return True


class Crowd:
    """Users of one server who say things and change the state of a room, many at a time."""

    def __init__(self, room: str, admin: Client, others: list[Client]) -> None:
        self.room, self.admin, self.others = room, admin, others
        self.sent: set[str] = set()
        self.last = ""

    async def act(self, count: int, tag: str) -> None:
        """So many events: messages, an edit of the topic or an own setting every tenth, comings and goings."""

        async def say(who: Client, numbers: range) -> None:
            for number in numbers:
                if number % 10 == 3:
                    self.sent.add(await who.put_state(self.room, "test.mood", {"of": tag, "is": number}, who.user_id))
                elif number % 25 == 7:
                    self.sent.add(await self.admin.redact(self.room, await self._say(who, f"{tag} regretted")))
                else:
                    await self._say(who, f"{tag} {number}")

        *talkers, goer = [self.admin, *self.others]
        share = (count - 4) // len(talkers)
        await asyncio.gather(*(say(who, range(at * share, (at + 1) * share)) for at, who in enumerate(talkers)))
        self.sent.add(await self.admin.put_state(self.room, "m.room.topic", {"topic": tag}))
        await goer.leave(self.room)
        await goer.join(self.room)
        self.last = await self._say(self.admin, f"{tag} for the last time")

    async def _say(self, who: Client, text: str) -> str:
        event_id: str = await who.send(self.room, text)
        self.sent.add(event_id)
        return event_id


async def crowd(server: AnyServer, room: str, new_user: NewUser, admin: Client, via: AnyServer) -> Crowd:
    others = [await new_user(server, "talker") for _ in range(3)]
    for other in others:
        await other.join(room, params={"via": via.server_name})
    return Crowd(room, admin, others)


async def common_room(pair: Pair, new_user: NewUser) -> tuple[str, Crowd, Crowd]:
    """A room of both servers in which everybody may set a mood of one's own."""
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    levels = {"users": {alice.user_id: 100, bob.user_id: 100}, "events": {"test.mood": 0}}
    room = await alice.create_room(
        preset="public_chat", room_version="11", power_level_content_override=levels, name="Before"
    )
    await bob.join(room, params={"via": pair.host.server_name})
    here = await crowd(pair.host, room, new_user, alice, pair.host)
    there = await crowd(pair.guest, room, new_user, bob, pair.host)
    await same_state(room, alice, bob)
    return room, here, there


async def converged(room: str, here: Crowd, there: Crowd, *, seconds: float) -> None:
    """Wait until both servers show the same history and the same state, with all that was said."""
    wanted = here.sent | there.sent

    async def is_there(reader: Client, event_id: str) -> bool:
        path = f"{reader.room(room)}/event/{quote(event_id, safe='')}"
        return not event_id or (await reader.raw("GET", path)).status_code == 200

    for reader, writer in ((here, there), (there, here)):
        await eventually(lambda reader=reader, writer=writer: is_there(reader.admin, writer.last), seconds=seconds)

    async def condition() -> bool:
        known: list[dict[str, Any]] = [
            {event["event_id"]: event for event in await whole_history(crowd.admin, room)} for crowd in (here, there)
        ]
        lacking = [len(wanted - each.keys()) for each in known]
        assert lacking == [0, 0], f"events lack: {lacking}"
        differing = [{key: known[at][key] for key in known[at].keys() - known[1 - at].keys()} for at in (0, 1)]
        assert differing == [{}, {}], f"only one server shows these: {differing}"
        return True

    await eventually(condition, seconds=seconds)
    await same_state(room, here.admin, there.admin, seconds=seconds)


async def test_each_was_away_for_a_while(pair: Pair, new_user: NewUser) -> None:
    """One server is off while 300 things happen on the other; it is back, and nobody says anything any more."""
    room, here, there = await common_room(pair, new_user)
    for server, crowd in ((pair.guest, here), (pair.host, there)):
        await asyncio.to_thread(server.stop)
        await crowd.act(MISSED, f"without {server.server_name}")
        await asyncio.to_thread(server.start)
        begun = time.monotonic()
        await converged(room, here, there, seconds=240)
        print(f"{server.server_name} was away: converged in {time.monotonic() - begun:.1f} s")


@on_tinyserver
async def test_both_went_on_without_each_other(pair: Pair, new_user: NewUser) -> None:
    """Each changes the room while the other is off: what they have made of it is resolved to the same state."""
    room, here, there = await common_room(pair, new_user)
    unloved = await new_user(pair.guest, "unloved")
    await unloved.join(room, params={"via": pair.host.server_name})
    await same_state(room, here.admin, there.admin)
    await asyncio.to_thread(pair.guest.stop)
    await here.act(MISSED // 2, "host alone")
    await here.admin.membership("ban", room, unloved)
    await asyncio.to_thread(pair.host.stop)
    await asyncio.to_thread(pair.guest.start)
    await there.act(MISSED // 2, "guest alone")
    await there.admin.put_state(room, "m.room.name", {"name": "Of the guest"})
    await asyncio.to_thread(pair.host.start)
    begun = time.monotonic()
    await converged(room, here, there, seconds=240)
    print(f"both were away: converged in {time.monotonic() - begun:.1f} s")
