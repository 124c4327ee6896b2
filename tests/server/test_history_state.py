"""The state of rooms and their members."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from .client import Client
from .conftest import NewUser


def members(answer: dict[str, Any]) -> dict[str, str]:
    return {event["state_key"]: event["content"]["membership"] for event in answer["chunk"]}


async def get(client: Client, room: str, path: str, **params: Any) -> Any:
    return await client.request("GET", f"{client.room(room)}/{path}", params=params)


async def test_state_of_every_form(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room(name="Kitchen")
    await alice.put_state(room, "org.example.thing", {"a": 1}, "with/slash and ünicode")
    state = await get(alice, room, "state")
    by_type = {event["type"]: event for event in state}
    assert by_type["m.room.name"]["content"] == {"name": "Kitchen"}
    assert by_type["m.room.name"]["room_id"] == room
    assert by_type["m.room.name"]["unsigned"]["age"] >= 0
    assert by_type["org.example.thing"]["state_key"] == "with/slash and ünicode"

    assert await get(alice, room, "state/m.room.name") == {"name": "Kitchen"}
    assert await get(alice, room, "state/m.room.name/") == {"name": "Kitchen"}
    assert await get(alice, room, "state/m.room.name", format="content") == {"name": "Kitchen"}
    whole = await get(alice, room, "state/m.room.name", format="event")
    assert whole["event_id"] == by_type["m.room.name"]["event_id"]
    assert whole["sender"] == alice.user_id
    assert await alice.get_state(room, "org.example.thing", "with/slash and ünicode") == {"a": 1}

    await alice.get_state(room, "org.example.thing", expect=404, errcode="M_NOT_FOUND")
    await alice.get_state(room, "org.example.unheard-of", expect=404, errcode="M_NOT_FOUND")
    wrong = {"format": "pdu"}
    path = f"{alice.room(room)}/state/m.room.name"
    await alice.request("GET", path, expect=400, errcode="M_INVALID_PARAM", params=wrong)


async def test_strangers_get_no_state(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room()
    for path in ("state", "state/m.room.create", "members", "joined_members", "aliases"):
        await bob.request("GET", f"{bob.room(room)}/{path}", expect=403, errcode="M_FORBIDDEN")
    await alice.invite(room, bob)
    await bob.request("GET", f"{bob.room(room)}/state", expect=403, errcode="M_FORBIDDEN")


async def test_members_by_membership(new_user: NewUser) -> None:
    alice, bob, carol, dave = [await new_user(name) for name in ("alice", "bob", "carol", "dave")]
    room = await alice.create_room(bob, carol, preset="private_chat")
    await alice.invite(room, dave)
    await carol.leave(room)
    everyone = {alice.user_id: "join", bob.user_id: "join", carol.user_id: "leave", dave.user_id: "invite"}

    def having(*memberships: str) -> dict[str, str]:
        return {user: membership for user, membership in everyone.items() if membership in memberships}

    assert members(await get(alice, room, "members")) == everyone
    assert members(await get(alice, room, "members", membership="join")) == having("join")
    assert members(await get(alice, room, "members", not_membership="leave")) == having("join", "invite")
    both = await get(alice, room, "members", membership="leave", not_membership="join")
    assert members(both) == having("leave", "invite")
    wrong = {"membership": "friend"}
    await alice.request("GET", f"{alice.room(room)}/members", expect=400, errcode="M_INVALID_PARAM", params=wrong)

    # Who has left sees the members of then.
    await bob.leave(room)
    assert members(await get(carol, room, "members", membership="join")) == {
        alice.user_id: "join",
        bob.user_id: "join",
    }


async def test_members_at_a_token(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room()
    token = (await alice.sync())["next_batch"]
    await alice.invite(room, bob)
    await bob.join(room)
    assert members(await get(alice, room, "members", at=token)) == {alice.user_id: "join"}
    now = (await alice.sync())["next_batch"]
    both = {alice.user_id: "join", bob.user_id: "join"}
    assert members(await get(alice, room, "members", at=now)) == both
    assert members(await get(alice, room, "members", at=now, not_membership="join")) == {}
    assert members(await get(alice, room, "members", at=token, membership="leave")) == {}
    wrong = {"at": "yesterday"}
    await alice.request("GET", f"{alice.room(room)}/members", expect=400, errcode="M_INVALID_PARAM", params=wrong)


async def test_joined_members(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await bob.request("PUT", f"/profile/{quote(bob.user_id)}/displayname", {"displayname": "Bob B."})
    await bob.request("PUT", f"/profile/{quote(bob.user_id)}/avatar_url", {"avatar_url": "mxc://example.org/b"})
    room = await alice.create_room(bob, preset="private_chat")
    joined = (await get(alice, room, "joined_members"))["joined"]
    assert set(joined) == {alice.user_id, bob.user_id}
    assert joined[bob.user_id] == {"display_name": "Bob B.", "avatar_url": "mxc://example.org/b"}
    await bob.leave(room)
    await bob.request("GET", f"{bob.room(room)}/joined_members", expect=403, errcode="M_FORBIDDEN")


@pytest.mark.parametrize("path", ["state", "members"])
async def test_long_answers_are_whole(new_user: NewUser, path: str) -> None:
    alice = await new_user("alice")
    things = [{"type": "org.example.thing", "state_key": str(number), "content": {"n": number}} for number in range(90)]
    room = await alice.create_room(initial_state=things)
    if path == "members":
        assert members(await get(alice, room, path)) == {alice.user_id: "join"}
        return
    for number in range(90, 260):
        await alice.put_state(room, "org.example.thing", {"n": number}, str(number))
    state = await get(alice, room, "state")
    numbers = sorted(event["content"]["n"] for event in state if event["type"] == "org.example.thing")
    assert numbers == list(range(260))


async def test_peeking_at_state(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    readable = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
    room = await alice.create_room(name="open", initial_state=[readable])
    assert await bob.get_state(room, "m.room.name") == {"name": "open"}
    assert members(await get(bob, room, "members")) == {alice.user_id: "join"}
    await bob.request("GET", f"{bob.room(room)}/joined_members", expect=403, errcode="M_FORBIDDEN")
