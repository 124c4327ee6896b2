"""Who sees which events of a room, and with how few look-ups."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.rooms.world import World, open_world
from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import Forbidden, NotFound
from tinyserver.protocol.filters import RoomEventFilter
from tinyserver.rooms.history import MessagesPage, MessagesRequest, RoomHistory
from tinyserver.rooms.visibility import open_view
from tinyserver.storage import accounts, names, room_directory, rooms, timeline_entries
from tinyserver.storage.database import Database

ALICE, BOB, CAROL = "@alice:here", "@bob:here", "@carol:here"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "test.db") as opened:
        yield opened


class Reading:
    """A room and what its readers get of it."""

    def __init__(self, world: World, room: int) -> None:
        self.world = world
        self.room = room
        self.room_id = world.db.glance(lambda tx: rooms.get(tx, room)).room_id
        self.history = RoomHistory(world.db, world.clock, IgnoredUsers())

    @classmethod
    async def make(cls, world: World, visibility: str | None = None, version: str = "12") -> Reading:
        reading = cls(world, await world.create_room(ALICE, version))
        await reading.state("m.room.join_rules", {"join_rule": "public"})
        if visibility is not None:
            await reading.visibility(visibility)
        return reading

    async def state(self, event_type: str, content: dict[str, Any]) -> str:
        return (await self.world.send(self.room, ALICE, event_type, content, state_key="")).event_id

    async def visibility(self, value: str) -> str:
        return await self.state("m.room.history_visibility", {"history_visibility": value})

    async def say(self, body: str, sender: str = ALICE) -> str:
        return (
            await self.world.send(self.room, sender, "m.room.message", {"msgtype": "m.text", "body": body})
        ).event_id

    async def member(self, user: str, membership: str, sender: str | None = None) -> str:
        content = {"membership": membership}
        return (await self.world.send(self.room, sender or user, "m.room.member", content, state_key=user)).event_id

    async def requester(self, user: str) -> Requester:
        nid = await self.world.db.write(lambda tx: names.intern(tx, user))
        return Requester(user, nid)

    async def page(self, user: str, **request: Any) -> MessagesPage:
        wanted = MessagesRequest(**{"backwards": True, "limit": 100, **request})
        return await self.history.messages(await self.requester(user), self.room_id, wanted)

    async def bodies(self, user: str, **request: Any) -> list[str]:
        """The messages that a user sees, oldest first; a redacted one is "(gone)"."""
        page = await self.page(user, **request)
        found = [orjson.loads(text) for text in page.chunk]
        shown = [event["content"].get("body", "(gone)") for event in found if event["type"] == "m.room.message"]
        return shown[::-1]

    async def sees(self, user: str, event_id: str) -> bool:
        try:
            await self.history.event(await self.requester(user), self.room_id, event_id)
        except NotFound:
            return False
        return True


# What a member sees who was invited after "1" and joined after "2", while "3" was said when in the room.
@pytest.mark.parametrize(
    ("visibility", "seen"),
    [
        (None, ["1", "2", "3"]),
        ("world_readable", ["1", "2", "3"]),
        ("shared", ["1", "2", "3"]),
        ("invited", ["2", "3"]),
        ("joined", ["3"]),
    ],
)
async def test_history_before_joining(world: World, visibility: str | None, seen: list[str]) -> None:
    reading = await Reading.make(world, visibility)
    await reading.say("1")
    await reading.member(BOB, "invite", ALICE)
    await reading.say("2")
    await reading.member(BOB, "join")
    await reading.say("3")
    assert await reading.bodies(BOB) == seen
    assert await reading.bodies(BOB, backwards=False) == seen[::-1]
    assert await reading.bodies(ALICE) == ["1", "2", "3"]


@pytest.mark.parametrize("visibility", ["shared", "invited", "joined"])
@pytest.mark.parametrize("how", ["leave", "ban"])
async def test_who_left_sees_up_to_the_leave(world: World, visibility: str, how: str) -> None:
    reading = await Reading.make(world, visibility)
    await reading.member(BOB, "join")
    await reading.say("while in")
    leave = await reading.member(BOB, how, BOB if how == "leave" else ALICE)
    late = await reading.say("after")
    assert await reading.bodies(BOB) == ["while in"]
    assert await reading.sees(BOB, leave)
    assert not await reading.sees(BOB, late)
    bob = await reading.requester(BOB)
    view = world.db.glance(lambda tx: open_view(tx, reading.room_id, bob))
    assert not view.is_member
    assert view.root != view.room.state or view.newest < view.room.last_event


async def test_between_two_stays(world: World) -> None:
    reading = await Reading.make(world, "joined")
    for number in range(2):
        await reading.member(BOB, "join")
        await reading.say(f"in {number}")
        await reading.member(BOB, "leave")
        await reading.say(f"out {number}")
    assert await reading.bodies(BOB) == ["in 0", "in 1"]
    await reading.visibility("shared")
    await reading.say("out, shared")
    assert await reading.bodies(BOB) == ["in 0", "in 1"]
    await reading.member(BOB, "join")
    assert await reading.bodies(BOB) == ["in 0", "in 1", "out, shared"]


async def test_invited_and_strangers_read_nothing(world: World) -> None:
    reading = await Reading.make(world, "invited")
    said = await reading.say("secret")
    await reading.member(BOB, "invite", ALICE)
    for user in (BOB, CAROL):
        with pytest.raises(Forbidden):
            await reading.page(user)
        assert not await reading.sees(user, said)


async def test_stranger_peeks_only_at_world_readable_parts(world: World) -> None:
    reading = await Reading.make(world, "shared")
    hidden = await reading.say("hidden")
    opening = await reading.visibility("world_readable")
    await reading.say("open")
    assert await reading.bodies(CAROL) == ["open"]
    assert await reading.sees(CAROL, opening)
    assert not await reading.sees(CAROL, hidden)
    closing = await reading.visibility("joined")
    with pytest.raises(Forbidden):
        await reading.page(CAROL)
    await reading.member(BOB, "join")
    assert await reading.sees(BOB, closing)


async def test_own_member_events_are_visible(world: World) -> None:
    reading = await Reading.make(world, "joined")
    await reading.member(BOB, "invite", ALICE)
    join = await reading.member(BOB, "join")
    leave = await reading.member(BOB, "leave")
    again = await reading.member(BOB, "join")
    assert [await reading.sees(BOB, event_id) for event_id in (join, leave, again)] == [True, True, True]


async def test_erased_user_is_redacted_for_who_came_later(world: World) -> None:
    reading = await Reading.make(world, "shared")
    await world.db.write(lambda tx: accounts.add(tx, BOB, None, 0))
    await reading.member(BOB, "join")
    await reading.say("from alice")
    await reading.say("from bob", BOB)
    await reading.member(BOB, "leave")
    bob = world.nid(BOB)
    await world.db.write(lambda tx: accounts.deactivate(tx, bob, erase=True))
    await reading.member(CAROL, "join")
    assert await reading.bodies(ALICE) == ["from alice", "from bob"]
    assert await reading.bodies(BOB) == ["from alice", "from bob"]
    assert await reading.bodies(CAROL) == ["from alice", "(gone)"]


async def test_erased_user_stays_readable_for_who_was_there_at_the_end(world: World) -> None:
    reading = await Reading.make(world, "shared")
    await world.db.write(lambda tx: accounts.add(tx, BOB, None, 0))
    await reading.member(BOB, "join")
    await reading.say("from bob", BOB)
    await reading.member(CAROL, "join")
    await reading.member(BOB, "leave")
    bob = world.nid(BOB)
    await world.db.write(lambda tx: accounts.deactivate(tx, bob, erase=True))
    assert await reading.bodies(CAROL) == ["from bob"]


async def test_pages_meet_without_gap_or_overlap(world: World) -> None:
    reading = await Reading.make(world)
    for number in range(23):
        await reading.say(str(number))
    for backwards in (True, False):
        seen: list[str] = []
        token: str | None = None
        while True:
            page = await reading.page(ALICE, backwards=backwards, limit=5, start=token)
            seen += [orjson.loads(text)["event_id"] for text in page.chunk]
            token = page.end
            if token is None:
                break
        assert len(seen) == len(set(seen)) == 4 + 23


async def test_sparse_filter_finds_the_needles(world: World) -> None:
    reading = await Reading.make(world)
    first = await world.send(reading.room, ALICE, "org.example.needle", {})
    for number in range(30):
        await reading.say(str(number))
    wanted = RoomEventFilter(types=["org.example.*"])
    page = await reading.page(ALICE, limit=1, filter=wanted)
    assert [orjson.loads(text)["event_id"] for text in page.chunk] == [first.event_id]


class Counting:
    """Counts the statements of one step."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.statements: list[str] = []
        self._connection = connection

    def __enter__(self) -> list[str]:
        self._connection.set_trace_callback(self.statements.append)
        return self.statements

    def __exit__(self, *exception: object) -> None:
        self._connection.set_trace_callback(None)


