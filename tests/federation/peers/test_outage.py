"""A server that was away: what came meanwhile is there soon after, without anybody saying anything more."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

from ...server.client import Client
from ...server.harness import free_port
from ..network import Authority
from .conftest import NewUser, tiny_server
from .eventually import eventually, same_state, whole_history
from .synapse import Synapse


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
