"""Rooms that people of both servers are in."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from ...server.client import Client, bodies
from ...server.harness import TinyServer
from .conftest import NewUser, Pair, on_tinyserver
from .eventually import eventually, membership_of, same_state, whole_history

VERSIONS = [str(number) for number in range(1, 13)]


async def joined_room(pair: Pair, new_user: NewUser, **options: Any) -> tuple[str, Client, Client]:
    """A public room on the host with its maker and somebody of the other server in it."""
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    room = await alice.create_room(preset="public_chat", **options)
    await bob.join(room, params={"via": pair.host.server_name})
    await bob.sync_on()
    await alice.sync_on()
    return room, alice, bob


@on_tinyserver
@pytest.mark.parametrize("version", VERSIONS)
async def test_the_guest_is_heard(pair: Pair, new_user: NewUser, version: str) -> None:
    room, alice, bob = await joined_room(pair, new_user, room_version=version, name="Everywhere")
    await alice.sync_event(room, await bob.send(room, "from afar"))
    await alice.sync_event(room, await bob.send(room, "once more"))
    state = await same_state(room, alice, bob)
    assert ("m.room.member", bob.user_id) in state


async def _is(reader: Client, room: str, user: Client, membership: str) -> bool:
    found = await membership_of(reader, room, user.user_id)
    assert found == membership, f"{user.user_id} is {found}, not {membership}, in {room}"
    return True


@on_tinyserver
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


@on_tinyserver
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


@on_tinyserver
async def test_backfill_to_the_start(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    room = await alice.create_room(preset="public_chat")
    # Synapse needs several seconds to take five hundred.
    sent = [f"message {number}" for number in range(500 if isinstance(pair.host, TinyServer) else 120)]
    for text in sent:
        await alice.send(room, text)
    await bob.join(room, params={"via": pair.host.server_name})
    assert bodies(await whole_history(bob, room)) == sent[::-1]


@on_tinyserver
async def test_profiles(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    await alice.request("PUT", f"/profile/{alice.user_id}/displayname", {"displayname": "Alice from afar"})
    told = await bob.request("GET", f"/profile/{alice.user_id}/displayname")
    assert told == {"displayname": "Alice from afar"}
    nobody = f"@nobody:{pair.host.server_name}"
    await bob.request("GET", f"/profile/{nobody}", expect=404, errcode="M_NOT_FOUND")
