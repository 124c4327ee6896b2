"""Users of other servers join, knock and leave through this one, over real signed HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tinyserver.protocol.event_hashes import add_content_hash, sign_event, verify_event_signature
from tinyserver.protocol.events import MAX_PREV_EVENTS
from tinyserver.protocol.room_versions import ROOM_VERSIONS
from tinyserver.storage import memberships, names, room_state
from tinyserver.storage.memberships import Membership
from tinyserver.storage.stored_event import Flag

from .serving import ALICE, CAROL, US, V1, V2, Site, open_site, refused
from .world import Peer, World


@pytest_asyncio.fixture
async def site(world: World) -> AsyncIterator[Site]:
    async with open_site(world) as made:
        yield made


@pytest_asyncio.fixture
async def peer(world: World) -> Peer:
    return await world.peer()


def membership(site: Site, room: int, user: str) -> Membership | None:
    def step(tx: Any) -> Membership | None:
        nid = names.find(tx, user)
        row = None if nid is None else memberships.get(tx, room, nid)
        return None if row is None else row.membership

    return site.db.glance(step)


@pytest.mark.parametrize("version", list(ROOM_VERSIONS))
async def test_joining_in_every_room_version(site: Site, peer: Peer, version: str) -> None:
    room = await site.public_room(version)
    user = f"@bob:{peer.name}"
    made = await site.make(peer, "join", room, user)
    template = made.json()["event"]
    assert made.json()["room_version"] == version
    assert (template["type"], template["sender"], template["state_key"]) == ("m.room.member", user, user)
    assert (template["room_id"], template["content"]) == (site.room_id(room), {"membership": "join"})
    assert "hashes" not in template
    assert "signatures" not in template
    root = site.row(room).state
    before = {stored.event_id for stored in site.db.glance(lambda tx: list(room_state.all_events(tx, root)))}
    pdu = site.complete(peer, made)
    answer = await site.send(peer, "join", room, pdu)
    assert answer.status_code == 200, answer.text
    joined = answer.json()
    assert (joined["origin"], joined["members_omitted"]) == (US, False)
    assert set(site.ids(room, joined["state"])) == before
    assert joined["event"] == pdu
    known = before | set(site.ids(room, joined["auth_chain"]))
    for event in [*joined["state"], *joined["auth_chain"], joined["event"]]:
        named = [ref if isinstance(ref, str) else ref[0] for ref in event["auth_events"]]
        assert known.issuperset(named)
        server = event["sender"].partition(":")[2]
        key = peer.key if server == peer.name else site.world.identity.key
        verify_event_signature(event, ROOM_VERSIONS[version], server, key.key_id, key.verify_key_base64)
    assert membership(site, room, user) is Membership.JOIN
    assert site.stored(site.event_id(room, pdu)).flags == Flag.NONE


async def test_the_same_join_again(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    pdu = site.complete(peer, await site.make(peer, "join", room, f"@bob:{peer.name}"))
    first = (await site.send(peer, "join", room, pdu)).json()
    await site.say(room, "hello")
    second = (await site.send(peer, "join", room, pdu)).json()
    assert sorted(site.ids(room, first["state"])) == sorted(site.ids(room, second["state"]))


async def test_who_gets_no_template(site: Site, peer: Peer) -> None:
    room = await site.rooms.create_room(ALICE, "11")
    user = f"@bob:{peer.name}"
    error = refused(await site.make(peer, "join", room, user, "1", "10"), 400, "M_INCOMPATIBLE_ROOM_VERSION")
    assert error["room_version"] == "11"
    path = f"{V1}/make_join/{site.quoted_id(room)}/{quote(user, safe='')}"
    refused(await site.get(peer, path), 400, "M_INCOMPATIBLE_ROOM_VERSION")
    refused(await site.make(peer, "join", room, user), 403, "M_FORBIDDEN")
    refused(await site.make(peer, "join", room, f"@bob:not-{peer.name}"), 403, "M_FORBIDDEN")
    refused(await site.make(peer, "join", room, "bob"), 400, "M_INVALID_PARAM")
    refused(await site.get(peer, f"{V1}/make_join/!nowhere:{US}/{quote(user, safe='')}"), 404, "M_NOT_FOUND")
    refused(await site.get(peer, f"{V1}/make_join/nonsense/{quote(user, safe='')}"), 404, "M_NOT_FOUND")
    await site.member(room, ALICE, user, "invite")
    assert (await site.make(peer, "join", room, user)).status_code == 200
    await site.member(room, ALICE, user, "ban")
    refused(await site.make(peer, "join", room, user), 403, "M_FORBIDDEN")
    await site.member(room, ALICE, user, "leave")
    await site.state(room, "m.room.join_rules", {"join_rule": "public"})
    assert (await site.make(peer, "join", room, user)).status_code == 200
    await site.member(room, ALICE, ALICE, "leave")
    refused(await site.make(peer, "join", room, user), 404, "M_NOT_FOUND")


async def test_a_server_that_is_shut_out(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    user = f"@bob:{peer.name}"
    made = {what: await site.make(peer, what, room, user) for what in ("join",)}
    pdu = site.complete(peer, made["join"])
    await site.state(room, "m.room.server_acl", {"allow": ["*"], "deny": ["127.0.0.1"]})
    refused(await site.make(peer, "join", room, user), 403, "M_FORBIDDEN")
    refused(await site.make(peer, "knock", room, user), 403, "M_FORBIDDEN")
    refused(await site.make(peer, "leave", room, user), 403, "M_FORBIDDEN")
    refused(await site.send(peer, "join", room, pdu), 403, "M_FORBIDDEN")
    refused(await site.send(peer, "leave", room, pdu), 403, "M_FORBIDDEN")
    refused(await site.send(peer, "knock", room, pdu), 403, "M_FORBIDDEN")


async def test_events_that_are_no_such_join(site: Site, peer: Peer, world: World) -> None:
    room = await site.public_room()
    other = await world.peer("other")
    user = f"@bob:{peer.name}"
    made = await site.make(peer, "join", room, user)
    path = f"{V2}/send_join/{site.quoted_id(room)}"
    good = site.complete(peer, made)
    for changes in (
        {"type": "m.room.message"},
        {"content": {"membership": "leave"}},
        {"content": {"membership": 7}},
        {"state_key": f"@carl:{peer.name}"},
        {"room_id": "!" + "A" * 43},
        {"prev_events": ["$" + "A" * 43]},
        {"auth_events": ["$" + "A" * 43]},
    ):
        refused(await site.send(peer, "join", room, site.complete(peer, made, **changes)), 400, "M_INVALID_PARAM")
    refused(await site.send(other, "join", room, good), 400, "M_INVALID_PARAM")
    refused(await site.request(peer, "PUT", f"{path}/$x", good), 400, "M_INVALID_PARAM")
    refused(await site.request(peer, "PUT", f"{path}/$x", {}), 400, "M_BAD_JSON")
    refused(await site.request(peer, "PUT", f"{path}/$x", {**good, "depth": "deep"}), 400, "M_BAD_JSON")
    forged = sign_event(add_content_hash(dict(made.json()["event"])), ROOM_VERSIONS["12"], peer.name, other.key)
    refused(await site.send(peer, "join", room, forged), 400, "M_INVALID_PARAM")
    bent = {**good, "content": {**good["content"], "displayname": "Robert"}}
    refused(await site.send(peer, "join", room, bent), 400, "M_INVALID_PARAM")
    await site.state(room, "m.room.join_rules", {"join_rule": "invite"})
    refused(await site.send(peer, "join", room, good), 403, "M_FORBIDDEN")
    assert membership(site, room, user) is None


async def test_a_state_without_members(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    for number in range(10):
        user = f"@user{number}:{US}"
        await site.member(room, user, user, "join")
    joined = await site.join(peer, room, query="?omit_members=true")
    assert joined["members_omitted"] is True
    assert joined["servers_in_room"] == [US]
    members = [event for event in joined["state"] if event["type"] == "m.room.member"]
    assert len(members) == 5  # the room is named after them
    state, chain = site.ids(room, joined["state"]), site.ids(room, joined["auth_chain"])
    assert not set(state) & set(chain)
    named = {name for event in [*joined["state"], *joined["auth_chain"]] for name in event["auth_events"]}
    assert named <= {*state, *chain}
    await site.state(room, "m.room.name", {"name": "Named"})
    joined = await site.join(peer, room, "ben", query="?omit_members=true")
    assert sorted(joined["servers_in_room"]) == sorted([US, peer.name])
    assert not [event for event in joined["state"] if event["type"] == "m.room.member"]


async def test_a_large_state_is_whole(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    for number in range(600):
        await site.rooms.send(room, ALICE, "org.test.part", {"n": number}, state_key=str(number))
    joined = await site.join(peer, room)
    assert {event["state_key"] for event in joined["state"] if event["type"] == "org.test.part"} == {
        str(number) for number in range(600)
    }


# -- restricted rooms


async def restricted_room(site: Site, *conditions: str) -> int:
    room = await site.rooms.create_room(ALICE, "11")
    allow = [{"type": "m.room_membership", "room_id": room_id} for room_id in conditions]
    await site.state(room, "m.room.join_rules", {"join_rule": "restricted", "allow": allow})
    return room


async def test_joining_a_restricted_room(site: Site, peer: Peer) -> None:
    club = await site.public_room()
    room = await restricted_room(site, site.room_id(club))
    user = f"@bob:{peer.name}"
    refused(await site.make(peer, "join", room, user), 403, "M_FORBIDDEN")
    await site.join(peer, club)
    made = await site.make(peer, "join", room, user)
    assert made.json()["event"]["content"] == {
        "membership": "join",
        "join_authorised_via_users_server": ALICE,
    }
    pdu = site.complete(peer, made)
    joined = (await site.send(peer, "join", room, pdu)).json()
    key = site.world.identity.key
    verify_event_signature(joined["event"], ROOM_VERSIONS["11"], US, key.key_id, key.verify_key_base64)
    verify_event_signature(joined["event"], ROOM_VERSIONS["11"], peer.name, peer.key.key_id, peer.key.verify_key_base64)
    assert membership(site, room, user) is Membership.JOIN


async def test_nobody_is_vouched_for_who_has_left_the_other_room(site: Site, peer: Peer) -> None:
    club = await site.public_room()
    room = await restricted_room(site, site.room_id(club))
    user = f"@bob:{peer.name}"
    await site.join(peer, club)
    pdu = site.complete(peer, await site.make(peer, "join", room, user))
    await site.member(club, ALICE, user, "leave")
    refused(await site.send(peer, "join", room, pdu), 403, "M_FORBIDDEN")
    assert membership(site, room, user) is None


async def test_an_invited_user_needs_nobody_to_vouch(site: Site, peer: Peer) -> None:
    room = await restricted_room(site)
    user = f"@bob:{peer.name}"
    refused(await site.make(peer, "join", room, user), 403, "M_FORBIDDEN")
    await site.member(room, ALICE, user, "invite")
    made = await site.make(peer, "join", room, user)
    assert made.json()["event"]["content"] == {"membership": "join"}


async def test_conditions_that_cannot_be_checked_here(site: Site, peer: Peer) -> None:
    room = await restricted_room(site, "!elsewhere:other.test")
    refused(await site.make(peer, "join", room, f"@bob:{peer.name}"), 400, "M_UNABLE_TO_AUTHORISE_JOIN")


async def test_a_room_that_everybody_here_has_left_tells_nothing(site: Site, peer: Peer) -> None:
    club = await site.public_room()
    room = await restricted_room(site, site.room_id(club))
    await site.join(peer, club)
    await site.member(club, ALICE, ALICE, "leave")
    refused(await site.make(peer, "join", room, f"@bob:{peer.name}"), 400, "M_UNABLE_TO_AUTHORISE_JOIN")


async def test_nobody_here_may_invite(site: Site, peer: Peer) -> None:
    club = await site.public_room()
    room = await restricted_room(site, site.room_id(club))
    await site.join(peer, club)
    await site.member(room, ALICE, CAROL, "invite")
    await site.member(room, CAROL, CAROL, "join")
    await site.state(room, "m.room.power_levels", {"users": {ALICE: 100}, "invite": 50})
    await site.member(room, ALICE, ALICE, "leave")
    refused(await site.make(peer, "join", room, f"@bob:{peer.name}"), 400, "M_UNABLE_TO_GRANT_JOIN")


# -- leaving and knocking


async def test_leaving(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    user = f"@bob:{peer.name}"
    refused(await site.make(peer, "leave", room, user), 403, "M_FORBIDDEN")
    await site.join(peer, room)
    made = await site.make(peer, "leave", room, user)
    assert made.json()["event"]["content"] == {"membership": "leave"}
    answer = await site.send(peer, "leave", room, site.complete(peer, made))
    assert (answer.status_code, answer.json()) == (200, {})
    assert membership(site, room, user) is Membership.LEAVE
    refused(await site.make(peer, "leave", room, user), 403, "M_FORBIDDEN")


async def test_refusing_an_invite(site: Site, peer: Peer) -> None:
    room = await site.rooms.create_room(ALICE, "10")
    user = f"@bob:{peer.name}"
    await site.member(room, ALICE, user, "invite")
    pdu = site.complete(peer, await site.make(peer, "leave", room, user))
    refused(await site.send(peer, "join", room, pdu), 400, "M_INVALID_PARAM")
    assert (await site.send(peer, "leave", room, pdu)).json() == {}
    assert membership(site, room, user) is Membership.LEAVE


async def test_knocking(site: Site, peer: Peer) -> None:
    room = await site.rooms.create_room(ALICE, "11")
    user = f"@bob:{peer.name}"
    refused(await site.make(peer, "knock", room, user), 403, "M_FORBIDDEN")
    await site.state(room, "m.room.join_rules", {"join_rule": "knock"})
    await site.state(room, "m.room.name", {"name": "Knock knock"})
    await site.state(room, "org.test.secret", {"secret": True})
    refused(await site.make(peer, "knock", room, user, "1", "7"), 400, "M_INCOMPATIBLE_ROOM_VERSION")
    path = f"{V1}/make_knock/{site.quoted_id(room)}/{quote(user, safe='')}"
    refused(await site.get(peer, path), 400, "M_MISSING_PARAM")
    made = await site.make(peer, "knock", room, user)
    answer = await site.send(peer, "knock", room, site.complete(peer, made))
    shown = answer.json()["knock_room_state"]
    assert [event["type"] for event in shown] == ["m.room.create", "m.room.join_rules", "m.room.name"]
    key = site.world.identity.key
    for event in shown:
        verify_event_signature(event, ROOM_VERSIONS["11"], US, key.key_id, key.verify_key_base64)
    assert membership(site, room, user) is Membership.KNOCK
    taken_back = site.complete(peer, await site.make(peer, "leave", room, user))
    assert (await site.send(peer, "leave", room, taken_back)).json() == {}
    assert membership(site, room, user) is Membership.LEAVE


async def test_no_knocks_where_the_version_knows_none(site: Site, peer: Peer) -> None:
    room = await site.rooms.create_room(ALICE, "6")
    await site.state(room, "m.room.join_rules", {"join_rule": "knock"})
    refused(await site.make(peer, "knock", room, f"@bob:{peer.name}"), 403, "M_FORBIDDEN")


async def test_older_servers_join_and_leave_by_version_1(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    site.rooms.keys[peer.name] = peer.key
    for what in ("join", "leave"):
        pdu = site.complete(peer, await site.make(peer, what, room, f"@bob:{peer.name}"))
        event_id = quote(site.event_id(room, pdu), safe="")
        answer = await site.request(peer, "PUT", f"{V1}/send_{what}/{site.quoted_id(room)}/{event_id}", pdu)
        status, body = answer.json()
        assert (answer.status_code, status) == (200, 200)
        assert body == {} or len(body["state"]) > 3


async def test_a_template_names_what_the_join_may_follow(site: Site, peer: Peer) -> None:
    """A room with more ends than an event can name: what authorises the join is in the state after those named."""
    room = await site.public_room()
    await site.join(peer, room)
    base = site.rooms.snapshot(room)
    for number in range(30):
        content = {"body": str(number)}
        message = site.rooms.remote_event(peer.name, base, f"@bob:{peer.name}", "m.room.message", content)
        await site.rooms.receive(peer.name, message)
    made = await site.make(peer, "join", room, f"@eve:{peer.name}")
    assert len(made.json()["event"]["prev_events"]) == MAX_PREV_EVENTS
    await site.join(peer, room, "eve")
    assert membership(site, room, f"@eve:{peer.name}") is Membership.JOIN
    assert len(site.row(room).extremities) == 30 - MAX_PREV_EVENTS + 1
