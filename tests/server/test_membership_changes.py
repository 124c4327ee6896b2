"""Joining, leaving, inviting, removing, banning, knocking, forgetting: by their endpoints and as member events."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from tinyserver.protocol.signing import SigningKey, sign_json

from .client import Client

VERSIONS = [str(number) for number in range(1, 13)]
SERVER_CONFIG = {"registration": {"allow_guests": True}}

UNKNOWN = "!nowhere:tiny.test"


async def membership(client: Client, room: str, user: Client) -> dict[str, Any]:
    return await client.get_state(room, "m.room.member", user.user_id)


async def be(client: Client, room: str, user: Client, value: str, **expectation: Any) -> Any:
    """Set a membership as a state event."""
    return await client.put_state(room, "m.room.member", {"membership": value}, user.user_id, **expectation)


async def member_events(client: Client, room: str) -> list[tuple[str, str]]:
    """Who became what, in order, as far as the client may see it."""
    events = (await client.messages(room, dir="f", limit=500))["chunk"]
    return [(e["state_key"], e["content"]["membership"]) for e in events if e["type"] == "m.room.member"]


@pytest.fixture
async def people(new_user: Any) -> tuple[Client, Client, Client]:
    return await new_user("alice"), await new_user("bob"), await new_user("carol")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_life_in_every_version(people: Any, version: str) -> None:
    alice, bob, _ = people
    room = await alice.create_room(room_version=version)
    await bob.join(room, expect=403, errcode="M_FORBIDDEN")
    await alice.invite(room, bob)
    assert (await bob.join(room)) == {"room_id": room}
    await bob.send(room, "here I am")
    await bob.leave(room)
    await bob.send(room, "no more", expect=403, errcode="M_FORBIDDEN")
    await alice.invite(room, bob)
    await bob.leave(room)
    await alice.membership("ban", room, bob)
    await alice.invite(room, bob, expect=403, errcode="M_FORBIDDEN")
    await bob.join(room, expect=403, errcode="M_FORBIDDEN")
    await bob.leave(room, expect=403, errcode="M_FORBIDDEN")
    await alice.membership("unban", room, bob)
    await alice.invite(room, bob)
    await bob.join(room)
    await alice.membership("kick", room, bob, reason="again")
    assert await membership(alice, room, bob) == {"membership": "leave", "reason": "again"}
    assert (await member_events(alice, room))[1:] == [
        (bob.user_id, value)
        for value in ("invite", "join", "leave", "invite", "leave", "ban", "leave", "invite", "join", "leave")
    ]


# -- joining ---------------------------------------------------------------------------------------


async def test_join_twice_is_one_join(people: Any) -> None:
    alice, bob, _ = people
    room = await alice.create_room(preset="public_chat")
    for _ in range(3):
        assert await bob.join(room) == {"room_id": room}
    assert await bob.request("POST", f"{bob.room(room)}/join", {}) == {"room_id": room}
    await asyncio.gather(*(bob.join(room) for _ in range(5)))
    assert (await member_events(alice, room)).count((bob.user_id, "join")) == 1


async def test_join_by_alias_and_id(people: Any) -> None:
    alice, bob, carol = people
    room = await alice.create_room(preset="public_chat", room_alias_name="entrance")
    assert await bob.join("#entrance:tiny.test") == {"room_id": room}
    path = f"{carol.room('#entrance:tiny.test')}/join"
    await carol.request("POST", path, {}, expect=400, errcode="M_INVALID_PARAM")
    by_id = await carol.request("POST", f"/join/{quote(room)}", {}, params={"via": ["a.test", "b.test"]})
    assert by_id == {"room_id": room}


@pytest.mark.parametrize("name", ["nonsense", "#nonsense", "!", "#", "@bob:tiny.test", "!a\0b:tiny.test", "#a b"])
@pytest.mark.parametrize("action", ["join", "knock"])
async def test_malformed_rooms(new_user: Any, action: str, name: str) -> None:
    user = await new_user()
    await user.request("POST", f"/{action}/{quote(name)}", {}, expect=400, errcode="M_INVALID_PARAM")


@pytest.mark.parametrize("name", [UNKNOWN, "!" + "a" * 43, "#unknown:tiny.test", "#unknown:elsewhere.test"])
@pytest.mark.parametrize("action", ["join", "knock"])
async def test_unknown_rooms(new_user: Any, action: str, name: str) -> None:
    user = await new_user()
    await user.request("POST", f"/{action}/{quote(name)}", {}, expect=404, errcode="M_NOT_FOUND")


@pytest.mark.parametrize("action", ["invite", "kick", "ban", "unban"])
async def test_acting_outside(people: Any, action: str) -> None:
    alice, bob, carol = people
    room = await alice.create_room(carol)
    await bob.membership(action, UNKNOWN, carol, expect=403, errcode="M_FORBIDDEN")
    await bob.membership(action, room, carol, expect=403, errcode="M_FORBIDDEN")
    await bob.membership(action, "nonsense", carol, expect=400, errcode="M_INVALID_PARAM")
    await alice.invite(room, bob)
    await bob.membership(action, room, carol, expect=403, errcode="M_FORBIDDEN")


@pytest.mark.parametrize("action", ["invite", "kick", "ban", "unban"])
async def test_malformed_targets(new_user: Any, action: str) -> None:
    user = await new_user()
    room = await user.create_room()
    path = f"{user.room(room)}/{action}"
    for target in ("bob", "@bob", "", "#a:tiny.test", "@" + "b" * 255 + ":tiny.test", "@a\0:tiny.test", "@a:b:c:d"):
        await user.request("POST", path, {"user_id": target}, expect=400, errcode="M_INVALID_PARAM")
    for body in ({"user_id": 5}, {"user_id": ["@a:tiny.test"]}, {"user_id": "@a:tiny.test", "reason": 1}, []):
        await user.request("POST", path, body, expect=400, errcode="M_BAD_JSON")
    await user.request("POST", path, content=rb'{"user_id": "@\ud800:t"}', expect=400, errcode="M_NOT_JSON")
    missing = {"invite": "M_MISSING_PARAM"}.get(action, "M_BAD_JSON")
    await user.request("POST", path, {}, expect=400, errcode=missing)


async def test_reasons(people: Any) -> None:
    alice, bob, _ = people
    room = await alice.create_room(initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}])

    async def reason() -> Any:
        return (await membership(alice, room, bob)).get("reason")

    await bob.request("POST", f"/knock/{quote(room)}", {"reason": "r1"})
    assert await reason() == "r1"
    await alice.membership("invite", room, bob, reason="r2")
    assert await reason() == "r2"
    await bob.request("POST", f"/join/{quote(room)}", {"reason": "r3"})
    assert await reason() == "r3"
    await bob.request("POST", f"{bob.room(room)}/leave", {"reason": "r4"})
    assert await reason() == "r4"
    await alice.membership("ban", room, bob, reason="r5")
    assert await reason() == "r5"
    await alice.membership("unban", room, bob, reason="r6")
    assert await reason() == "r6"
    await alice.invite(room, bob)
    assert await reason() is None
    await bob.request("POST", f"{bob.room(room)}/join", {"reason": "r7"})
    await alice.membership("kick", room, bob, reason="r8")
    assert await reason() == "r8"
    too_long = {"user_id": bob.user_id, "reason": "x" * 70_000}
    await alice.request("POST", f"{alice.room(room)}/ban", too_long, expect=413, errcode="M_TOO_LARGE")


async def test_profile_in_member_events(people: Any) -> None:
    alice, bob, _ = people
    await bob.request("PUT", f"/profile/{quote(bob.user_id)}/displayname", {"displayname": "Bobby"})
    room = await alice.create_room()
    await alice.invite(room, bob)
    assert (await membership(alice, room, bob))["displayname"] == "Bobby"
    await bob.join(room)
    await bob.request("PUT", f"/profile/{quote(bob.user_id)}/displayname", {"displayname": "Robert"})
    assert await membership(alice, room, bob) == {"membership": "join", "displayname": "Robert"}
    await alice.membership("kick", room, bob)
    assert await membership(alice, room, bob) == {"membership": "leave"}


# -- leaving ---------------------------------------------------------------------------------------


async def test_leave(people: Any) -> None:
    alice, bob, carol = people
    room = await alice.create_room(bob)
    await carol.leave(room, expect=403, errcode="M_FORBIDDEN")
    await carol.leave(UNKNOWN, expect=403, errcode="M_FORBIDDEN")
    for _ in range(2):
        assert await bob.leave(room) == {}
    assert (await member_events(alice, room)).count((bob.user_id, "leave")) == 1
    assert (await bob.request("GET", "/joined_rooms"))["joined_rooms"] == []
    # The last one out can come back only if the rules let them.
    await alice.leave(room)
    await alice.join(room, expect=403, errcode="M_FORBIDDEN")


async def test_everybody_leaves_and_returns_to_a_public_room(people: Any) -> None:
    alice, bob, _ = people
    room = await alice.create_room(bob, preset="public_chat")
    await alice.leave(room)
    await bob.leave(room)
    await bob.join(room)
    await bob.send(room, "back")


# -- inviting --------------------------------------------------------------------------------------


async def test_invite(people: Any) -> None:
    alice, bob, carol = people
    room = await alice.create_room(bob)
    await alice.invite(room, bob, expect=403, errcode="M_FORBIDDEN")
    await alice.invite(room, alice, expect=403, errcode="M_FORBIDDEN")
    await bob.invite(room, carol)
    await alice.invite(room, carol)
    assert (await membership(alice, room, carol))["membership"] == "invite"
    far = {"user_id": "@dave:elsewhere.test"}
    await alice.request("POST", f"{alice.room(room)}/invite", far, expect=502, errcode="M_UNKNOWN")
    email = {"medium": "email", "address": "d@e.f", "id_server": "e.f", "id_access_token": "t"}
    await alice.request("POST", f"{alice.room(room)}/invite", email, expect=400, errcode="M_SERVER_NOT_TRUSTED")
    levels = await alice.get_state(room, "m.room.power_levels")
    await alice.put_state(room, "m.room.power_levels", {**levels, "invite": 50})
    await bob.invite(room, carol, expect=403, errcode="M_FORBIDDEN")


async def test_who_wants_no_invites_gets_none(people: Any) -> None:
    alice, bob, _ = people
    path = f"/user/{quote(bob.user_id)}/account_data/m.invite_permission_config"
    await bob.request("PUT", path, {"default_action": "block"})
    room = await alice.create_room()
    blocked = {"expect": 403, "errcode": "M_INVITE_BLOCKED"}
    await alice.invite(room, bob, **blocked)
    await be(alice, room, bob, "invite", **blocked)
    await alice.request("POST", "/createRoom", {"invite": [bob.user_id]}, **blocked)
    assert (await alice.request("GET", "/joined_rooms"))["joined_rooms"] == [room]
    await bob.request("PUT", path, {})
    await alice.invite(room, bob)
    sliding = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
    everything = {"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 1, "required_state": []}}}
    for config, seen in (({}, True), ({"default_action": "block"}, False), ({"default_action": "x"}, True)):
        await bob.request("PUT", path, config)
        assert (room in (await bob.sync()).get("rooms", {}).get("invite", {})) is seen
        assert (room in (await bob.request("POST", sliding, everything))["rooms"]) is seen


async def test_third_party_invite(people: Any) -> None:
    """Who can prove that an invite to an e-mail address was for them may join."""
    alice, bob, carol = people
    key = SigningKey("0", bytes(32))
    invite = {"display_name": "b...@e...", "key_validity_url": "https://id.test", "public_key": key.verify_key_base64}
    room = await alice.create_room()
    await alice.put_state(room, "m.room.third_party_invite", invite, "a-token")

    def proof(**changes: Any) -> Any:
        signed = {"mxid": bob.user_id, "sender": alice.user_id, "token": "a-token", **changes}
        return {"third_party_signed": sign_json(signed, "id.test", key)}

    path = f"/join/{quote(room)}"
    await bob.request("POST", path, {"third_party_signed": {}}, expect=400, errcode="M_BAD_JSON")
    for wrong in (
        proof(mxid=carol.user_id),
        proof(token="another"),
        {"third_party_signed": {**proof()["third_party_signed"], "sender": carol.user_id}},
    ):
        await bob.request("POST", path, wrong, expect=403, errcode="M_FORBIDDEN")
    await carol.request("POST", path, proof(), expect=403, errcode="M_FORBIDDEN")
    await bob.request("POST", path, proof())
    assert (await member_events(alice, room))[1:] == [(bob.user_id, "invite"), (bob.user_id, "join")]


# -- removing and banning --------------------------------------------------------------------------


async def test_kick(people: Any) -> None:
    alice, bob, carol = people
    room = await alice.create_room(bob)
    forbidden = {"expect": 403, "errcode": "M_FORBIDDEN"}
    await alice.membership("kick", room, carol, **forbidden)
    await bob.membership("kick", room, alice, **forbidden)
    await alice.invite(room, carol)
    await alice.membership("kick", room, carol)
    await carol.join(room, **forbidden)
    await alice.membership("kick", room, carol, **forbidden)
    await alice.membership("ban", room, carol)
    await alice.membership("kick", room, carol, **forbidden)
    assert (await membership(alice, room, carol))["membership"] == "ban"


async def test_ban_and_unban(people: Any) -> None:
    alice, bob, carol = people
    room = await alice.create_room(bob, preset="public_chat")
    forbidden = {"expect": 403, "errcode": "M_FORBIDDEN"}
    for not_banned in (carol, bob):
        await alice.membership("unban", room, not_banned, expect=403, errcode="M_BAD_STATE")
    await alice.membership("ban", room, carol, reason="never here, never to be")
    await carol.join(room, **forbidden)
    await be(carol, room, carol, "join", **forbidden)
    await bob.membership("unban", room, carol, **forbidden)
    await bob.membership("ban", room, alice, **forbidden)
    await alice.membership("ban", room, alice, **forbidden)
    await alice.membership("ban", room, bob)
    await alice.membership("ban", room, bob, reason="still")
    await alice.membership("unban", room, carol)
    await carol.join(room)
    assert [entry for entry in await member_events(alice, room) if entry[0] == carol.user_id] == [
        (carol.user_id, "ban"),
        (carol.user_id, "leave"),
        (carol.user_id, "join"),
    ]


# -- knocking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_knock(people: Any, version: str) -> None:
    alice, bob, carol = people
    knockable = [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    room = await alice.create_room(room_version=version, initial_state=knockable)

    async def knock(user: Client, **expectation: Any) -> Any:
        return await user.request("POST", f"/knock/{quote(room)}", {}, **expectation)

    forbidden = {"expect": 403, "errcode": "M_FORBIDDEN"}
    if int(version) < 7:
        await knock(bob, **forbidden)
        return
    assert await knock(bob) == {"room_id": room}
    await bob.join(room, **forbidden)
    await bob.leave(room)
    await knock(bob)
    await alice.membership("kick", room, bob)
    await knock(bob)
    await alice.invite(room, bob)
    await knock(bob, **forbidden)
    await bob.join(room)
    await knock(bob, **forbidden)
    await alice.membership("ban", room, bob)
    await knock(bob, **forbidden)
    await knock(carol)
    await alice.membership("ban", room, carol)
    private = await alice.create_room(room_version=version)
    await bob.request("POST", f"/knock/{quote(private)}", {}, **forbidden)
    await be(bob, private, bob, "knock", **forbidden)


# -- restricted rooms ------------------------------------------------------------------------------


def restricted(*allowed: str, rule: str = "restricted") -> dict[str, Any]:
    allow = [{"type": "m.room_membership", "room_id": room} for room in allowed]
    return {"type": "m.room.join_rules", "content": {"join_rule": rule, "allow": allow}}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("rule", ["restricted", "knock_restricted"])
async def test_restricted_join(people: Any, version: str, rule: str) -> None:
    alice, bob, carol = people
    club = await alice.create_room(bob)
    room = await alice.create_room(room_version=version, initial_state=[restricted(club, rule=rule)])
    forbidden = {"expect": 403, "errcode": "M_FORBIDDEN"}
    await carol.join(room, **forbidden)
    if int(version) < (8 if rule == "restricted" else 10):
        await bob.join(room, **forbidden)
        return
    await bob.join(room)
    assert (await membership(alice, room, bob))["join_authorised_via_users_server"] == alice.user_id
    # Leaving the other room puts nobody out, but closes the way back.
    await bob.leave(club)
    await bob.send(room, "still here")
    await bob.leave(room)
    await bob.join(room, **forbidden)
    # With an invite nobody has to vouch.
    await alice.invite(room, carol)
    await carol.join(room)
    assert "join_authorised_via_users_server" not in await membership(alice, room, carol)
    if rule == "knock_restricted":
        await bob.request("POST", f"/knock/{quote(room)}", {})


async def test_nobody_vouches_for_themselves(people: Any) -> None:
    alice, bob, _ = people
    club = await alice.create_room()
    room = await alice.create_room(initial_state=[restricted(club)])
    forged = {"membership": "join", "join_authorised_via_users_server": alice.user_id}
    await bob.put_state(room, "m.room.member", forged, bob.user_id, expect=403, errcode="M_FORBIDDEN")
    await alice.invite(club, bob)
    await bob.put_state(room, "m.room.member", forged, bob.user_id, expect=403, errcode="M_FORBIDDEN")
    await bob.join(club)
    await bob.put_state(room, "m.room.member", {"membership": "join"}, bob.user_id)
    assert (await membership(alice, room, bob))["join_authorised_via_users_server"] == alice.user_id
    # A later change of the profile does not carry it on: it would have to be vouched for again.
    await bob.request("PUT", f"/profile/{quote(bob.user_id)}/displayname", {"displayname": "B"})
    assert await membership(alice, room, bob) == {"membership": "join", "displayname": "B"}


async def test_restricted_without_anybody_to_vouch(people: Any) -> None:
    alice, bob, carol = people
    club = await alice.create_room(bob, carol)
    levels = {"power_level_content_override": {"invite": 50}}
    room = await alice.create_room(initial_state=[restricted(club)], room_version="11", **levels)
    await bob.join(room)
    await alice.leave(room)
    answer = await carol.request("POST", f"/join/{quote(room)}", {}, expect=(400, 403))
    assert answer["errcode"] == "M_UNABLE_TO_GRANT_JOIN"


@pytest.mark.parametrize(
    "allow",
    [
        None,
        "everybody",
        [],
        ["!a:b"],
        [{"type": "m.room_membership"}],
        [{"type": "m.room_membership", "room_id": 5}],
        [{"type": "m.room_membership", "room_id": "nonsense"}],
        [{"type": "com.example.anybody", "room_id": UNKNOWN}],
    ],
)
async def test_restricted_with_junk(people: Any, allow: Any) -> None:
    alice, bob, _ = people
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    room = await alice.create_room(initial_state=[rules])
    await bob.join(room, expect=403, errcode="M_FORBIDDEN")


# -- member events as state ------------------------------------------------------------------------


async def test_state_events_do_what_the_endpoints_do(people: Any) -> None:
    alice, bob, carol = people
    forbidden = {"expect": 403, "errcode": "M_FORBIDDEN"}
    room = await alice.create_room()
    await be(alice, room, bob, "join", **forbidden)
    await be(bob, room, bob, "leave", **forbidden)
    await be(alice, room, bob, "leave", **forbidden)
    await be(alice, room, bob, "knock", **forbidden)
    await be(alice, room, bob, "invite")
    await be(bob, room, bob, "join")
    await be(alice, room, bob, "invite", **forbidden)
    await be(bob, room, carol, "ban", **forbidden)
    await be(alice, room, bob, "leave")
    # Nobody who has left is removed once more by another; but what is so already may be said again by who said it.
    await be(carol, room, bob, "leave", **forbidden)
    await be(alice, room, carol, "ban")
    await be(alice, room, carol, "leave")
    await alice.put_state(room, "m.room.member", {"membership": "invite"}, "@far:elsewhere.test", expect=502)
    await bob.put_state(
        UNKNOWN, "m.room.member", {"membership": "join"}, bob.user_id, expect=404, errcode="M_NOT_FOUND"
    )
    assert [value for who, value in await member_events(alice, room) if who == bob.user_id] == [
        "invite",
        "join",
        "leave",
    ]


@pytest.mark.parametrize(
    ("key", "content", "errcode"),
    [
        (None, {}, "M_BAD_JSON"),
        (None, {"membership": "guest"}, "M_BAD_JSON"),
        (None, {"membership": None}, "M_BAD_JSON"),
        (None, {"membership": ["join"]}, "M_BAD_JSON"),
        (None, {"membership": {}}, "M_BAD_JSON"),
        ("", {"membership": "join"}, "M_INVALID_PARAM"),
        ("bob", {"membership": "invite"}, "M_INVALID_PARAM"),
        ("@bob", {"membership": "ban"}, "M_INVALID_PARAM"),
    ],
)
async def test_malformed_member_events(new_user: Any, key: str | None, content: Any, errcode: str) -> None:
    user = await new_user()
    room = await user.create_room()
    target = user.user_id if key is None else key
    await user.put_state(room, "m.room.member", content, target, expect=400, errcode=errcode)


async def test_own_name_in_one_room(people: Any) -> None:
    alice, bob, _ = people
    room = await alice.create_room(bob)
    named = {"membership": "join", "displayname": "Only here", "com.example": [1]}
    first = await bob.put_state(room, "m.room.member", named, bob.user_id)
    assert await bob.put_state(room, "m.room.member", named, bob.user_id) == first
    assert await membership(alice, room, bob) == named
    assert await be(bob, room, bob, "join") != first


# -- forgetting ------------------------------------------------------------------------------------


async def forget(client: Client, room: str, **expectation: Any) -> Any:
    return await client.request("POST", f"{client.room(room)}/forget", {}, **expectation)


async def test_forget(people: Any) -> None:
    alice, bob, carol = people
    room = await alice.create_room(bob, preset="public_chat")
    await bob.send(room, "mine")
    await forget(bob, room, expect=400, errcode="M_UNKNOWN")
    await alice.invite(room, carol)
    await forget(carol, room, expect=400, errcode="M_UNKNOWN")
    await forget(carol, UNKNOWN, expect=404, errcode="M_NOT_FOUND")
    await bob.leave(room)
    assert (await bob.messages(room, limit=1))["chunk"]
    for _ in range(2):
        assert await forget(bob, room) == {}
    await bob.request("GET", f"{bob.room(room)}/messages", params={"dir": "b"}, expect=403, errcode="M_FORBIDDEN")
    await bob.join(room)
    assert len((await bob.messages(room, limit=100))["chunk"]) > 5


async def test_forgotten_until_wanted_again(people: Any) -> None:
    alice, bob, _ = people
    room = await alice.create_room(bob)
    await alice.membership("kick", room, bob)
    path = f"{bob.room(room)}/messages"
    await bob.request("GET", path, params={"dir": "b"})
    await forget(bob, room)
    for action in ("ban", "unban"):
        await alice.membership(action, room, bob)
        await bob.request("GET", path, params={"dir": "b"}, expect=403, errcode="M_FORBIDDEN")
    await alice.invite(room, bob)
    await bob.leave(room)
    await bob.request("GET", path, params={"dir": "b"})


# -- guests ----------------------------------------------------------------------------------------


async def make_guest(server: Any, connect: Any) -> Client:
    client: Client = connect(server)
    answer = await client.request("POST", "/register", {}, params={"kind": "guest"})
    client.user_id, client.access_token = answer["user_id"], answer["access_token"]
    return client


async def test_guests(server: Any, connect: Any, people: Any) -> None:
    alice, bob, _ = people
    guest = await make_guest(server, connect)
    closed = {"expect": 403, "errcode": "M_GUEST_ACCESS_FORBIDDEN"}
    room = await alice.create_room(preset="public_chat")
    await guest.join(room, **closed)
    await be(guest, room, guest, "join", **closed)
    await alice.invite(room, guest)
    await guest.join(room, **closed)
    await alice.put_state(room, "m.room.guest_access", {"guest_access": "can_join"})
    await guest.join(room)
    await guest.send(room, "I am a guest")
    await bob.join(room)
    for action in ("invite", "kick", "ban", "unban"):
        await guest.membership(action, room, bob, **closed)
    await guest.request("POST", f"/knock/{quote(room)}", {}, **closed)
    await alice.put_state(room, "m.room.guest_access", {"guest_access": "forbidden"})
    assert (await membership(alice, room, guest))["membership"] == "leave"
    assert (await membership(alice, room, bob))["membership"] == "join"


@pytest.mark.parametrize("how", ["redaction", "empty"])
async def test_guests_go_when_the_permission_is_gone(server: Any, connect: Any, people: Any, how: str) -> None:
    alice, _, _ = people
    guest = await make_guest(server, connect)
    room = await alice.create_room(preset="public_chat")
    allowed = await alice.put_state(room, "m.room.guest_access", {"guest_access": "can_join"})
    await guest.join(room)
    if how == "redaction":
        await alice.redact(room, allowed)
    else:
        await alice.put_state(room, "m.room.guest_access", {})
    assert (await membership(alice, room, guest))["membership"] == "leave"