async def test_filtering_a_linear_history_costs_a_handful_of_look_ups(world: World) -> None:
    reading = await Reading.make(world, "joined")
    await reading.member(BOB, "join")
    for number in range(100):
        await reading.say(str(number))
    await reading.member(BOB, "leave")
    requester = await reading.requester(BOB)

    def step(tx: Any) -> int:
        view = open_view(tx, reading.room_id, requester)
        entries = timeline_entries.before(tx, reading.room, view.newest, 200, after=-1)
        with Counting(tx.connection) as statements:
            seen = sum(view.sight.sees_entry(entry) for entry in entries)
        assert len(statements) < 30, statements
        return seen

    assert world.db.glance(step) == 107


def plan(db: Database, sql: str, parameters: tuple[Any, ...]) -> str:
    return db.glance(lambda tx: "; ".join(row[3] for row in tx.rows(f"EXPLAIN QUERY PLAN {sql}", parameters)))


async def test_hot_queries_use_their_indexes(world: World) -> None:
    reading = await Reading.make(world)
    await world.db.write(lambda tx: rooms.set_public(tx, reading.room, True))
    statements: list[tuple[str, tuple[Any, ...]]] = []

    def step(tx: Any) -> None:
        execute, fetch = tx.connection.execute, []

        class Spy:
            def execute(self, sql: str, parameters: Any = ()) -> Any:
                fetch.append((sql, tuple(parameters)))
                return execute(sql, parameters)

        real, tx.connection = tx.connection, Spy()
        try:
            timeline_entries.before(tx, reading.room, 2**40, 10, after=-1)
            timeline_entries.after(tx, reading.room, -1, 10, until=2**40)
            assert len(list(room_directory.after(tx, None))) == 1
            assert list(room_directory.before(tx, (2**40, 0))) == []
            room_directory.count(tx)
        finally:
            tx.connection = real
        statements.extend(fetch)

    world.db.glance(step)
    assert len(statements) >= 6
    for sql, parameters in statements:
        told = plan(world.db, sql, parameters)
        assert "SEARCH" in told or "USING COVERING INDEX rooms_public" in told, (sql, told)
        assert "TEMP B-TREE" not in told, (sql, told)
