"""Invites of other servers for users of this one."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest
import pytest_asyncio

from tinyserver.federation.participation.invites import InboundInvites, OutboundInvites
from tinyserver.protocol.errors import Forbidden, IncompatibleRoomVersion, InvalidParam, InviteBlocked, NotFound
from tinyserver.protocol.event_hashes import add_content_hash, event_id_of, sign_event
from tinyserver.protocol.room_versions import ROOM_VERSIONS
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.membership import RoomMembership
from tinyserver.rooms.partial_state import PartialRooms
from tinyserver.storage import account_data, accounts, events, memberships, names, rooms
from tinyserver.storage.memberships import Membership
from tinyserver.storage.transaction import WriteTransaction

from .house import ALICE, US, open_house
from .network import Reply, Seen, json_reply
from .world import Peer, World

BOB = "@bob:tiny.test"
NAME = {"type": "m.room.name", "state_key": "", "sender": "@a:b", "content": {"name": "Secret"}}
UNSIGNED = ("hashes", "signatures")
"""What is changed after the event has been signed."""


@pytest_asyncio.fixture
async def invites(world: World) -> InboundInvites:
    await world.db.write(lambda tx: accounts.add(tx, BOB, None, created=0))
    return InboundInvites(world.db, world.key_ring, "tiny.test", world.identity.key)


def invite(peer: Peer, **changes: Any) -> tuple[str, dict[str, Any]]:
    """(event ID, PDU) of an invite to a room of version 11."""
    pdu = {
        "type": "m.room.member",
        "room_id": f"!room:{peer.name}",
        "sender": f"@alice:{peer.name}",
        "state_key": BOB,
        "content": {"membership": "invite"},
        "origin_server_ts": 1,
        "depth": 5,
        "prev_events": ["$p"],
        "auth_events": ["$a"],
        **changes,
    }
    signed = sign_event(add_content_hash(pdu), ROOM_VERSIONS["11"], peer.name, peer.key)
    return event_id_of(signed, ROOM_VERSIONS["11"]), signed


async def test_an_invite_is_kept_with_what_identifies_the_room(world: World, invites: InboundInvites) -> None:
    peer = await world.peer()
    event_id, pdu = invite(peer)
    signed = await invites.receive(peer.name, pdu["room_id"], event_id, "11", pdu, [NAME, "junk"])
    assert set(signed["signatures"]) == {peer.name, "tiny.test"}

    def step(tx: Any) -> Any:
        room, user = rooms.find(tx, pdu["room_id"]), names.find(tx, BOB)
        assert room is not None
        assert user is not None
        return memberships.get(tx, room.nid, user), events.by_id(tx, event_id)

    row, by_id = world.db.glance(step)
    assert row.membership is Membership.INVITE
    assert by_id is None  # the room's own copy comes with a join
    kept = world.db.glance(lambda tx: events.get(tx, row.event))
    assert kept.event.pdu["unsigned"] == {"invite_room_state": [NAME]}
    await invites.receive(peer.name, pdu["room_id"], event_id, "11", pdu, [])
    assert world.db.glance(step)[0] == row


@pytest.mark.parametrize(
    ("changes", "version", "error"),
    [
        ({}, "99", IncompatibleRoomVersion),
        ({"state_key": "@nobody:tiny.test"}, "11", NotFound),
        ({"state_key": "@bob:elsewhere.test"}, "11", InvalidParam),
        ({"sender": "@alice:elsewhere.test"}, "11", InvalidParam),
        ({"content": {"membership": "join"}}, "11", InvalidParam),
        ({"hashes": {"sha256": "AAAA"}}, "11", InvalidParam),
        ({"signatures": {}}, "11", Forbidden),
    ],
)
async def test_what_is_refused(
    world: World, invites: InboundInvites, changes: dict[str, Any], version: str, error: type[Exception]
) -> None:
    peer = await world.peer()
    event_id, pdu = invite(peer, **{name: value for name, value in changes.items() if name not in UNSIGNED})
    pdu |= {name: value for name, value in changes.items() if name in UNSIGNED}
    if "hashes" in changes:
        event_id = event_id_of(pdu, ROOM_VERSIONS["11"])
    with pytest.raises(error):
        await invites.receive(peer.name, pdu["room_id"], event_id, version, pdu, [])
    assert world.db.glance(lambda tx: rooms.find(tx, pdu["room_id"])) is None


async def test_who_wants_no_invites_gets_none(world: World, invites: InboundInvites) -> None:
    peer = await world.peer()
    event_id, pdu = invite(peer)

    async def say(config: bytes) -> None:
        def step(tx: WriteTransaction) -> None:
            account_data.put(tx, names.intern(tx, BOB), None, "m.invite_permission_config", config)

        await world.db.write(step)

    await say(b'{"default_action":"block"}')
    with pytest.raises(InviteBlocked) as refused:
        await invites.receive(peer.name, pdu["room_id"], event_id, "11", pdu, [])
    assert (refused.value.status, refused.value.errcode) == (403, "M_INVITE_BLOCKED")
    assert world.db.glance(lambda tx: rooms.find(tx, pdu["room_id"])) is None
    await say(b"{}")
    await invites.receive(peer.name, pdu["room_id"], event_id, "11", pdu, [])


async def test_an_invite_that_is_no_longer_allowed_when_it_comes_back_signed_leaves_no_trace(world: World) -> None:
    """Nobody but we would ever know of such an event."""
    carol = f"@carol:{US}"
    async with open_house(world) as house:
        room = await house.public_room()
        await house.rooms.send(room, carol, "m.room.member", {"membership": "join"}, state_key=carol)
        made: list[str] = []

        async def sign(seen: Seen) -> Reply:
            event = json.loads(seen.body)["event"]
            made.append(unquote(seen.target.rpartition("/")[2]))
            levels = {"users": {ALICE: 100}, "invite": 50}
            await house.rooms.send(room, ALICE, "m.room.power_levels", levels, state_key="")
            return json_reply({"event": sign_event(event, ROOM_VERSIONS["11"], peer.name, peer.key)})

        peer = await world.peer(handler=sign)
        outbound = OutboundInvites(world.db, world.client, world.key_ring)
        membership = RoomMembership(world.db, house.pipeline, US, PartialRooms(world.db), None, outbound)
        bob = f"@bob:{peer.name}"
        draft = EventDraft("m.room.member", carol, {"membership": "invite"}, state_key=bob)
        with pytest.raises(Forbidden):
            await membership.invite_elsewhere(world.db.glance(lambda tx: rooms.get(tx, room)), draft)
        assert len(made) == 1
        assert world.db.glance(lambda tx: events.by_id(tx, made[0])) is None


async def test_a_server_that_the_room_shuts_out_invites_nobody(world: World) -> None:
    await world.db.write(lambda tx: accounts.add(tx, BOB, None, created=0))
    async with open_house(world) as house:
        inbound = InboundInvites(house.db, world.key_ring, US, world.identity.key)
        peer = await world.peer()
        room = await house.public_room("11")
        await house.join(peer, room)
        base = house.rooms.snapshot(room)
        sender = f"@bob:{peer.name}"
        pdu = house.rooms.remote_event(
            peer.name, base, sender, "m.room.member", {"membership": "invite"}, state_key=BOB
        )
        event_id = house.rooms.id_of(pdu, room)
        await inbound.receive(peer.name, house.room_id(room), event_id, "11", pdu, [])
        acl = {"allow": ["*"], "deny": ["127.0.0.1"]}
        await house.rooms.send(room, ALICE, "m.room.server_acl", acl, state_key="")
        with pytest.raises(Forbidden):
            await inbound.receive(peer.name, house.room_id(room), event_id, "11", pdu, [])
