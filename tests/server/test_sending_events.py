"""Sending messages, state and redactions; transaction IDs; what is too large or not possible in a room version."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from .client import Client

VERSIONS = [str(number) for number in range(1, 13)]
MAX_EVENT_BYTES = 65_536


@pytest.fixture
async def alice(new_user: Any) -> Client:
    user: Client = await new_user("alice")
    return user


async def event_of(client: Client, room: str, event_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = await client.request("GET", f"{client.room(room)}/event/{quote(event_id, safe='')}")
    return answer


async def event_count(client: Client, room: str) -> int:
    return len((await client.messages(room, limit=500))["chunk"])


async def redact(client: Client, room: str, event_id: str, txn: str, content: Any = None, **expectation: Any) -> Any:
    path = f"{client.room(room)}/redact/{quote(event_id, safe='')}/{txn}"
    answer = await client.request("PUT", path, {} if content is None else content, **expectation)
    return answer.get("event_id", answer)


# -- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_send_in_every_version(alice: Client, version: str) -> None:
    room = await alice.create_room(room_version=version)
    content = {"msgtype": "m.text", "body": "Grüße 👋\0", "nested": {"a": [1, None, True, {"b": ""}]}}
    event_id = await alice.send(room, content)
    event = await event_of(alice, room, event_id)
    assert (event["content"], event["sender"], event["room_id"]) == (content, alice.user_id, room)
    assert event["event_id"] == event_id
    odd = await alice.send(room, {}, "com.example/with slash %&?#é")
    assert (await event_of(alice, room, odd))["type"] == "com.example/with slash %&?#é"


@pytest.mark.parametrize("version", VERSIONS)
async def test_numbers(alice: Client, version: str) -> None:
    """Room versions 1 to 5 take any number, later ones only the integers of canonical JSON."""
    room = await alice.create_room(room_version=version)
    for number in (1.5, 1e100, 2**53, -(2**53), 10**30):
        if int(version) < 6:
            event_id = await alice.send(room, {"n": number})
            assert (await event_of(alice, room, event_id))["content"] == {"n": number}
        else:
            await alice.send(room, {"n": [number]}, expect=400, errcode="M_BAD_JSON")
            await alice.put_state(room, "com.example", {"n": number}, expect=400, errcode="M_BAD_JSON")
    await alice.send(room, {"n": 2**53 - 1})


async def test_sending_needs_membership(alice: Client, new_user: Any) -> None:
    bob = await new_user("bob")
    room = await alice.create_room()
    forbidden = {"expect": 403, "errcode": "M_FORBIDDEN"}
    await bob.send(room, **forbidden)
    await bob.put_state(room, "com.example", {}, **forbidden)
    await redact(bob, room, "$event", "t1", **forbidden)
    await bob.send("!unknown:tiny.test", **forbidden)
    await bob.put_state("!unknown:tiny.test", "com.example", {}, **forbidden)
    await alice.invite(room, bob)
    await bob.send(room, **forbidden)
    await bob.send("nonsense", expect=400, errcode="M_INVALID_PARAM")


async def test_power_levels(alice: Client, new_user: Any) -> None:
    bob = await new_user("bob")
    room = await alice.create_room(bob)
    forbidden = {"expect": 403, "errcode": "M_FORBIDDEN"}
    await bob.put_state(room, "m.room.name", {"name": "mine"}, **forbidden)
    await bob.put_state(room, "com.example", {}, **forbidden)
    levels = await alice.get_state(room, "m.room.power_levels")
    await bob.put_state(room, "m.room.power_levels", levels, **forbidden)
    for wrong in ({"users": {"bob": 1}}, {"users": []}, {"ban": "50"}, {"events": {"m.room.name": None}}):
        await alice.put_state(room, "m.room.power_levels", {**levels, **wrong}, expect=400, errcode="M_BAD_JSON")
    levels |= {"events_default": 10, "users": {bob.user_id: 60}}
    await alice.put_state(room, "m.room.power_levels", levels)
    await bob.put_state(room, "m.room.name", {"name": "ours"})
    await bob.put_state(room, "com.example", {}, alice.user_id, **forbidden)
    await bob.put_state(room, "com.example", {"mine": True}, bob.user_id)
    await alice.put_state(room, "m.room.power_levels", {**levels, "users": {bob.user_id: 5}})
    await bob.send(room, **forbidden)


@pytest.mark.parametrize("version", ["1", "6", "12"])
async def test_events_of_the_server_cannot_be_sent(alice: Client, version: str) -> None:
    room = await alice.create_room(room_version=version)
    before = await event_count(alice, room)
    for event_type in ("m.room.create", "m.room.member", "m.room.power_levels"):
        await alice.send(room, {"membership": "join"}, event_type, expect=(200, 400, 403))
    await alice.put_state(room, "m.room.create", {"room_version": version, "x": 1}, expect=(400, 403))
    await alice.put_state(room, "m.room.create", {"creator": "x"}, "other", expect=(400, 403))
    # Without a state key m.room.power_levels is a message that means nothing.
    assert await event_count(alice, room) <= before + 1
    assert "users" in await alice.get_state(room, "m.room.power_levels")


# -- sizes and junk --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1", "12"])
async def test_size_limit(alice: Client, version: str) -> None:
    room = await alice.create_room(room_version=version)
    before = await event_count(alice, room)
    too_large = {"expect": 413, "errcode": "M_TOO_LARGE"}
    await alice.send(room, "x" * MAX_EVENT_BYTES, **too_large)
    await alice.send(room, "é" * (MAX_EVENT_BYTES // 2), **too_large)
    await alice.put_state(room, "com.example", {"x": "x" * MAX_EVENT_BYTES}, **too_large)
    await alice.send(room, {}, "t" * 256, **too_large)
    await alice.send(room, {}, "é" * 128, **too_large)
    await alice.put_state(room, "com.example", {}, "k" * 256, **too_large)
    assert await event_count(alice, room) == before
    await alice.send(room, "x" * 60_000)
    await alice.send(room, {}, "t" * 255)
    await alice.put_state(room, "com.example", {"x": "x" * 60_000}, "k" * 255)


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        (b"", "M_NOT_JSON"),
        (b"{", "M_NOT_JSON"),
        (b'"text"', "M_BAD_JSON"),
        (b"[]", "M_BAD_JSON"),
        (b"null", "M_BAD_JSON"),
        (b'{"a": NaN}', "M_NOT_JSON"),
        (rb'{"a": "\ud800"}', "M_NOT_JSON"),
        (rb'{"\udfff": 1}', "M_NOT_JSON"),
        (b'{"a": "\xed\xa0\x80"}', "M_NOT_JSON"),
        (b'{"a": "\xff"}', "M_NOT_JSON"),
        (b'{"a":' + b"[" * 150 + b"]" * 150 + b"}", "M_BAD_JSON"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "M_BAD_JSON"),
    ],
)
async def test_bodies_that_are_no_content(alice: Client, body: bytes, errcode: str) -> None:
    room = await alice.create_room()
    before = await event_count(alice, room)
    for path in ("send/m.room.message/junk", "state/com.example/key", "state/com.example"):
        await alice.request("PUT", f"{alice.room(room)}/{path}", content=body, expect=400, errcode=errcode)
    assert await event_count(alice, room) == before


async def test_paths_that_are_no_text(alice: Client) -> None:
    room = await alice.create_room()
    for path in ("send/%FF/t", "send/m.x/%ED%A0%80", "state/%ED%A0%80/k", "state/m.x/%C3", "redact/%FF/t"):
        await alice.request("PUT", f"{alice.room(room)}/{path}", {}, expect=(400, 404))
    for odd in ("%00", "%0A", "%F0%9F%91%8B"):
        await alice.request("PUT", f"{alice.room(room)}/send/m.x{odd}/t{odd}", {})
        await alice.request("PUT", f"{alice.room(room)}/state/m.x{odd}/k{odd}", {})


# -- transaction IDs -------------------------------------------------------------------------------


async def test_transaction_ids(alice: Client) -> None:
    room, other = await alice.create_room(), await alice.create_room()
    first = await alice.send(room, "one", txn="t1")
    assert await alice.send(room, "one", txn="t1") == first
    assert await alice.send(room, "something else", txn="t1") == first
    # Another path is another request: a different room, type or endpoint.
    ids = {
        first,
        await alice.send(other, "one", txn="t1"),
        await alice.send(room, {}, "com.example", txn="t1"),
        await redact(alice, room, first, "t1"),
        await alice.send(room, "one", txn="t2"),
    }
    assert len(ids) == 5
    # So is another device, but not the same one with another token.
    second = await alice.another_device()
    assert await second.send(room, "one", txn="t1") not in ids
    again = await alice.another_device(device_id=alice.device_id)
    assert await again.send(room, "one", txn="t2") in ids
    await second.close()
    await again.close()


async def test_transaction_ids_of_redactions(alice: Client) -> None:
    room = await alice.create_room()
    one, two = await alice.send(room, "one"), await alice.send(room, "two")
    first = await redact(alice, room, one, "r")
    assert await redact(alice, room, one, "r") == first
    second = await redact(alice, room, two, "r")
    assert second != first
    assert await redact(alice, room, two, "r") == second
    assert await redact(alice, room, one, "r") == first


async def test_the_same_request_many_times_at_once(alice: Client) -> None:
    room = await alice.create_room()
    before = await event_count(alice, room)
    answers = await asyncio.gather(*(alice.send(room, "once", txn="at-once") for _ in range(20)))
    assert len(set(answers)) == 1
    assert await event_count(alice, room) == before + 1


async def test_transaction_id_of_who_left(alice: Client, new_user: Any) -> None:
    bob = await new_user("bob")
    room = await alice.create_room(bob)
    sent = await bob.send(room, "bye", txn="last")
    await bob.leave(room)
    assert await bob.send(room, "bye", txn="last") == sent
    await bob.send(room, "bye", txn="later", expect=403, errcode="M_FORBIDDEN")


async def test_transaction_ids_that_end_alike(alice: Client) -> None:
    room = await alice.create_room()
    ends = [f"{start}-12345678" for start in ("a", "b", "", "a\0", "é")]
    ids = [await alice.send(room, "x", txn=end) for end in ends]
    assert len(set(ids)) == len(ends)
    assert [await alice.send(room, "x", txn=end) for end in ends] == ids
    await alice.send(room, "x", txn="t" * 255)
    await alice.send(room, "x", txn="t" * 256, expect=400, errcode="M_INVALID_PARAM")


async def test_transaction_ids_outlive_the_server(fresh_server: Any, new_user: Any) -> None:
    user = await new_user("alice", server=fresh_server)
    room = await user.create_room()
    sent = await user.send(room, "one", txn="before")
    redacted = await redact(user, room, sent, "before")
    fresh_server.kill()
    fresh_server.start()
    assert await user.send(room, "one", txn="before") == sent
    assert await redact(user, room, sent, "before") == redacted
    assert len({sent, redacted, await user.send(room, "two", txn="after")}) == 3


# -- state -----------------------------------------------------------------------------------------


async def test_state_paths(alice: Client) -> None:
    room = await alice.create_room()
    path = f"{alice.room(room)}/state/com.example"
    first = (await alice.request("PUT", path, {"n": 1}))["event_id"]
    second = (await alice.request("PUT", path + "/", {"n": 2}))["event_id"]
    third = (await alice.request("PUT", path + "/a%2Fb%20%23", {"n": 3}))["event_id"]
    assert len({first, second, third}) == 3
    assert await alice.get_state(room, "com.example") == {"n": 2}
    assert await alice.get_state(room, "com.example", "a/b #") == {"n": 3}


async def test_setting_the_same_state_again(alice: Client, new_user: Any) -> None:
    bob = await new_user("bob")
    room = await alice.create_room(bob, power_level_content_override={"state_default": 0})
    content = {"a": 1, "b": {"c": [True, "x"]}}
    first = await alice.put_state(room, "com.example", content, "k")
    assert await alice.put_state(room, "com.example", {"b": {"c": [True, "x"]}, "a": 1}, "k") == first
    # What JSON tells apart is different: numbers are not truth.
    changed = await alice.put_state(room, "com.example", {"a": True, "b": {"c": [True, "x"]}}, "k")
    assert changed != first
    assert await alice.put_state(room, "com.example", {"a": 1, "b": {"c": [1, "x"]}}, "k") not in (first, changed)
    last = await alice.put_state(room, "com.example", content, "k")
    assert last != first
    # The same said by somebody else is something new.
    assert await bob.put_state(room, "com.example", content, "k") != last
    empty = await alice.put_state(room, "com.example", {}, "k2")
    assert await alice.put_state(room, "com.example", {}, "k2") == empty


async def test_same_number_in_an_old_room(alice: Client) -> None:
    room = await alice.create_room(room_version="5")
    first = await alice.put_state(room, "com.example", {"n": 1})
    assert await alice.put_state(room, "com.example", {"n": 1.0}) != first


async def test_canonical_alias(alice: Client) -> None:
    await alice.create_room(room_alias_name="other-alias")
    room = await alice.create_room()
    for name in ("alias-one", "alias-two"):
        path = f"/directory/room/{quote(f'#{name}:tiny.test')}"
        await alice.request("PUT", path, {"room_id": room})

    async def put(expect: int = 200, errcode: str | None = None, **content: Any) -> None:
        await alice.put_state(room, "m.room.canonical_alias", content, expect=expect, errcode=errcode)

    one, two = "#alias-one:tiny.test", "#alias-two:tiny.test"
    await put(alias=one, alt_aliases=[two])
    for content in ({"alias": "nonsense"}, {"alt_aliases": ["#nonsense"]}, {"alias": 5}, {"alt_aliases": one}):
        await put(400, "M_INVALID_PARAM", **content)
    await put(400, "M_INVALID_PARAM", alt_aliases=[one, 7])
    await put(400, "M_BAD_ALIAS", alias="#unknown:tiny.test")
    await put(400, "M_BAD_ALIAS", alt_aliases=["#other-alias:tiny.test"])
    await alice.request("DELETE", f"/directory/room/{quote(two)}")
    await put(alias="")
    await put(400, "M_BAD_ALIAS", alias=two)


async def test_aliases_that_were_there_before_are_left_alone(alice: Client) -> None:
    old = {"alias": "#gone:elsewhere.test", "alt_aliases": ["nonsense"]}
    room = await alice.create_room(initial_state=[{"type": "m.room.canonical_alias", "content": old}])
    await alice.put_state(room, "m.room.canonical_alias", {**old, "com.example": 1})
    await alice.put_state(room, "m.room.canonical_alias", {"alias": "#gone:elsewhere.test"})
    worse = {"alias": "#gone:elsewhere.test", "alt_aliases": ["nonsense"]}
    await alice.put_state(room, "m.room.canonical_alias", worse, expect=400, errcode="M_INVALID_PARAM")


# -- redactions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_redaction_in_every_version(alice: Client, new_user: Any, version: str) -> None:
    bob = await new_user("bob")
    room = await alice.create_room(bob, room_version=version)
    mine, yours, third = await bob.send(room, "mine"), await alice.send(room, "yours"), await bob.send(room, "third")
    redaction = await redact(bob, room, mine, "r1", {"reason": "typo", "com.example": 1})
    assert (await event_of(alice, room, mine))["content"] == {}
    shown = await event_of(alice, room, redaction)
    assert shown["content"]["reason"] == "typo"
    assert shown["content"]["com.example"] == 1
    # Clients of all ages find what was redacted.
    assert mine in (shown.get("redacts"), shown["content"].get("redacts"))
    assert (await event_of(alice, room, mine))["unsigned"]["redacted_because"]["event_id"] == redaction
    await redact(bob, room, yours, "r2", expect=403, errcode="M_FORBIDDEN")
    # The other endpoint is no way round.
    by_send = {"redacts": yours, "reason": "sneaky"}
    await bob.send(room, by_send, "m.room.redaction", expect=403, errcode="M_FORBIDDEN")
    assert (await event_of(alice, room, yours))["content"]["body"] == "yours"
    await redact(alice, room, third, "r3")
    assert (await event_of(bob, room, third))["content"] == {}
    own = await alice.send(room, {"redacts": yours}, "m.room.redaction")
    assert (await event_of(bob, room, yours))["content"] == {}
    assert (await event_of(bob, room, yours))["unsigned"]["redacted_because"]["event_id"] == own


async def test_redactions_of_nothing(alice: Client, new_user: Any) -> None:
    room, other = await alice.create_room(), await alice.create_room()
    elsewhere = await alice.send(other, "elsewhere")
    create = (await alice.messages(room, dir="f", limit=1))["chunk"][0]["event_id"]
    missing = {"expect": 404, "errcode": "M_NOT_FOUND"}
    for number, event_id in enumerate(("$unknown", "nonsense", "$" + "a" * 43, elsewhere, "$é\0")):
        await redact(alice, room, event_id, f"n{number}", **missing)
    await redact(alice, room, create, "c", expect=403, errcode="M_FORBIDDEN")
    event_id = await alice.send(room, "here")
    await redact(alice, room, event_id, "r", {"reason": 5}, expect=400, errcode="M_BAD_JSON")
    await alice.send(room, {}, "m.room.redaction", expect=400, errcode="M_BAD_JSON")
    await alice.send(room, {"redacts": 5}, "m.room.redaction", expect=400, errcode="M_BAD_JSON")
    await alice.send(room, {"redacts": "$unknown"}, "m.room.redaction", **missing)
    assert (await event_of(alice, room, event_id))["content"]["body"] == "here"
    # A redaction with an empty body is one without a reason.
    path = f"{alice.room(room)}/redact/{quote(event_id, safe='')}/empty"
    assert (await alice.request("PUT", path, content=b""))["event_id"]


async def test_redacting_state_changes_what_it_says(alice: Client) -> None:
    room = await alice.create_room(name="a secret")
    state = await alice.request("GET", f"{alice.room(room)}/state")
    name = next(event["event_id"] for event in state if event["type"] == "m.room.name")
    await redact(alice, room, name, "r")
    assert await alice.get_state(room, "m.room.name") == {}


async def test_administrators_redact_their_users(alice: Client, new_user: Any) -> None:
    bob, admin = await new_user("bob"), await new_user("admin", admin=True)
    room = await alice.create_room(bob)
    event_id = await bob.send(room, "rude")
    await redact(admin, room, event_id, "r0", expect=403, errcode="M_FORBIDDEN")
    await alice.invite(room, admin)
    await admin.join(room)
    await redact(admin, room, event_id, "r1")
    assert (await event_of(alice, room, event_id))["content"] == {}


# -- annotations -----------------------------------------------------------------------------------


async def test_nobody_reacts_twice(alice: Client, new_user: Any) -> None:
    bob = await new_user("bob")
    room = await alice.create_room(bob)
    event_id = await alice.send(room, "funny")

    def reaction(key: Any) -> Any:
        return {"m.relates_to": {"rel_type": "m.annotation", "event_id": event_id, "key": key}}

    duplicate = {"expect": 400, "errcode": "M_DUPLICATE_ANNOTATION"}
    first = await bob.send(room, reaction("😀"), "m.reaction", txn="laugh")
    assert await bob.send(room, reaction("😀"), "m.reaction", txn="laugh") == first
    await bob.send(room, reaction("😀"), "m.reaction", **duplicate)
    await bob.send(room, reaction("👍"), "m.reaction")
    await bob.send(room, reaction("😀"), "com.example.reaction")
    await alice.send(room, reaction("😀"), "m.reaction")
    await redact(bob, room, first, "sorry")
    await bob.send(room, reaction("😀"), "m.reaction")
    await bob.send(room, reaction("😀"), "m.reaction", **duplicate)
    for odd in (5, None, [], {}, "x" * 70_000):
        await bob.send(room, reaction(odd), "m.reaction", expect=(200, 400, 413))
    for relation in (None, 5, {}, {"rel_type": 5}, {"rel_type": "m.annotation", "event_id": 5}):
        await bob.send(room, {"m.relates_to": relation}, "m.reaction")


@pytest.mark.parametrize("key", ["with_rel_types", "org.matrix.msc3912.with_relations"])
async def test_redacting_related_events_too(alice: Client, new_user: Any, key: str) -> None:
    bob = await new_user("bob")
    room = await alice.create_room(bob)
    target = await bob.send(room, "target")
    relation = {"event_id": target}
    edit = {"body": "* x", "m.new_content": {"body": "x"}, "m.relates_to": {**relation, "rel_type": "m.replace"}}
    edited = await bob.send(room, edit)
    reaction = {"m.relates_to": {**relation, "rel_type": "m.annotation", "key": "x"}}
    reactions = [await each.send(room, reaction, "m.reaction") for each in (alice, bob)]

    async def is_redacted(event_id: str) -> bool:
        event = await alice.request("GET", f"{alice.room(room)}/event/{quote(event_id, safe='')}")
        return "redacted_because" in event["unsigned"]

    await redact(bob, room, target, "wrong", {key: "m.replace"}, expect=400, errcode="M_BAD_JSON")
    await redact(bob, room, target, "t1", {key: ["m.replace"], "reason": "x"})
    assert [await is_redacted(each) for each in (target, edited, *reactions)] == [True, True, False, False]
    other = await bob.send(room, "other")
    reaction["m.relates_to"]["event_id"] = other
    reactions = [await each.send(room, reaction, "m.reaction") for each in (alice, bob)]
    redaction = await redact(bob, room, other, "t2", {key: ["*"]})
    assert redaction == await redact(bob, room, other, "t2", {key: ["*"]})
    assert [await is_redacted(each) for each in (other, *reactions)] == [True, False, True]
