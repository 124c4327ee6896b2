"""Making rooms: presets, versions, initial state, and that nothing is left of a room that could not be made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .client import Client

VERSIONS = [str(number) for number in range(1, 13)]

BOB = "@bob-of-nowhere:tiny.test"


async def state_of(client: Client, room: str) -> dict[tuple[str, str], Any]:
    events = await client.request("GET", f"{client.room(room)}/state")
    return {(event["type"], event["state_key"]): event["content"] for event in events}


async def timeline_of(client: Client, room: str) -> list[dict[str, Any]]:
    return (await client.messages(room, dir="f", limit=200))["chunk"]


async def nothing_made(client: Client, errcode: str, status: int = 400, **options: Any) -> None:
    """The request fails, and leaves no room behind."""
    before = await client.request("GET", "/joined_rooms")
    await client.request("POST", "/createRoom", options, expect=status, errcode=errcode)
    assert await client.request("GET", "/joined_rooms") == before


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_version(new_user: Any, version: str) -> None:
    user = await new_user("maker")
    room = await user.create_room(room_version=version, name="Room", topic="About nothing", creation_content={"x": 1})
    events = await timeline_of(user, room)
    assert [event["type"] for event in events] == [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.join_rules",
        "m.room.history_visibility",
        "m.room.guest_access",
        "m.room.name",
        "m.room.topic",
    ]
    create, levels = events[0], events[2]["content"]
    assert create["sender"] == user.user_id
    assert create["content"]["room_version"] == version
    assert create["content"]["x"] == 1
    assert create["content"].get("creator") == (user.user_id if int(version) < 11 else None)
    if version == "12":
        assert room == "!" + create["event_id"][1:]
        assert levels["users"] == {}
        assert levels["events"]["m.room.tombstone"] > levels["state_default"]
    else:
        assert room.endswith(":tiny.test")
        assert levels["users"] == {user.user_id: 100}
    assert (await user.get_state(room, "m.room.topic"))["m.topic"] == {"m.text": [{"body": "About nothing"}]}
    await user.send(room, "the first message")


async def test_default_version(new_user: Any) -> None:
    user = await new_user()
    room = await user.create_room()
    assert (await user.get_state(room, "m.room.create"))["room_version"] == "12"


@pytest.mark.parametrize(
    ("options", "join_rule", "visibility", "guests"),
    [
        ({}, "invite", "shared", "can_join"),
        ({"visibility": "private"}, "invite", "shared", "can_join"),
        ({"visibility": "public"}, "public", "shared", "forbidden"),
        ({"preset": "private_chat", "visibility": "public"}, "invite", "shared", "can_join"),
        ({"preset": "trusted_private_chat"}, "invite", "shared", "can_join"),
        ({"preset": "public_chat"}, "public", "shared", "forbidden"),
        ({"preset": None, "visibility": None, "invite": None, "name": None, "initial_state": None}, "invite", "shared",
         "can_join"),
    ],
)  # fmt: skip
async def test_presets(new_user: Any, options: Any, join_rule: str, visibility: str, guests: str) -> None:
    user = await new_user()
    state = await state_of(user, await user.create_room(**options))
    assert state[("m.room.join_rules", "")]["join_rule"] == join_rule
    assert state[("m.room.history_visibility", "")]["history_visibility"] == visibility
    assert state[("m.room.guest_access", "")]["guest_access"] == guests


async def test_empty_body(new_user: Any) -> None:
    user = await new_user()
    assert (await user.request("POST", "/createRoom", content=b""))["room_id"].startswith("!")


@pytest.mark.parametrize("version", ["11", "12"])
async def test_trusted_private_chat(new_user: Any, version: str) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(
        bob,
        preset="trusted_private_chat",
        room_version=version,
        creation_content={"additional_creators": [bob.user_id]} if version == "12" else {},
    )
    create = await alice.get_state(room, "m.room.create")
    levels = await alice.get_state(room, "m.room.power_levels")
    if version == "12":
        assert create["additional_creators"] == [bob.user_id]
        assert bob.user_id not in levels["users"]
    else:
        assert levels["users"][bob.user_id] == 100
    await bob.put_state(room, "m.room.power_levels", {**levels, "ban": 60})


async def test_direct_chat(new_user: Any) -> None:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    room = await alice.create_room(invite=[bob.user_id, carol.user_id, bob.user_id, alice.user_id], is_direct=True)
    events = [event for event in await timeline_of(alice, room) if event["type"] == "m.room.member"]
    assert [event["state_key"] for event in events] == [alice.user_id, bob.user_id, carol.user_id]
    assert [event["content"].get("is_direct") for event in events] == [None, True, True]
    plain = await alice.create_room(invite=[bob.user_id])
    assert "is_direct" not in await alice.get_state(plain, "m.room.member", bob.user_id)


async def test_initial_state_wins_over_preset_and_loses_to_name(new_user: Any) -> None:
    user = await new_user()
    room = await user.create_room(
        preset="private_chat",
        name="said",
        initial_state=[
            {"type": "m.room.join_rules", "content": {"join_rule": "public"}},
            {"type": "m.room.name", "content": {"name": "unsaid"}},
            {"type": "m.room.topic", "content": {"topic": "kept"}},
            {"type": "com.example", "state_key": "a", "content": {"n": 1}},
            {"type": "com.example", "state_key": "a", "content": {"n": 2}},
            {"type": "com.example", "state_key": "b", "content": {"n": 3}},
        ],
    )
    types = [event["type"] for event in await timeline_of(user, room)]
    assert types.count("m.room.join_rules") == 1
    assert types.count("m.room.name") == 1
    state = await state_of(user, room)
    assert state[("m.room.join_rules", "")] == {"join_rule": "public"}
    assert state[("m.room.name", "")] == {"name": "said"}
    assert state[("m.room.topic", "")] == {"topic": "kept"}
    assert state[("com.example", "a")] == {"n": 2}
    assert state[("com.example", "b")] == {"n": 3}


async def test_initial_state_with_events_of_the_server(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")

    def state(event_type: str, key: str, **content: Any) -> dict[str, Any]:
        return {"initial_state": [{"type": event_type, "state_key": key, "content": content}]}

    await nothing_made(alice, "M_INVALID_ROOM_STATE", **state("m.room.create", "", room_version="1"))
    await nothing_made(alice, "M_INVALID_ROOM_STATE", **state("m.room.member", bob.user_id, membership="join"))
    await nothing_made(alice, "M_BAD_JSON", **state("m.room.member", bob.user_id, membership="guest"))
    await nothing_made(alice, "M_INVALID_PARAM", **state("m.room.member", "bob", membership="invite"))
    away = state("m.room.member", "@bob:elsewhere.test", membership="invite")
    await nothing_made(alice, "M_FORBIDDEN", 403, **away)
    room = await alice.create_room(**state("m.room.member", bob.user_id, membership="invite"))
    await bob.join(room)
    named = await alice.create_room(**state("m.room.member", alice.user_id, membership="join", displayname="Captain"))
    assert (await alice.get_state(named, "m.room.member", alice.user_id))["displayname"] == "Captain"
    levels = await alice.create_room(room_version="11", **state("m.room.power_levels", "", users={alice.user_id: 70}))
    assert (await alice.get_state(levels, "m.room.power_levels"))["users"] == {alice.user_id: 70}


async def test_too_much_initial_state(new_user: Any) -> None:
    user = await new_user()
    events = [{"type": "com.example", "state_key": str(number), "content": {}} for number in range(201)]
    await nothing_made(user, "M_INVALID_PARAM", initial_state=events)
    room = await user.create_room(initial_state=events[:200])
    assert len(await state_of(user, room)) == 206


async def test_power_level_override(new_user: Any) -> None:
    user = await new_user()
    room = await user.create_room(power_level_content_override={"invite": 30, "users_default": 5, "com.example": 1})
    levels = await user.get_state(room, "m.room.power_levels")
    assert (levels["invite"], levels["users_default"], levels["ban"]) == (30, 5, 50)
    # Whoever takes the power from themselves cannot name the room.
    options = {"room_version": "11", "power_level_content_override": {"users": {user.user_id: 0}}}
    await nothing_made(user, "M_INVALID_ROOM_STATE", name="never", **options)


@pytest.mark.parametrize("version", ["9", "10", "11", "12"])
@pytest.mark.parametrize(
    "override",
    [
        {"users": "everybody"},
        {"users": ["@a:b"]},
        {"users": {"nobody": 1}},
        {"users": {"@a:tiny.test": "high"}},
        {"users": {"@a:tiny.test": None}},
    ],
)
async def test_power_level_junk(new_user: Any, version: str, override: Any) -> None:
    user = await new_user()
    await nothing_made(user, "M_INVALID_ROOM_STATE", room_version=version, power_level_content_override=override)


async def test_power_level_numbers(new_user: Any) -> None:
    user = await new_user()
    for override in ({"ban": "50"}, {"events": {"x": None}}, {"state_default": True}, {"notifications": {"room": "1"}}):
        await nothing_made(user, "M_INVALID_ROOM_STATE", power_level_content_override=override)
    await nothing_made(user, "M_BAD_JSON", power_level_content_override={"ban": 1.5})
    await nothing_made(user, "M_BAD_JSON", power_level_content_override={"ban": 2**53})
    await nothing_made(user, "M_INVALID_ROOM_STATE", power_level_content_override={"users": {user.user_id: 100}})
    room = await user.create_room(room_version="5", power_level_content_override={"ban": "60", "kick": 55.5})
    assert (await user.get_state(room, "m.room.power_levels"))["ban"] == "60"


@pytest.mark.parametrize(
    ("options", "errcode"),
    [
        ({"room_version": "13"}, "M_UNSUPPORTED_ROOM_VERSION"),
        ({"room_version": ""}, "M_UNSUPPORTED_ROOM_VERSION"),
        ({"room_version": "org.example"}, "M_UNSUPPORTED_ROOM_VERSION"),
        ({"room_version": 12}, "M_BAD_JSON"),
        ({"visibility": "secret"}, "M_BAD_JSON"),
        ({"preset": "party"}, "M_BAD_JSON"),
        ({"invite": "@bob:tiny.test"}, "M_BAD_JSON"),
        ({"invite": ["bob"]}, "M_INVALID_PARAM"),
        ({"invite": ["@bob"]}, "M_INVALID_PARAM"),
        ({"invite": ["@" + "b" * 300 + ":tiny.test"]}, "M_INVALID_PARAM"),
        ({"invite": [BOB, 7]}, "M_BAD_JSON"),
        ({"invite_3pid": [{"medium": "email", "address": "a@b.c", "id_server": "c"}]}, "M_SERVER_NOT_TRUSTED"),
        ({"name": 5}, "M_BAD_JSON"),
        ({"topic": ["x"]}, "M_BAD_JSON"),
        ({"is_direct": "yes"}, "M_BAD_JSON"),
        ({"initial_state": {}}, "M_BAD_JSON"),
        ({"initial_state": [{"type": "a"}]}, "M_BAD_JSON"),
        ({"initial_state": [{"content": {}}]}, "M_BAD_JSON"),
        ({"initial_state": [{"type": "a", "content": []}]}, "M_BAD_JSON"),
        ({"initial_state": [{"type": "a", "content": {}, "state_key": None}]}, "M_BAD_JSON"),
        ({"creation_content": []}, "M_BAD_JSON"),
        ({"creation_content": {"x": 1.5}}, "M_BAD_JSON"),
        ({"creation_content": {"x": 2**60}}, "M_BAD_JSON"),
        ({"creation_content": {"additional_creators": "@bob:tiny.test"}}, "M_INVALID_ROOM_STATE"),
        ({"creation_content": {"additional_creators": ["bob"]}}, "M_INVALID_ROOM_STATE"),
        ({"creation_content": {"additional_creators": {}}, "preset": "trusted_private_chat", "invite": [BOB]},
         "M_BAD_JSON"),
        ({"initial_state": [{"type": "a", "content": {"x": 1.5}}]}, "M_BAD_JSON"),
        ({"room_alias_name": "a:b"}, "M_INVALID_PARAM"),
        ({"room_alias_name": ""}, "M_INVALID_PARAM"),
        ({"room_alias_name": "x" * 300}, "M_INVALID_PARAM"),
        ({"room_alias_name": "nul\0"}, "M_INVALID_PARAM"),
        ({"room_alias_name": 5}, "M_BAD_JSON"),
    ],
)  # fmt: skip
async def test_malformed(new_user: Any, options: Any, errcode: str) -> None:
    await nothing_made(await new_user(), errcode, **options)


async def test_lone_surrogates(new_user: Any) -> None:
    user = await new_user()
    for body in (rb'{"name": "\ud800"}', rb'{"invite": ["@\udfff:tiny.test"]}', rb'{"room_alias_name": "\ud800x"}'):
        await user.request("POST", "/createRoom", content=body, expect=400, errcode="M_NOT_JSON")


async def test_too_large(new_user: Any) -> None:
    user = await new_user()
    await nothing_made(user, "M_TOO_LARGE", 413, name="n" * 70_000)
    await nothing_made(user, "M_TOO_LARGE", 413, creation_content={"x": "n" * 70_000})
    await nothing_made(user, "M_TOO_LARGE", 413, invite=[f"@u{number}:tiny.test" for number in range(501)])
    await nothing_made(
        user, "M_TOO_LARGE", 413, initial_state=[{"type": "t" * 256, "content": {}}], room_alias_name="freed"
    )
    assert await user.create_room(room_alias_name="freed")


async def test_creator_and_version_belong_to_the_server(new_user: Any) -> None:
    user = await new_user()
    room = await user.create_room(room_version="10", creation_content={"creator": BOB, "room_version": "1"})
    create = await user.get_state(room, "m.room.create")
    assert (create["creator"], create["room_version"]) == (user.user_id, "10")
    newer = await user.create_room(room_version="11", creation_content={"creator": BOB})
    assert "creator" not in await user.get_state(newer, "m.room.create")


async def test_alias(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(room_alias_name="pub", preset="public_chat")
    alias = "#pub:tiny.test"
    assert (await alice.get_state(room, "m.room.canonical_alias"))["alias"] == alias
    assert (await bob.join(alias))["room_id"] == room
    await nothing_made(bob, "M_ROOM_IN_USE", room_alias_name="pub")
    types = [event["type"] for event in await timeline_of(alice, room)]
    assert types.index("m.room.canonical_alias") == types.index("m.room.power_levels") + 1


async def test_aliases_in_a_race(new_user: Any) -> None:
    """Requests that share a commit: one gets the alias, the others leave nothing behind."""
    user = await new_user()
    answers = await asyncio.gather(
        *(user.request("POST", "/createRoom", {"room_alias_name": "race"}, expect=(200, 400)) for _ in range(8))
    )
    made = [answer["room_id"] for answer in answers if "room_id" in answer]
    assert len(made) == 1
    assert {answer["errcode"] for answer in answers if "errcode" in answer} == {"M_ROOM_IN_USE"}
    assert (await user.request("GET", "/joined_rooms"))["joined_rooms"] == made


async def test_an_invite_that_fails_undoes_everything(new_user: Any) -> None:
    user = await new_user()
    closed = {"creation_content": {"m.federate": False}, "invite": ["@far:elsewhere.test"]}
    failing = {**closed, "room_alias_name": "undone", "visibility": "public"}
    await nothing_made(user, "M_FORBIDDEN", 403, **failing)
    assert await user.create_room(room_alias_name="undone")


async def test_equal_rooms_are_different_rooms(new_user: Any) -> None:
    """The ID of a version 12 room is a hash: equal requests in one millisecond must not become one room."""
    user = await new_user()
    made = await asyncio.gather(*(user.create_room() for _ in range(12)))
    assert len(set(made)) == 12
    assert set((await user.request("GET", "/joined_rooms"))["joined_rooms"]) == set(made)


async def test_not_federated(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob, creation_content={"m.federate": False, "type": "m.space"})
    create = await bob.get_state(room, "m.room.create")
    assert (create["m.federate"], create["type"]) == (False, "m.space")
    await bob.send(room, "from the same server")


async def test_guests_make_no_rooms(server: Any, connect: Any) -> None:
    nobody = connect(server)
    await nobody.request("POST", "/createRoom", {}, expect=401, errcode="M_MISSING_TOKEN")
