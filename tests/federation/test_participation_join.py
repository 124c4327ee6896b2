"""Joining a room of another server, played by a script that signs what it says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import pytest
import pytest_asyncio

from tinyserver.federation.participation.event_budget import MAX_HELD, EventBudget
from tinyserver.federation.participation.joining import RemoteJoin
from tinyserver.federation.participation.member_lists import MemberLists
from tinyserver.federation.participation.member_requests import MemberRequests
from tinyserver.federation.participation.queries import RemoteQueries
from tinyserver.federation.participation.rooms import FederatedRooms
from tinyserver.federation.participation.states import RemoteStates
from tinyserver.protocol.auth_rules import auth_keys_for
from tinyserver.protocol.errors import Forbidden, MatrixError
from tinyserver.push.notifications import NotificationMarks
from tinyserver.push.rules import PushRules
from tinyserver.rooms.alone import Alone
from tinyserver.rooms.append import Appender
from tinyserver.rooms.completion import Completion
from tinyserver.rooms.drafts import EventSigner
from tinyserver.rooms.partial_state import PartialRooms
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.storage import events, room_state, rooms
from tinyserver.storage.database import Database

from ..rooms.world import NO_POLICIES
from ..rooms.world import World as Rooms
from .network import Reply, Seen, json_reply
from .world import Peer, World

US = "tiny.test"
BOB = "@bob:tiny.test"


class Resident:
    """A server with a room of Alice's; `bend` changes what it answers to send_join, `refuse` is an error instead."""

    peer: Peer
    rooms: Rooms
    room: int

    def __init__(self) -> None:
        self.bend: Any = lambda answer: answer
        self.refuse: str | None = None

    async def make_room(self, version: str) -> str:
        alice = f"@alice:{self.peer.name}"
        self.room = await self.rooms.create_room(alice, version)
        await self.rooms.send(self.room, alice, "m.room.join_rules", {"join_rule": "public"}, state_key="")
        await self.rooms.send(self.room, alice, "m.room.name", {"name": "Theirs"}, state_key="")
        await self.rooms.send(self.room, alice, "m.room.message", {"body": "before"})
        return self.rooms.db.glance(lambda tx: rooms.room_id(tx, self.room))

    async def handle(self, seen: Seen) -> Reply:
        segments = [unquote(part) for part in seen.target.partition("?")[0].split("/")]
        if self.refuse is not None:
            return json_reply({"errcode": self.refuse, "error": "No"}, 403)
        if "make_join" in segments:
            return json_reply(self.rooms.db.glance(lambda tx: self._template(tx, segments[-1])))
        state = self.rooms.db.glance(self._state)
        answer = {"state": state, "auth_chain": state[:2], "event": json.loads(seen.body), "origin": self.peer.name}
        return json_reply(self.bend(answer))

    def _template(self, tx: Any, user_id: str) -> dict[str, Any]:
        row = rooms.get(tx, self.room)
        keys = auth_keys_for(row.version, "m.room.member", user_id, user_id, {"membership": "join"})
        auth = room_state.events_at(tx, row.state, keys).values()
        parents = events.get_many(tx, row.extremities).values()
        event = {
            "auth_events": [stored.event_id for stored in auth],
            "prev_events": [stored.event_id for stored in parents],
            "depth": 1 + max(stored.event.depth for stored in parents),
            "content": {"membership": "join"},
        }
        return {"room_version": row.version.identifier, "event": event}

    def _state(self, tx: Any) -> list[dict[str, Any]]:
        return [stored.event.pdu for stored in room_state.all_events(tx, rooms.get(tx, self.room).state)]


@pytest_asyncio.fixture
async def resident(world: World, tmp_path: Any) -> AsyncIterator[Resident]:
    made = Resident()
    made.peer = await world.peer(handler=made.handle)
    db = Database(tmp_path / "resident.db")
    db.start()
    alone = Alone(made.peer.name, made.peer.key)
    appender = Appender(made.peer.name, NotificationMarks(PushRules(db)))
    pipeline = EventPipeline(
        db, EventSigner(made.peer.name, made.peer.key), appender, world.clock, alone, alone, NO_POLICIES
    )
    made.rooms = Rooms(db, pipeline, {made.peer.name: made.peer.key}, world.clock)
    yield made
    await db.close()


@pytest.fixture
def budget() -> EventBudget:
    return EventBudget()


