"""Room upgrades between all versions: what moves, what changes, who may."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from .client import Client

VERSIONS = [str(number) for number in range(1, 13)]

FORBIDDEN = {"expect": 403, "errcode": "M_FORBIDDEN"}


@pytest.fixture
async def alice(new_user: Any) -> Client:
    user: Client = await new_user("alice")
    return user


async def upgrade(client: Client, room: str, version: str = "12", **options: Any) -> Any:
    expectation = {key: options.pop(key) for key in ("expect", "errcode") if key in options}
    body = {"new_version": version, **options}
    answer = await client.request("POST", f"{client.room(room)}/upgrade", body, **expectation)
    return answer.get("replacement_room", answer)


async def event_of(client: Client, room: str, event_type: str, state_key: str = "") -> dict[str, Any]:
    events = await client.request("GET", f"{client.room(room)}/state")
    return next(event for event in events if (event["type"], event["state_key"]) == (event_type, state_key))


async def levels_of(client: Client, room: str) -> Any:
    return await client.get_state(room, "m.room.power_levels")


def is_new(version: str) -> bool:
    """Whether creators are above all others."""
    return version == "12"


@pytest.mark.parametrize("old", VERSIONS)
@pytest.mark.parametrize("new", ["1", "6", "9", "11", "12"])
async def test_every_pair(alice: Client, new_user: Any, old: str, new: str) -> None:
    bob = await new_user("bob")
    room = await alice.create_room(bob, room_version=old, name="Home", topic="All of it")
    await alice.put_state(room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await alice.put_state(room, "m.room.server_acl", {"allow": ["*"]})
    await alice.put_state(room, "com.example", {"stays": True})
    replacement = await upgrade(alice, room, new)
    assert replacement != room

    create = await alice.get_state(replacement, "m.room.create")
    assert create["room_version"] == new
    assert create["predecessor"]["room_id"] == room
    tombstone = await event_of(alice, room, "m.room.tombstone")
    assert tombstone["content"]["replacement_room"] == replacement
    assert tombstone["content"]["body"]
    assert create["predecessor"].get("event_id") == (None if is_new(new) else tombstone["event_id"])

    for event_type in ("m.room.name", "m.room.topic", "m.room.encryption", "m.room.server_acl", "m.room.join_rules",
                       "m.room.guest_access", "m.room.history_visibility"):  # fmt: skip
        there = await alice.get_state(room, event_type)
        assert await alice.get_state(replacement, event_type) == there
    await alice.get_state(replacement, "com.example", expect=404, errcode="M_NOT_FOUND")

    levels = await levels_of(alice, replacement)
    if is_new(new):
        assert alice.user_id not in levels["users"]
        assert levels["events"]["m.room.tombstone"] > levels["state_default"]
    else:
        assert levels["users"][alice.user_id] == 100
        assert levels["events"]["m.room.tombstone"] <= 100
    # Who upgraded rules the new room; in the old one nobody talks any more.
    await alice.put_state(replacement, "m.room.power_levels", {**levels, "ban": 60})
    await bob.send(room, "still here?", **FORBIDDEN)
    await bob.membership("invite", room, alice, **FORBIDDEN)
    await bob.join(replacement, **FORBIDDEN)
    await alice.invite(replacement, bob)
    await bob.join(replacement)
    await bob.send(replacement, "here")


async def test_who_may_upgrade(alice: Client, new_user: Any) -> None:
    bob, carol = await new_user("bob"), await new_user("carol")
    room = await alice.create_room(bob, room_version="11")
    await upgrade(bob, room, **FORBIDDEN)
    await upgrade(carol, room, **FORBIDDEN)
    await upgrade(carol, "!unknown:tiny.test", **FORBIDDEN)
    await alice.get_state(room, "m.room.tombstone", expect=404, errcode="M_NOT_FOUND")
    # An administrator of a version 12 room is no creator.
    newer = await alice.create_room(bob)
    levels = await levels_of(alice, newer)
    await alice.put_state(newer, "m.room.power_levels", {**levels, "users": {bob.user_id: 100}})
    await upgrade(bob, newer, **FORBIDDEN)
    await bob.put_state(newer, "m.room.tombstone", {"body": "x", "replacement_room": "!x:y"}, **FORBIDDEN)


async def test_malformed(alice: Client) -> None:
    room = await alice.create_room()
    unsupported = {"expect": 400, "errcode": "M_UNSUPPORTED_ROOM_VERSION"}
    for version in ("13", "", "com.example", "٣"):
        await upgrade(alice, room, version, **unsupported)
    path = f"{alice.room(room)}/upgrade"
    for body in ({}, {"new_version": 12}, {"new_version": None}, {"new_version": "12", "additional_creators": "x"}):
        await alice.request("POST", path, body, expect=400, errcode="M_BAD_JSON")
    for wrong in ("bob", "@bob", "", "@b:c:d:e"):
        await upgrade(alice, room, additional_creators=[wrong], expect=400, errcode="M_INVALID_PARAM")
    await alice.get_state(room, "m.room.tombstone", expect=404, errcode="M_NOT_FOUND")
    assert (await alice.request("GET", "/joined_rooms"))["joined_rooms"] == [room]


async def test_additional_creators(alice: Client, new_user: Any) -> None:
    bob, carol = await new_user("bob"), await new_user("carol")
    room = await alice.create_room(bob, room_version="11", power_level_content_override={
        "users": {alice.user_id: 100, bob.user_id: 100, carol.user_id: 50}
    })  # fmt: skip
    newer = await upgrade(alice, room, additional_creators=[bob.user_id, bob.user_id])
    assert (await alice.get_state(newer, "m.room.create"))["additional_creators"] == [bob.user_id]
    assert (await levels_of(alice, newer))["users"] == {carol.user_id: 50}
    # They are not carried on to the next room, where they administer without being above all.
    newest = await upgrade(alice, newer)
    assert "additional_creators" not in await alice.get_state(newest, "m.room.create")
    assert (await levels_of(alice, newest))["users"] == {bob.user_id: 100, carol.user_id: 50}
    # Versions without such creators ignore the field.
    older = await upgrade(alice, newest, "11", additional_creators=["nonsense"])
    assert "additional_creators" not in await alice.get_state(older, "m.room.create")
    assert (await levels_of(alice, older))["users"] == {alice.user_id: 100, bob.user_id: 100, carol.user_id: 50}


async def test_another_creator_upgrades(alice: Client, new_user: Any) -> None:
    bob = await new_user("bob")
    room = await alice.create_room(bob, creation_content={"additional_creators": [bob.user_id]})
    older = await upgrade(bob, room, "10")
    create = await bob.get_state(older, "m.room.create")
    assert create["creator"] == bob.user_id
    assert (await levels_of(bob, older))["users"] == {alice.user_id: 100, bob.user_id: 100}


async def test_weak_upgraders_lose_nothing(alice: Client, new_user: Any) -> None:
    """Who may upgrade but not encrypt still brings the encryption along."""
    bob = await new_user("bob")
    room = await alice.create_room(bob, room_version="10", name="Quiet")
    await alice.put_state(room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await alice.membership("ban", room, await new_user("carol"))
    levels = await levels_of(alice, room)
    levels["users"][bob.user_id] = 20
    levels["events"]["m.room.tombstone"] = 20
    await alice.put_state(room, "m.room.power_levels", levels)
    replacement = await upgrade(bob, room, "11")
    assert (await bob.get_state(replacement, "m.room.encryption"))["algorithm"] == "m.megolm.v1.aes-sha2"
    assert await levels_of(bob, replacement) == levels
    assert [
        e for e in await bob.request("GET", f"{bob.room(replacement)}/state") if e["content"].get("membership") == "ban"
    ]
    # Too weak to silence the old room, which is no reason to fail.
    await bob.send(room, "last words")


@pytest.mark.parametrize("new", ["10", "12"])
async def test_numbers_of_old_rooms(alice: Client, new_user: Any, new: str) -> None:
    """Texts and fractions, fine in version 5, become what newer versions can hold."""
    bob = await new_user("bob")
    room = await alice.create_room(
        bob,
        room_version="5",
        power_level_content_override={
            "users": {alice.user_id: "100", bob.user_id: 33.7},
            "ban": " +060 ",
            "kick": 44.9,
            "com.example": {"x": 1.5},
            "notifications": {"room": "70"},
        },
    )
    encryption = {"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_ms": 604800000.0, "x": [1.5, 2**60]}
    await alice.put_state(room, "m.room.encryption", encryption)
    replacement = await upgrade(alice, room, new)
    levels = await levels_of(alice, replacement)
    assert levels["users"][bob.user_id] == 33
    assert (levels["ban"], levels["kick"], levels["notifications"]) == (60, 44, {"room": 70})
    assert "com.example" not in levels
    assert await alice.get_state(replacement, "m.room.encryption") == {
        "algorithm": "m.megolm.v1.aes-sha2",
        "rotation_period_ms": 604800000,
        "x": [1, 2**53 - 1],
    }


@pytest.mark.parametrize(
    ("old", "rule", "new", "expected"),
    [
        ("12", "knock_restricted", "12", "knock_restricted"),
        ("12", "knock_restricted", "9", "restricted"),
        ("12", "knock_restricted", "7", "knock"),
        ("12", "knock_restricted", "6", "invite"),
        ("12", "restricted", "8", "restricted"),
        ("12", "restricted", "7", "invite"),
        ("7", "knock", "12", "knock"),
        ("7", "knock", "6", "invite"),
        ("1", "public", "12", "public"),
    ],
)
async def test_join_rules(alice: Client, old: str, rule: str, new: str, expected: str) -> None:
    allow = [{"type": "m.room_membership", "room_id": "!club:tiny.test"}]
    content = {"join_rule": rule} | ({"allow": allow} if "restricted" in rule else {})
    room = await alice.create_room(room_version=old, initial_state=[{"type": "m.room.join_rules", "content": content}])
    copied = await alice.get_state(await upgrade(alice, room, new), "m.room.join_rules")
    assert copied == {"join_rule": expected} | ({"allow": allow} if "restricted" in expected else {})


async def test_bans(alice: Client, new_user: Any) -> None:
    bob, carol = await new_user("bob"), await new_user("carol")
    room = await alice.create_room(bob, preset="public_chat", room_version="11")
    await alice.membership("ban", room, bob, reason="noise")
    await alice.membership("ban", room, carol)
    await alice.membership("unban", room, carol)
    replacement = await upgrade(alice, room)
    assert await alice.get_state(replacement, "m.room.member", bob.user_id) == {"membership": "ban", "reason": "noise"}
    await bob.join(replacement, **FORBIDDEN)
    await carol.join(replacement)


async def test_aliases_and_directory(alice: Client, new_user: Any) -> None:
    bob = await new_user("bob")
    room = await alice.create_room(visibility="public", room_alias_name="moving", room_version="10")
    await alice.request("PUT", f"/directory/room/{quote('#moving-too:tiny.test')}", {"room_id": room})
    names = {"alias": "#moving:tiny.test", "alt_aliases": ["#moving-too:tiny.test"]}
    await alice.put_state(room, "m.room.canonical_alias", names)
    replacement = await upgrade(alice, room)
    for alias in ("#moving:tiny.test", "#moving-too:tiny.test"):
        assert (await bob.request("GET", f"/directory/room/{quote(alias)}"))["room_id"] == replacement
    assert await alice.get_state(replacement, "m.room.canonical_alias") == names
    assert await alice.get_state(room, "m.room.canonical_alias") == {}
    listed = {entry["room_id"] for entry in (await bob.request("GET", "/publicRooms"))["chunk"]}
    assert replacement in listed
    assert room not in listed
    assert (await bob.join("#moving:tiny.test"))["room_id"] == replacement


async def test_upgrade_twice(alice: Client) -> None:
    """The second replacement wins; nothing of the first is half done."""
    room = await alice.create_room(room_alias_name="again")
    first, second = await upgrade(alice, room), await upgrade(alice, room)
    assert first != second
    assert (await alice.get_state(room, "m.room.tombstone"))["replacement_room"] == second
    assert (await alice.request("GET", f"/directory/room/{quote('#again:tiny.test')}"))["room_id"] == first
    chain = await upgrade(alice, second)
    assert (await alice.get_state(chain, "m.room.create"))["predecessor"] == {"room_id": second}


async def test_upgrades_at_once(alice: Client) -> None:
    rooms = await asyncio.gather(*(alice.create_room() for _ in range(4)))
    replacements = await asyncio.gather(*(upgrade(alice, room) for room in rooms))
    assert len({*rooms, *replacements}) == 8


async def test_spaces_and_closed_rooms(alice: Client) -> None:
    content = {"type": "m.space", "m.federate": False, "com.example": 1}
    room = await alice.create_room(room_version="11", creation_content=content)
    await alice.put_state(room, "m.space.child", {"via": ["tiny.test"], "order": "a"}, "!child:tiny.test")
    await alice.put_state(room, "m.space.child", {}, "!removed:tiny.test")
    await alice.put_state(room, "m.space.parent", {"via": ["tiny.test"], "canonical": True}, "!parent:tiny.test")
    replacement = await upgrade(alice, room)
    create = await alice.get_state(replacement, "m.room.create")
    assert (create["type"], create["m.federate"], "com.example" in create) == ("m.space", False, False)
    child = await alice.get_state(replacement, "m.space.child", "!child:tiny.test")
    assert child == {"via": ["tiny.test"], "order": "a"}
    assert (await alice.get_state(replacement, "m.space.parent", "!parent:tiny.test"))["canonical"] is True
    await alice.get_state(replacement, "m.space.child", "!removed:tiny.test", expect=404, errcode="M_NOT_FOUND")


async def test_settings_follow(alice: Client, new_user: Any) -> None:
    bob, carol = await new_user("bob"), await new_user("carol")
    room = await alice.create_room(bob, preset="public_chat")
    for user in (alice, bob):
        path = f"/user/{quote(user.user_id)}/rooms/{quote(room)}/tags/m.favourite"
        await user.request("PUT", path, {"order": 0.5})
    direct = f"/user/{quote(bob.user_id)}/account_data/m.direct"
    await bob.request("PUT", direct, {alice.user_id: [room], "@x:y": ["!other:y"], "junk": 5})
    replacement = await upgrade(alice, room)
    assert (await alice.request("GET", tags_path(alice, replacement)))["tags"] == {"m.favourite": {"order": 0.5}}
    assert (await bob.request("GET", tags_path(bob, replacement)))["tags"] == {}
    await bob.join(replacement)
    await carol.join(replacement)
    assert (await bob.request("GET", tags_path(bob, replacement)))["tags"] == {"m.favourite": {"order": 0.5}}
    assert (await carol.request("GET", tags_path(carol, replacement)))["tags"] == {}
    assert await bob.request("GET", direct) == {alice.user_id: [room, replacement], "@x:y": ["!other:y"], "junk": 5}


async def test_push_rules_follow(alice: Client, new_user: Any) -> None:
    """Whoever muted the old room is not woken by the new one."""
    bob = await new_user("bob")
    room = await alice.create_room(bob, preset="public_chat")
    muted = {"conditions": [{"kind": "event_match", "key": "room_id", "pattern": room}], "actions": []}
    await bob.request("PUT", f"/pushrules/global/override/{quote(room)}", muted)
    await bob.request("PUT", f"/pushrules/global/room/{quote(room)}", {"actions": ["notify"]})
    replacement = await upgrade(alice, room)
    await bob.join(replacement)
    rule = await bob.request("GET", f"/pushrules/global/override/{quote(replacement)}")
    assert rule["conditions"] == [{"kind": "event_match", "key": "room_id", "pattern": replacement}]
    assert rule["actions"] == []
    assert (await bob.request("GET", f"/pushrules/global/room/{quote(replacement)}"))["actions"] == ["notify"]
    await bob.request("GET", f"/pushrules/global/override/{quote(room)}")
    await alice.request("GET", f"/pushrules/global/room/{quote(replacement)}", expect=404, errcode="M_NOT_FOUND")


def tags_path(user: Client, room: str) -> str:
    return f"/user/{quote(user.user_id)}/rooms/{quote(room)}/tags"


async def test_a_room_cannot_name_itself_a_successor(alice: Client, new_user: Any) -> None:
    """Settings follow only where the old room itself says so."""
    mallory = await new_user("mallory")
    room = await alice.create_room()
    await alice.request("PUT", f"{tags_path(alice, room)}/m.favourite", {})
    predecessor = {"room_id": room, "event_id": "$x"}
    trap = await mallory.create_room(preset="public_chat", creation_content={"predecessor": predecessor})
    await alice.join(trap)
    assert (await alice.request("GET", tags_path(alice, trap)))["tags"] == {}
    for junk in (5, None, [], {}, {"room_id": 5}, {"room_id": "nonsense"}):
        odd = await mallory.create_room(preset="public_chat", creation_content={"predecessor": junk})
        await alice.join(odd)
