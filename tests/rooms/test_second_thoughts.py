"""Events that were rejected by what a server told of the room, and are acceptable when more is known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tinyserver.protocol.event_hashes import add_content_hash, sign_event
from tinyserver.protocol.events import Event, parse_pdu
from tinyserver.rooms.ancestors import MissingAncestors
from tinyserver.rooms.outliers import store_outlier
from tinyserver.rooms.pipeline import Outcome, Received
from tinyserver.storage import events, room_state
from tinyserver.storage.stored_event import StoredEvent

from .world import Base, World, open_world

BOB, DAN = "@bob:there", "@dan:there"


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "t.db") as made:
        yield made


class Scene:
    """A room that Bob of another server is in: what he said, and then Dan's join, which came with a false state."""

    def __init__(self, world: World, room: int, base: Base) -> None:
        self.world, self.room = world, room
        self.missing = world.remote_event("there", base, BOB, "m.room.message", {"body": "before"})
        after = base.after(self.missing)
        self.join = self.event(after, DAN, "m.room.member", {"membership": "join"}, DAN)
        self.base = base.after(self.join.pdu)

    def event(self, base: Base, sender: str, kind: str, content: dict[str, Any], state_key: str | None = None) -> Event:
        pdu = self.world.remote_event("there", base, sender, kind, content, state_key=state_key)
        return parse_pdu(pdu, base.room.version)

    def citing(self, event: Event, *auth: Event) -> Event:
        """The same event with further auth events, signed again."""
        ids = [*event.auth_event_ids, *(each.event_id for each in auth)]
        pdu = add_content_hash({**event.pdu, "auth_events": ids})
        return parse_pdu(sign_event(pdu, event.version, "there", self.world.keys["there"]), event.version)

    async def told_falsely(self) -> Received:
        """Dan's join with a state in which nobody may join: without the join rules."""

        def step(tx: Any) -> Received:
            state = [
                stored.nid
                for stored in room_state.all_events(tx, self.base.room.state)
                if stored.event.type != "m.room.join_rules"
            ]
            return self.world.pipeline.admit(tx, self.room, self.join, state)

        return await self.world.db.write(step)

    async def admit(self, event: Event, **options: Any) -> Received:
        return await self.world.db.write(lambda tx: self.world.pipeline.admit(tx, self.room, event, **options))

    def stored(self, event: Event) -> StoredEvent:
        found = self.world.db.glance(lambda tx: events.by_id(tx, event.event_id))
        assert found is not None
        return found

    def member(self, user: str) -> str | None:
        """The event that says what a user is to the room now."""
        root = self.world.snapshot(self.room).room.state
        found = self.world.db.glance(lambda tx: room_state.event_at(tx, root, "m.room.member", user))
        return None if found is None else found.event_id


async def scene(world: World, version: str) -> Scene:
    room = await world.create_room("@alice:here", version)
    await world.send(room, "@alice:here", "m.room.join_rules", {"join_rule": "public"}, state_key="")
    await world.join_from(await world.second_server(room), room, BOB)
    made = Scene(world, room, world.snapshot(room))
    assert (await made.told_falsely()).outcome is Outcome.REJECTED
    return made


@pytest.mark.parametrize("version", ["1", "11", "12"])
async def test_what_follows_a_rejected_event_has_it_judged_again(world: World, version: str) -> None:
    made = await scene(world, version)
    await world.receive("there", made.missing)
    assert made.stored(made.join).rejected
    follower = made.event(made.base, BOB, "m.room.message", {"body": "Welcome"})
    assert (await made.admit(follower)).outcome is Outcome.ACCEPTED
    join = made.stored(made.join)
    assert not join.rejected
    assert join.place is not None
    assert made.member(DAN) == join.event_id
    assert made.stored(follower).state == world.snapshot(made.room).room.state


async def test_its_author_may_come_back_to_it_and_nobody_else(world: World) -> None:
    made = await scene(world, "11")
    await world.receive("there", made.missing)
    assert (await made.admit(made.join, anew=False)).outcome is Outcome.KNOWN
    assert made.member(DAN) is None
    assert (await made.admit(made.join)).outcome is Outcome.ACCEPTED
    assert made.member(DAN) == made.join.event_id


async def test_without_more_knowledge_it_stays_rejected(world: World) -> None:
    made = await scene(world, "11")
    with pytest.raises(MissingAncestors):  # who wants it judged again has to say what it follows
        await made.admit(made.join)
    assert (await made.told_falsely()).outcome is Outcome.KNOWN
    assert made.stored(made.join).rejected
    bad = made.event(world.snapshot(made.room), "@eve:there", "m.room.message", {"body": "I am not in here"})
    assert (await made.admit(bad)).outcome is Outcome.REJECTED
    assert (await made.admit(bad)).outcome is Outcome.KNOWN
    assert made.stored(bad).rejected


async def test_auth_events_that_were_rejected_for_it_are_accepted_with_it(world: World) -> None:
    made = await scene(world, "11")
    row = made.base.room

    content = {"membership": "join", "displayname": "D"}
    rename = made.citing(made.event(made.base, DAN, "m.room.member", content, DAN), made.join)
    await world.db.write(lambda tx: store_outlier(tx, row, rename))
    assert made.stored(rename).rejected
    await world.receive("there", made.missing)
    said = made.event(made.base, DAN, "m.room.message", {"body": "Hello"})
    assert (await made.admit(made.citing(said, rename))).outcome is Outcome.ACCEPTED
    assert not made.stored(rename).rejected
    assert not made.stored(made.join).rejected
