"""Rooms that people of both servers are in."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from ...server.client import Client, bodies
from ...server.harness import TinyServer
from .conftest import NewUser, Pair
from .eventually import eventually, invited, left, membership_of, same_state, whole_history

VERSIONS = [str(number) for number in range(1, 13)]


async def joined_room(pair: Pair, new_user: NewUser, **options: Any) -> tuple[str, Client, Client]:
    """A public room on the host with its maker and somebody of the other server in it."""
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    room = await alice.create_room(preset="public_chat", **options)
    await bob.join(room, params={"via": pair.host.server_name})
    await bob.sync_on()
    await alice.sync_on()
    return room, alice, bob


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_guest_is_heard(pair: Pair, new_user: NewUser, version: str) -> None:
    room, alice, bob = await joined_room(pair, new_user, room_version=version, name="Everywhere")
    await alice.sync_event(room, await bob.send(room, "from afar"))
    await alice.sync_event(room, await bob.send(room, "once more"))
    state = await same_state(room, alice, bob)
    assert ("m.room.member", bob.user_id) in state


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_host_is_heard(pair: Pair, new_user: NewUser, version: str) -> None:
    room, alice, bob = await joined_room(pair, new_user, room_version=version)
    await bob.sync_event(room, await alice.send(room, "welcome"))
    await bob.sync_event(room, await alice.put_state(room, "m.room.topic", {"topic": "Everywhere"}))
    await same_state(room, alice, bob)


async def test_redaction_and_history(pair: Pair, new_user: NewUser) -> None:
    room, alice, bob = await joined_room(pair, new_user)
    event_id = await alice.send(room, "regretted")
    await bob.sync_event(room, event_id)
    await bob.sync_event(room, await alice.redact(room, event_id))
    event = await bob.request("GET", f"{bob.room(room)}/event/{quote(event_id, safe='')}")
    assert event["content"] == {}
    assert "redacted_because" in event["unsigned"]


async def test_invited_rejected_and_invited_again(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    room = await alice.create_room(preset="private_chat", name="Secret")
    await bob.sync_on()
    await alice.invite(room, bob)
    shown = await bob.sync_until(invited(room))
    assert {"m.room.member", "m.room.name"} <= {event["type"] for event in shown}
    await bob.leave(room)
    await eventually(lambda: _is(alice, room, bob, "leave"))
    await alice.invite(room, bob)
    await bob.sync_until(invited(room))
    await bob.join(room)
    await alice.sync_event(room, await bob.send(room, "thank you"))
    await bob.sync_event(room, await alice.send(room, "welcome"))
    await same_state(room, alice, bob)


async def _is(reader: Client, room: str, user: Client, membership: str) -> bool:
    found = await membership_of(reader, room, user.user_id)
    assert found == membership, f"{user.user_id} is {found}, not {membership}, in {room}"
    return True


async def test_an_invitation_is_withdrawn(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    room = await alice.create_room(preset="private_chat")
    await bob.sync_on()
    await alice.invite(room, bob)
    await bob.sync_until(invited(room))
    await alice.membership("kick", room, bob)
    await bob.sync_until(left(room))


async def test_leave_kick_and_ban(pair: Pair, new_user: NewUser) -> None:
    room, alice, bob = await joined_room(pair, new_user)
    await bob.leave(room)
    await eventually(lambda: _is(alice, room, bob, "leave"))
    await bob.join(room, params={"via": pair.host.server_name})
    await eventually(lambda: _is(alice, room, bob, "join"))
    await bob.sync_on()
    await alice.membership("kick", room, bob, "for a while")
    await bob.sync_until(left(room))
    await bob.join(room, params={"via": pair.host.server_name})
    await bob.sync_on()
    await alice.membership("ban", room, bob)
    await bob.sync_until(left(room))
    await bob.join(room, params={"via": pair.host.server_name}, expect=403)
    await alice.membership("unban", room, bob)

    async def joins_again() -> bool:
        answer = await bob.raw("POST", f"/join/{quote(room, safe='')}", {}, params={"via": pair.host.server_name})
        return answer.status_code == 200

    await eventually(joins_again)
    await alice.sync_event(room, await bob.send(room, "back"))
    await same_state(room, alice, bob)


async def test_knock(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    room = await alice.create_room(
        preset="private_chat",
        name="Knock first",
        initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}],
    )
    await bob.sync_on()
    await bob.request(
        "POST", f"/knock/{quote(room, safe='')}", {"reason": "hello?"}, params={"via": pair.host.server_name}
    )
    await eventually(lambda: _is(alice, room, bob, "knock"))
    await alice.invite(room, bob)
    await bob.sync_until(invited(room))
    await bob.join(room, params={"via": pair.host.server_name})
    await same_state(room, alice, bob)


async def test_restricted_join(pair: Pair, new_user: NewUser) -> None:
    club, alice, bob = await joined_room(pair, new_user)
    rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
    room = await alice.create_room(
        preset="private_chat", initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": rule}]
    )
    stranger = await new_user(pair.guest, "stranger")
    via = {"via": pair.host.server_name}
    await stranger.join(room, params=via, expect=403)
    await eventually(lambda: _is(alice, club, bob, "join"))
    await bob.join(room, params=via)
    await alice.sync_event(room, await bob.send(room, "one of the club"))
    state = await same_state(room, alice, bob)
    member = await alice.get_state(room, "m.room.member", bob.user_id)
    assert member["join_authorised_via_users_server"] == alice.user_id
    assert ("m.room.member", bob.user_id) in state


async def test_alias_and_public_rooms(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    name = f"Room of {alice.localpart}"
    room = await alice.create_room(
        preset="public_chat", visibility="public", room_alias_name=alice.localpart, name=name
    )
    alias = f"#{alice.localpart}:{pair.host.server_name}"
    found = await bob.request("GET", f"/directory/room/{quote(alias, safe='')}")
    assert found["room_id"] == room
    assert pair.host.server_name in found["servers"]
    nobody = quote(f"#nothing:{pair.host.server_name}", safe="")
    await bob.request("GET", f"/directory/room/{nobody}", expect=404, errcode="M_NOT_FOUND")
    listed = await bob.request(
        "POST",
        "/publicRooms",
        {"filter": {"generic_search_term": name}, "limit": 5},
        params={"server": pair.host.server_name},
    )
    assert [chunk["room_id"] for chunk in listed["chunk"]] == [room]
    assert (await bob.join(alias))["room_id"] == room
    await alice.sync_on()
    await alice.sync_event(room, await bob.send(room, "found you"))


async def test_backfill_to_the_start(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    room = await alice.create_room(preset="public_chat")
    sent = [f"message {number}" for number in range(500)]
    for number, text in enumerate(sent):
        await alice.send(room, text)
        if number % 100 == 50:
            await alice.put_state(room, "m.room.topic", {"topic": text})
    await bob.join(room, params={"via": pair.host.server_name})
    seen = await whole_history(bob, room)
    assert bodies(seen) == sent[::-1]
    theirs = await whole_history(alice, room)
    assert [event["event_id"] for event in seen] == [event["event_id"] for event in theirs]
    if isinstance(pair.guest, TinyServer):
        middle = next(event for event in seen if event["content"].get("body") == sent[230])
        context = await bob.request("GET", f"{bob.room(room)}/context/{quote(middle['event_id'], safe='')}")
        assert bodies(context["events_before"]) == sent[225:230][::-1]
        assert bodies(context["events_after"]) == sent[231:236]


async def test_a_moment_before_the_guest_came(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    room = await alice.create_room(preset="public_chat")
    sent = [await alice.send(room, f"message {number}") for number in range(40)]
    path = f"{alice.room(room)}/event/{quote(sent[5], safe='')}"
    moment = (await alice.request("GET", path))["origin_server_ts"]
    await bob.join(room, params={"via": pair.host.server_name})
    asked = f"/_matrix/client/v1/rooms/{quote(room, safe='')}/timestamp_to_event"
    found = await bob.request("GET", asked, params={"ts": moment, "dir": "f"})
    assert found == {"event_id": sent[5], "origin_server_ts": moment}
    if isinstance(pair.guest, TinyServer):
        context = await bob.request("GET", f"{bob.room(room)}/context/{quote(sent[5], safe='')}")
        assert bodies(context["events_before"]) == [f"message {number}" for number in range(4, -1, -1)]
        seen = await whole_history(bob, room)
        assert bodies(seen) == [f"message {number}" for number in range(39, -1, -1)]


async def test_upgrade(pair: Pair, new_user: NewUser) -> None:
    room, alice, bob = await joined_room(pair, new_user, room_version="10")
    new_room = (await alice.request("POST", f"{alice.room(room)}/upgrade", {"new_version": "12"}))["replacement_room"]

    async def tombstone() -> bool:
        return bool((await bob.get_state(room, "m.room.tombstone"))["replacement_room"] == new_room)

    await eventually(tombstone)
    await bob.join(new_room, params={"via": pair.host.server_name})
    await same_state(new_room, alice, bob)


async def test_profiles(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    await alice.request("PUT", f"/profile/{alice.user_id}/displayname", {"displayname": "Alice from afar"})
    told = await bob.request("GET", f"/profile/{alice.user_id}/displayname")
    assert told == {"displayname": "Alice from afar"}
    nobody = f"@nobody:{pair.host.server_name}"
    await bob.request("GET", f"/profile/{nobody}", expect=404, errcode="M_NOT_FOUND")
