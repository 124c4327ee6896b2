"""The path of events: local ones, forks, remote ones through the same door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.rooms.world import World, open_world
from tinyserver.protocol.errors import Forbidden
from tinyserver.protocol.room_versions import ROOM_VERSIONS
from tinyserver.rooms.ancestors import MissingAncestors
from tinyserver.rooms.pipeline import Outcome
from tinyserver.storage import events, memberships, room_state, rooms
from tinyserver.storage.memberships import Membership


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "test.db") as opened:
        yield opened


@pytest.mark.parametrize("version", sorted(ROOM_VERSIONS))
async def test_room_of_each_version_takes_messages_and_members(world: World, version: str) -> None:
    room = await world.create_room("@alice:here", version)
    await world.send(room, "@alice:here", "m.room.member", {"membership": "invite"}, state_key="@bob:here")
    await world.send(room, "@bob:here", "m.room.member", {"membership": "join"}, state_key="@bob:here")
    message = await world.send(room, "@bob:here", "m.room.message", {"body": "hello"})
    now = world.db.glance(lambda tx: rooms.get(tx, room))
    assert (now.joined, now.invited) == (2, 0)
    assert now.extremities == (message.nid,)
    again = await world.db.read(lambda tx: events.by_id(tx, message.event_id))
    assert again is not None
    assert again.event.pdu == message.event.pdu


async def test_refused_event_leaves_no_trace(world: World) -> None:
    room = await world.create_room("@alice:here", "12")
    before = world.db.glance(lambda tx: rooms.get(tx, room))
    with pytest.raises(Forbidden):
        await world.send(room, "@mallory:here", "m.room.message", {"body": "x"})
    assert world.db.glance(lambda tx: rooms.get(tx, room)) == before


async def test_transaction_id_sends_once(world: World) -> None:
    room = await world.create_room("@alice:here", "12")
    first = await world.send(room, "@alice:here", "m.room.message", {"body": "x"}, device=7, txn_id="t1")
    second = await world.send(room, "@alice:here", "m.room.message", {"body": "x"}, device=7, txn_id="t1")
    other_device = await world.send(room, "@alice:here", "m.room.message", {"body": "x"}, device=8, txn_id="t1")
    assert first.event_id == second.event_id != other_device.event_id


@pytest.mark.parametrize("version", ["1", "2", "6", "10", "12"])
async def test_fork_is_resolved_and_joined_by_the_next_event(world: World, version: str) -> None:
    """Two servers change the topic at the same time; a third event follows both."""
    room = await world.create_room("@alice:here", version)
    await world.send(room, "@alice:here", "m.room.join_rules", {"join_rule": "public"}, state_key="")
    other = await world.second_server(room)
    await world.join_from(other, room, "@bob:there")
    await world.send(
        room,
        "@alice:here",
        "m.room.power_levels",
        {"users": world.levels(version, {"@alice:here": 100, "@bob:there": 50})},
        state_key="",
    )
    base = world.snapshot(room)
    ours = await world.send(room, "@alice:here", "m.room.topic", {"topic": "ours"}, state_key="")
    theirs = world.remote_event(other, base, "@bob:there", "m.room.topic", {"topic": "theirs"}, state_key="")
    received = await world.receive(other, theirs)
    assert received.outcome is Outcome.ACCEPTED
    forked = world.db.glance(lambda tx: rooms.get(tx, room))
    assert set(forked.extremities) == {ours.nid, received.stored.nid}
    topic = world.db.glance(lambda tx: room_state.event_at(tx, forked.state, "m.room.topic"))
    assert topic is not None
    assert topic.nid in (ours.nid, received.stored.nid)
    last = await world.send(room, "@alice:here", "m.room.message", {"body": "both"})
    joined = world.db.glance(lambda tx: rooms.get(tx, room))
    assert joined.extremities == (last.nid,)
    assert sorted(last.event.prev_event_ids) == sorted([ours.event_id, received.stored.event_id])
    assert joined.state == forked.state


async def test_event_of_a_banned_user_is_soft_failed(world: World) -> None:
    """Allowed where it was sent, but not by the current state: stored, not shown, no extremity."""
    room = await world.create_room("@alice:here", "12")
    await world.send(room, "@alice:here", "m.room.join_rules", {"join_rule": "public"}, state_key="")
    other = await world.second_server(room)
    await world.join_from(other, room, "@bob:there")
    base = world.snapshot(room)
    ban = await world.send(room, "@alice:here", "m.room.member", {"membership": "ban"}, state_key="@bob:there")
    late = world.remote_event(other, base, "@bob:there", "m.room.message", {"body": "still here"})
    received = await world.receive(other, late)
    assert received.outcome is Outcome.SOFT_FAILED
    assert received.stored.place is None
    assert world.db.glance(lambda tx: rooms.get(tx, room)).extremities == (ban.nid,)


async def test_unauthorised_event_is_rejected_and_what_builds_on_it_too(world: World) -> None:
    room = await world.create_room("@alice:here", "12")
    await world.send(room, "@alice:here", "m.room.join_rules", {"join_rule": "public"}, state_key="")
    other = await world.second_server(room)
    await world.join_from(other, room, "@bob:there")
    base = world.snapshot(room)
    coup = world.remote_event(
        other, base, "@bob:there", "m.room.power_levels", {"users": {"@bob:there": 100}}, state_key=""
    )
    received = await world.receive(other, coup)
    assert received.outcome is Outcome.REJECTED
    state = world.db.glance(lambda tx: rooms.get(tx, room)).state
    assert state == base.room.state
    bob = world.nid("@bob:there")
    member = world.db.glance(lambda tx: memberships.get(tx, room, bob))
    assert member is not None
    assert member.membership is Membership.JOIN


async def test_event_with_unknown_parents_waits_for_them(world: World) -> None:
    room = await world.create_room("@alice:here", "12")
    await world.send(room, "@alice:here", "m.room.join_rules", {"join_rule": "public"}, state_key="")
    other = await world.second_server(room)
    await world.join_from(other, room, "@bob:there")
    base = world.snapshot(room)
    first = world.remote_event(other, base, "@bob:there", "m.room.message", {"body": "1"})
    second = world.remote_event(other, base.after(first), "@bob:there", "m.room.message", {"body": "2"})
    with pytest.raises(MissingAncestors):
        await world.receive(other, second)
    assert (await world.receive(other, first)).outcome is Outcome.ACCEPTED
    assert (await world.receive(other, second)).outcome is Outcome.ACCEPTED
    assert (await world.receive(other, second)).outcome is Outcome.KNOWN


async def test_parents_in_another_room_are_missing(world: World) -> None:
    room = await world.create_room("@alice:here", "10")
    await world.send(room, "@alice:here", "m.room.join_rules", {"join_rule": "public"}, state_key="")
    other = await world.second_server(room)
    await world.join_from(other, room, "@bob:there")
    elsewhere = await world.create_room("@alice:here", "10")
    base = replace(world.snapshot(room), parents=world.snapshot(room).parents + world.snapshot(elsewhere).parents)
    pdu = world.remote_event(other, base, "@bob:there", "m.room.message", {"body": "1"})
    with pytest.raises(MissingAncestors):
        await world.receive(other, pdu)


async def test_tampered_content_is_taken_redacted(world: World) -> None:
    room = await world.create_room("@alice:here", "12")
    await world.send(room, "@alice:here", "m.room.join_rules", {"join_rule": "public"}, state_key="")
    other = await world.second_server(room)
    await world.join_from(other, room, "@bob:there")
    pdu = world.remote_event(other, world.snapshot(room), "@bob:there", "m.room.message", {"body": "1"})
    received = await world.receive(other, {**pdu, "content": {"body": "changed on the way"}})
    assert received.outcome is Outcome.ACCEPTED
    assert received.stored.event.content == {}


async def test_redaction_before_its_event_applies_when_the_event_comes(world: World) -> None:
    room = await world.create_room("@alice:here", "12")
    await world.send(room, "@alice:here", "m.room.join_rules", {"join_rule": "public"}, state_key="")
    other = await world.second_server(room)
    await world.join_from(other, room, "@bob:there")
    base = world.snapshot(room)
    first = world.remote_event(other, base, "@bob:there", "m.room.message", {"body": "secret"})
    first_id = world.id_of(first, room)
    redaction = world.remote_event(other, base, "@bob:there", "m.room.redaction", {"redacts": first_id})
    await world.receive(other, redaction)
    await world.receive(other, first)
    stored = world.db.glance(lambda tx: events.by_id(tx, first_id))
    assert stored is not None
    assert stored.event.content == {}
    assert stored.redacted_by is not None