@pytest.fixture
def elsewhere(world: World, tmp_path: Any, budget: EventBudget) -> FederatedRooms:
    key, db = world.identity.key, world.db
    alone = Alone(US, key)
    appender = Appender(US, NotificationMarks(PushRules(db)))
    pipeline = EventPipeline(db, EventSigner(US, key), appender, world.clock, world.key_ring, alone, NO_POLICIES)
    requests = MemberRequests(world.client, US, key, world.clock)
    partial = PartialRooms(db)
    states = RemoteStates(db, world.client, world.key_ring, tmp_path, budget)
    lists = MemberLists(db, states, partial, Completion(appender, partial))
    joining = RemoteJoin(db, pipeline, world.client, requests, world.key_ring, tmp_path, budget, partial, lists)
    queries = RemoteQueries(world.client, world.time.monotonic)
    return FederatedRooms(db, world.client, requests, joining, queries, US)


def state_ids(db: Database, room_id: str) -> set[str]:
    def step(tx: Any) -> set[str]:
        row = rooms.find(tx, room_id)
        return set() if row is None else {stored.event_id for stored in room_state.all_events(tx, row.state)}

    return db.glance(step)


@pytest.mark.parametrize("version", ["3", "6", "11", "12"])
async def test_the_state_is_the_same_on_both_sides(
    world: World, resident: Resident, elsewhere: FederatedRooms, version: str
) -> None:
    room_id = await resident.make_room(version)
    await elsewhere.join(BOB, room_id, ["127.0.0.1:1", resident.peer.name], {"reason": "curious"})
    ours, theirs = state_ids(world.db, room_id), state_ids(resident.rooms.db, room_id)
    assert theirs < ours
    assert len(ours - theirs) == 1
    room = world.db.glance(lambda tx: rooms.find(tx, room_id))
    assert room is not None
    assert (room.joined, room.invited, len(room.extremities)) == (2, 0, 1)
    bob = world.db.glance(lambda tx: room_state.event_at(tx, room.state, "m.room.member", BOB))
    assert bob is not None
    assert bob.event.content["reason"] == "curious"


def without_create(answer: dict[str, Any]) -> dict[str, Any]:
    create = [pdu for pdu in answer["state"] if pdu["type"] != "m.room.create"]
    return {**answer, "state": create, "auth_chain": []}


def forged_rules(answer: dict[str, Any]) -> dict[str, Any]:
    """The join rules with a signature that is none: without them nobody may come in."""
    state = [
        {**pdu, "signatures": {name: dict.fromkeys(keys, "A" * 86) for name, keys in pdu["signatures"].items()}}
        if pdu["type"] == "m.room.join_rules"
        else pdu
        for pdu in answer["state"]
    ]
    return {**answer, "state": state, "auth_chain": []}


@pytest.mark.parametrize("bend", [without_create, forged_rules, lambda answer: {}, lambda answer: {"state": []}])
async def test_failure_leaves_nothing_behind(
    world: World, resident: Resident, elsewhere: FederatedRooms, bend: Any
) -> None:
    room_id = await resident.make_room("11")
    resident.bend = bend
    with pytest.raises(MatrixError):
        await elsewhere.join(BOB, room_id, [resident.peer.name], {})
    assert world.db.glance(lambda tx: rooms.find(tx, room_id)) is None


async def test_no_more_events_are_taken_in_than_there_is_room_for(
    world: World, resident: Resident, elsewhere: FederatedRooms, budget: EventBudget
) -> None:
    room_id = await resident.make_room("11")
    budget.hold(MAX_HELD - 3)  # by others
    with pytest.raises(MatrixError):
        await elsewhere.join(BOB, room_id, [resident.peer.name], {})
    assert world.db.glance(lambda tx: rooms.find(tx, room_id)) is None
    budget.hold(3 - MAX_HELD)
    await elsewhere.join(BOB, room_id, [resident.peer.name], {})
    budget.hold(MAX_HELD)  # all of it was given back


async def test_the_refusal_is_told(world: World, resident: Resident, elsewhere: FederatedRooms) -> None:
    room_id = await resident.make_room("11")
    resident.refuse = "M_FORBIDDEN"
    with pytest.raises(Forbidden, match="No"):
        await elsewhere.join(BOB, room_id, [resident.peer.name, "127.0.0.1:1"], {})
    assert world.db.glance(lambda tx: rooms.find(tx, room_id)) is None
