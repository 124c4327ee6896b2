"""Rooms that have come apart are joined together by a server whose users say nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from tinyserver.rooms.many_ends import MAX_ENDS, TYPE, ManyEnds
from tinyserver.storage import events
from tinyserver.storage.stored_event import StoredEvent

from ..federation.peers.eventually import eventually
from .world import World, open_world

FORKS = 70


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "t.db") as made:
        yield made


async def torn_room(world: World, *, may_speak: bool) -> int:
    """A room with many ends that another server made; with @alice, or with @bob, who may not speak."""
    room = await world.create_room("@alice:here", "11")
    await world.send(room, "@alice:here", "m.room.join_rules", {"join_rule": "public"}, state_key="")
    join = {"membership": "join", "displayname": "B", "reason": "Curious"}
    await world.send(room, "@bob:here", "m.room.member", join, state_key="@bob:here")
    await world.join_from(await world.second_server(room), room, "@carol:there")
    levels = {"users": {"@alice:here": 100, "@carol:there": 50}, "events_default": 50}
    await world.send(room, "@alice:here", "m.room.power_levels", levels, state_key="")
    leaving = "@bob:here" if may_speak else "@alice:here"
    await world.send(room, leaving, "m.room.member", {"membership": "leave"}, state_key=leaving)
    base = world.snapshot(room)
    for number in range(FORKS):
        content = {"body": str(number)}
        await world.receive("there", world.remote_event("there", base, "@carol:there", "m.room.message", content))
    return room


async def joined_by(world: World, room: int) -> list[StoredEvent]:
    """Have it looked at; what was sent."""
    before = world.snapshot(room).room
    many_ends = ManyEnds(world.db, world.pipeline, jitter=lambda: 0.0)
    many_ends.look_at(room)
    many_ends.look_at(room)  # once is enough

    async def is_done() -> bool:
        return not many_ends._timers

    await eventually(is_done, seconds=20)
    await many_ends.close()
    after = world.snapshot(room).room

    def step(tx: Any) -> list[StoredEvent]:
        sql = "SELECT nid FROM events WHERE room = ? AND place > ?"
        return list(events.get_many(tx, [nid for (nid,) in tx.rows(sql, (room, before.last_event))]).values())

    assert len(before.extremities) == FORKS
    assert len(after.extremities) <= MAX_ENDS
    return world.db.glance(step)


async def test_empty_events_join_the_ends_of_a_room(world: World) -> None:
    sent = await joined_by(world, await torn_room(world, may_speak=True))
    assert [(stored.event.type, stored.event.sender, stored.event.content) for stored in sent] == [
        (TYPE, "@alice:here", {})
    ] * 3  # each takes twenty ends and leaves one, itself


async def test_where_nobody_here_may_speak_a_membership_is_said_again(world: World) -> None:
    sent = await joined_by(world, await torn_room(world, may_speak=False))
    assert [(stored.event.key, stored.event.content) for stored in sent] == [
        (("m.room.member", "@bob:here"), {"membership": "join", "displayname": "B"})
    ] * 3


async def test_few_ends_are_left_alone(world: World) -> None:
    room = await world.create_room("@alice:here")
    before = world.snapshot(room).room
    many_ends = ManyEnds(world.db, world.pipeline)
    many_ends.look_at(room)
    assert not many_ends._timers
    assert world.snapshot(room).room == before
