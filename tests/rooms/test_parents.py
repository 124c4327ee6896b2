"""Rooms with more ends than an event can name: each new event stands on those that it names, and all get their turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tinyserver.protocol.events import MAX_PREV_EVENTS
from tinyserver.rooms.pipeline import Outcome
from tinyserver.storage import events, rooms, state_trie
from tinyserver.storage.stored_event import StoredEvent

from .world import Base, World, open_world

NOTE = "org.example.note"


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "t.db") as made:
        yield made


async def room_of_two(world: World, version: str) -> int:
    room = await world.create_room("@alice:here", version)
    await world.send(room, "@alice:here", "m.room.join_rules", {"join_rule": "public"}, state_key="")
    levels = {"users": world.levels(version, {"@alice:here": 100, "@bob:there": 50})}
    await world.join_from(await world.second_server(room), room, "@bob:there")
    await world.send(room, "@alice:here", "m.room.power_levels", levels, state_key="")
    return room


async def fork(world: World, base: Base, count: int, kind: str = NOTE) -> list[str]:
    """So many events of another server that all follow the same; the event IDs."""
    made = []
    for number in range(count):
        pdu = world.remote_event("there", base, "@bob:there", kind, {"number": number}, state_key=str(number))
        made.append((await world.receive("there", pdu)).stored.event_id)
    return made


def ends(world: World, room: int) -> set[str]:
    def step(tx: Any) -> set[str]:
        return {stored.event_id for stored in events.get_many(tx, rooms.get(tx, room).extremities).values()}

    return world.db.glance(step)


def notes(world: World, stored: StoredEvent, kind: str = NOTE) -> set[str]:
    """The events of a type in the state after an event."""

    def step(tx: Any) -> set[str]:
        found = events.get_many(tx, [nid for _, nid in state_trie.items(tx, stored.state or 0)])
        return {each.event_id for each in found.values() if each.event.type == kind}

    return world.db.glance(step)


@pytest.mark.parametrize("version", ["1", "10", "12"])
async def test_an_event_stands_on_the_ends_that_it_names(world: World, version: str) -> None:
    room = await room_of_two(world, version)
    forks = await fork(world, world.snapshot(room), 30)
    first = await world.send(room, "@alice:here", "m.room.message", {"body": "1"})
    named = set(first.event.prev_event_ids)
    assert len(named) == MAX_PREV_EVENTS
    assert notes(world, first) == named  # and not those that it says nothing of
    assert ends(world, room) == {first.event_id, *forks} - named
    second = await world.send(room, "@alice:here", "m.room.message", {"body": "2"})
    assert ends(world, room) == {second.event_id}
    assert notes(world, second) == set(forks)


@pytest.mark.parametrize("version", ["10", "12"])
async def test_a_join_that_one_end_knows_is_among_those_that_are_named(world: World, version: str) -> None:
    room = await room_of_two(world, version)
    before = world.snapshot(room)
    await fork(world, before, 30, "org.example.older")
    await world.send(room, "@carol:here", "m.room.member", {"membership": "join"}, state_key="@carol:here")
    await fork(world, before, 30)
    for number in range(5):
        said = await world.send(room, "@carol:here", "m.room.message", {"body": str(number)})
    assert ends(world, room) == {said.event_id}
    assert len(notes(world, said)) == len(notes(world, said, "org.example.older")) == 30


async def test_the_oldest_ends_are_followed_while_new_ones_come(world: World) -> None:
    room = await room_of_two(world, "12")
    base = world.snapshot(room)
    waiting = set(await fork(world, base, 30))
    for round_ in range(2):
        await fork(world, base, 18, f"org.example.flood{round_}")
        await world.send(room, "@alice:here", "m.room.message", {"body": str(round_)})
    assert not ends(world, room) & waiting


@pytest.mark.parametrize("version", ["10", "12"])
async def test_other_servers_come_to_the_same_state(world: World, version: str, tmp_path: Path) -> None:
    room = await room_of_two(world, version)
    await fork(world, world.snapshot(room), 45)
    for number in range(4):
        await world.send(room, "@alice:here", NOTE, {"body": number}, state_key="shared")
    nids = world.db.glance(lambda tx: [nid for (nid,) in tx.rows("SELECT nid FROM events WHERE room = ?", (room,))])
    made = list(world.db.glance(lambda tx: events.get_many(tx, nids)).values())
    row = world.db.glance(lambda tx: rooms.get(tx, room))
    async with open_world(tmp_path / "other.db") as other:

        def step(tx: Any) -> list[Outcome]:
            there = rooms.create(tx, row.room_id, row.version)
            return [other.pipeline.admit(tx, there.nid, stored.event).outcome for stored in made]

        assert set(await other.db.write(step)) == {Outcome.ACCEPTED}
        for stored in made:
            taken = other.db.glance(lambda tx, event_id=stored.event_id: events.by_id(tx, event_id))
            assert notes(other, taken) == notes(world, stored)
