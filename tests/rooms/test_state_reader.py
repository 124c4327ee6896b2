"""Reading the state of rooms with many members."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.rooms.world import World, open_world
from tinyserver.accounts.requester import Requester
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.long_list import BATCH, LongList
from tinyserver.rooms.partial_state import PartialRooms
from tinyserver.rooms.state_reader import StateReader
from tinyserver.rooms.tokens import pagination_token
from tinyserver.storage import names, rooms

ALICE = "@alice:here"
MEMBERS = 2 * BATCH + 20


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "test.db") as opened:
        yield opened


async def crowded_room(world: World) -> str:
    room = await world.create_room(ALICE)
    await world.send(room, ALICE, "m.room.join_rules", {"join_rule": "public"}, state_key="")

    def step(tx: Any) -> str:
        for number in range(MEMBERS - 1):
            user = f"@user{number}:here"
            content = {"membership": "join", "displayname": f"User {number}"}
            world.pipeline.send(tx, room, EventDraft("m.room.member", user, content, state_key=user))
        return rooms.get(tx, room).room_id

    return await world.db.write(step)


async def whole(items: LongList) -> list[bytes]:
    return [*items.first, *[text async for batch in items.rest() for text in batch]]


async def test_many_members_come_in_batches_and_whole(world: World) -> None:
    room_id = await crowded_room(world)
    alice = Requester(ALICE, world.nid(ALICE))
    reader = StateReader(world.db, world.clock, PartialRooms(world.db))

    listed = await reader.members(alice, room_id, membership="join")
    assert listed.is_long
    assert len(listed.first) == BATCH
    found = [orjson.loads(text)["state_key"] for text in await whole(listed)]
    assert len(found) == len(set(found)) == MEMBERS

    joined = orjson.loads(b"{" + b",".join(await whole(await reader.joined_members(alice, room_id))) + b"}")
    assert len(joined) == MEMBERS
    assert joined["@user7:here"] == {"display_name": "User 7"}
    assert joined[ALICE] == {}

    state = await whole(await reader.state(alice, room_id))
    assert len(state) == MEMBERS + 3


async def test_members_of_the_past(world: World) -> None:
    room_id = await crowded_room(world)
    alice = Requester(ALICE, world.nid(ALICE))
    reader = StateReader(world.db, world.clock, PartialRooms(world.db))
    then = world.db.glance(lambda tx: rooms.find(tx, room_id))
    assert then is not None
    user = "@user3:here"
    await world.send(then.nid, user, "m.room.member", {"membership": "leave"}, state_key=user)

    async def joined(**when: str) -> int:
        return len(await whole(await reader.members(alice, room_id, membership="join", **when)))

    assert await joined() == MEMBERS - 1
    assert await joined(at=pagination_token(then.last_event)) == MEMBERS
    assert await joined(at=pagination_token(then.last_event - 10)) == MEMBERS - 10
    gone = Requester(user, world.db.glance(lambda tx: names.find(tx, user)) or 0)
    await world.send(then.nid, ALICE, "m.room.member", {"membership": "ban"}, state_key="@user4:here")
    listed = await whole(await reader.members(gone, room_id, membership="join"))
    assert len(listed) == MEMBERS - 1  # as it was when they left
