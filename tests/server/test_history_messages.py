"""Pages of a room's history, and what is around an event."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from .client import Client, bodies, timeline
from .conftest import NewUser


async def say(client: Client, room: str, *texts: str) -> list[str]:
    return [await client.send(room, text) for text in texts]


async def test_pages_back_to_the_beginning_and_forward_again(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    said = await say(alice, room, *(f"message {number}" for number in range(25)))

    back: list[dict[str, Any]] = []
    page = await alice.messages(room, limit=10)
    tokens = []
    while True:
        back += page["chunk"]
        if "end" not in page:
            break
        tokens.append(page["end"])
        page = await alice.messages(room, limit=10, from_=page["end"])
        assert page["start"] == tokens[-1]
    assert [event["event_id"] for event in back if event["type"] == "m.room.message"] == said[::-1]
    assert back[-1]["type"] == "m.room.create"
    assert all(event["room_id"] == room and event["unsigned"]["age"] >= 0 for event in back)
    assert all(event["unsigned"]["membership"] == "join" for event in back[:25])

    forward: list[dict[str, Any]] = []
    page = await alice.messages(room, dir="f", limit=10)
    while True:
        forward += page["chunk"]
        if "end" not in page:
            break
        page = await alice.messages(room, dir="f", limit=10, from_=page["end"])
    assert [event["event_id"] for event in forward] == [event["event_id"] for event in back[::-1]]


async def test_sync_tokens_and_bounds(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    await say(alice, room, "one", "two")
    early = (await alice.sync())["next_batch"]
    await say(alice, room, "three", "four")
    late = (await alice.sync())["next_batch"]
    await say(alice, room, "five")

    def texts(page: dict[str, Any]) -> list[str]:
        return bodies(page["chunk"])

    assert texts(await alice.messages(room, from_=late, to=early)) == ["four", "three"]
    assert "end" not in await alice.messages(room, from_=late, to=early)
    assert texts(await alice.messages(room, dir="f", from_=early, to=late)) == ["three", "four"]
    assert texts(await alice.messages(room, dir="f", from_=early)) == ["three", "four", "five"]
    assert texts(await alice.messages(room, from_=early))[:2] == ["two", "one"]

    limited = await alice.sync(filter={"room": {"timeline": {"limit": 1}}})
    assert bodies(timeline(limited, room)) == ["five"]
    before = limited["rooms"]["join"][room]["timeline"]["prev_batch"]
    assert texts(await alice.messages(room, from_=before, limit=2)) == ["four", "three"]


@pytest.mark.parametrize(
    ("params", "errcode"),
    [
        ({"dir": "x"}, "M_INVALID_PARAM"),
        ({}, "M_MISSING_PARAM"),
        ({"dir": "b", "from": "nonsense"}, "M_INVALID_PARAM"),
        ({"dir": "b", "to": "t" + "9" * 40}, "M_INVALID_PARAM"),
        ({"dir": "b", "limit": "many"}, "M_INVALID_PARAM"),
        ({"dir": "b", "limit": -1}, "M_INVALID_PARAM"),
        ({"dir": "b", "filter": "{"}, "M_INVALID_PARAM"),
        ({"dir": "b", "filter": '{"types":"m.room.message"}'}, "M_BAD_JSON"),
        ({"dir": "b", "filter": "[1]"}, "M_BAD_JSON"),
    ],
)
async def test_wrong_queries(new_user: NewUser, params: dict[str, Any], errcode: str) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    await alice.request("GET", f"{alice.room(room)}/messages", expect=400, errcode=errcode, params=params)


async def test_limits(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    await say(alice, room, *(str(number) for number in range(12)))
    assert len((await alice.messages(room))["chunk"]) == 10
    assert len((await alice.messages(room, limit=10**9))["chunk"]) >= 16
    empty = await alice.messages(room, limit=0)
    assert empty["chunk"] == []
    assert len((await alice.messages(room, from_=empty["end"], limit=3))["chunk"]) == 3


async def test_filters(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob, preset="private_chat")
    await say(alice, room, "from alice")
    picture = await bob.send(room, {"msgtype": "m.image", "body": "picture", "url": "mxc://example.org/1"})
    await say(bob, room, "from bob")

    async def found(wanted: dict[str, Any]) -> list[str]:
        page = await alice.request(
            "GET", f"{alice.room(room)}/messages", params={"dir": "b", "limit": 50, "filter": json.dumps(wanted)}
        )
        return bodies(page["chunk"])

    assert await found({"types": ["m.room.message"]}) == ["from bob", "picture", "from alice"]
    assert await found({"senders": [alice.user_id]}) == ["from alice"]
    assert await found({"not_senders": [alice.user_id]}) == ["from bob", "picture"]
    assert await found({"contains_url": True}) == ["picture"]
    assert await found({"types": ["m.room.message"], "contains_url": False}) == ["from bob", "from alice"]
    assert await found({"not_types": ["m.room.*"]}) == []
    assert await found({"not_rooms": [room]}) == []
    assert await found({"types": ["m.room.message"], "limit": 1}) == ["from bob"]
    thumbs_up = {"m.relates_to": {"rel_type": "m.annotation", "event_id": picture, "key": "+1"}}
    await alice.send(room, thumbs_up, "m.reaction")
    assert await found({"related_by_rel_types": ["m.annotation"]}) == ["picture"]
    assert await found({"related_by_senders": [bob.user_id]}) == []


async def test_lazy_members_of_the_senders_only(new_user: NewUser) -> None:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    room = await alice.create_room(bob, carol, preset="private_chat")
    await say(bob, room, "one", "two")
    wanted = {"filter": json.dumps({"lazy_load_members": True, "types": ["m.room.message"]})}
    page = await alice.messages(room, limit=2, **wanted)
    assert [event["state_key"] for event in page["state"]] == [bob.user_id]
    assert "state" not in await alice.messages(room, limit=2)

    event_id = page["chunk"][0]["event_id"]
    context = await alice.request("GET", f"{alice.room(room)}/context/{quote(event_id)}", params=wanted | {"limit": 1})
    members = [event["state_key"] for event in context["state"] if event["type"] == "m.room.member"]
    assert members == []  # the filter's types apply to the state as well
    lazily = {"filter": json.dumps({"lazy_load_members": True}), "limit": 1}
    context = await alice.request("GET", f"{alice.room(room)}/context/{quote(event_id)}", params=lazily)
    members = [event["state_key"] for event in context["state"] if event["type"] == "m.room.member"]
    assert members == [bob.user_id]


async def test_unsigned_of_the_sending_device(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    await alice.send(room, "mine", txn="my-transaction")
    other = await alice.another_device()
    try:
        own = (await alice.messages(room, limit=1))["chunk"][0]
        others = (await other.messages(room, limit=1))["chunk"][0]
    finally:
        await other.close()
    assert own["unsigned"]["transaction_id"] == "my-transaction"
    assert "transaction_id" not in others["unsigned"]


async def test_unsigned_of_changes_and_redactions(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room(name="before")
    await alice.put_state(room, "m.room.name", {"name": "after"})
    page = await alice.messages(room, limit=1)
    renamed = page["chunk"][0]
    assert renamed["unsigned"]["prev_content"] == {"name": "before"}
    assert renamed["unsigned"]["prev_sender"] == alice.user_id
    assert renamed["unsigned"]["replaces_state"].startswith("$")

    said = await alice.send(room, "regretted")
    await alice.redact(room, said, "oops")
    gone = await alice.request("GET", f"{alice.room(room)}/event/{quote(said)}")
    assert gone["content"] == {}
    assert gone["unsigned"]["redacted_because"]["content"]["reason"] == "oops"
    assert gone["unsigned"]["redacted_because"]["redacts"] == said


async def test_context(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    said = await say(alice, room, *(str(number) for number in range(9)))
    path = f"{alice.room(room)}/context/{quote(said[4])}"
    context = await alice.request("GET", path, params={"limit": 4})
    assert context["event"]["event_id"] == said[4]
    assert [event["event_id"] for event in context["events_before"]] == [said[3], said[2]]
    assert [event["event_id"] for event in context["events_after"]] == [said[5], said[6]]
    assert {event["type"] for event in context["state"]} >= {"m.room.create", "m.room.member", "m.room.power_levels"}
    back = await alice.messages(room, from_=context["start"], limit=1)
    assert back["chunk"][0]["event_id"] == said[1]
    forward = await alice.messages(room, dir="f", from_=context["end"], limit=1)
    assert forward["chunk"][0]["event_id"] == said[7]

    alone = await alice.request("GET", path, params={"limit": 0})
    assert alone["events_before"] == alone["events_after"] == []
    assert (await alice.messages(room, from_=alone["start"], limit=1))["chunk"][0]["event_id"] == said[3]
    assert (await alice.messages(room, dir="f", from_=alone["end"], limit=1))["chunk"][0]["event_id"] == said[5]

    await alice.request("GET", f"{alice.room(room)}/context/$nothing", expect=404, errcode="M_NOT_FOUND")


async def test_context_shows_the_state_of_then(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room(name="old")
    said = await alice.send(room, "then")
    await alice.put_state(room, "m.room.name", {"name": "new"})
    context = await alice.request("GET", f"{alice.room(room)}/context/{quote(said)}", params={"limit": 0})
    names = [event["content"]["name"] for event in context["state"] if event["type"] == "m.room.name"]
    assert names == ["old"]


async def test_single_events(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room, other = await alice.create_room(), await alice.create_room()
    said = await alice.send(room, "hello")
    event = await alice.request("GET", f"{alice.room(room)}/event/{quote(said)}")
    assert (event["event_id"], event["room_id"], event["content"]["body"]) == (said, room, "hello")
    assert (await alice.request("GET", f"/events/{quote(said)}"))["event_id"] == said
    for client, path in (
        (bob, f"{alice.room(room)}/event/{quote(said)}"),
        (bob, f"/events/{quote(said)}"),
        (alice, f"{alice.room(other)}/event/{quote(said)}"),
        (alice, f"{alice.room(room)}/event/$unknown"),
        (alice, f"{alice.room('!nowhere:example.org')}/event/{quote(said)}"),
        (alice, "/events/$unknown"),
    ):
        await client.request("GET", path, expect=404, errcode="M_NOT_FOUND")


async def test_strangers_and_peeking(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room()
    said = await alice.send(room, "before")
    path = f"{alice.room(room)}/messages"
    await bob.request("GET", path, expect=403, errcode="M_FORBIDDEN", params={"dir": "b"})
    await bob.request("GET", f"{alice.room(room)}/context/{quote(said)}", expect=403, errcode="M_FORBIDDEN")
    unknown = f"{alice.room('!nowhere:example.org')}/messages"
    await bob.request("GET", unknown, expect=403, errcode="M_FORBIDDEN", params={"dir": "b"})

    await alice.put_state(room, "m.room.history_visibility", {"history_visibility": "world_readable"})
    await alice.send(room, "public")
    page = await bob.messages(room, limit=50)
    assert bodies(page["chunk"]) == ["public"]
    assert page["chunk"][0]["unsigned"]["membership"] == "leave"
    assert {event["type"] for event in await bob.request("GET", f"{alice.room(room)}/state")} >= {"m.room.create"}


async def test_single_events_of_times_when_the_room_was_open(new_user: NewUser) -> None:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    room = await alice.create_room()

    async def say_under(visibility: str) -> str:
        await alice.put_state(room, "m.room.history_visibility", {"history_visibility": visibility})
        said: str = await alice.send(room, visibility)
        return said

    async def may_read(reader: Client) -> list[bool]:
        paths = [f"{alice.room(room)}/event/{quote(event_id)}" for event_id in said]
        return [(await reader.raw("GET", path)).status_code == 200 for path in paths]

    said = [await say_under(visibility) for visibility in ("world_readable", "invited", "shared")]
    await alice.invite(room, bob)
    said += [await say_under(visibility) for visibility in ("invited", "shared", "joined", "invited")]
    assert await may_read(carol) == [True, False, False, False, False, False, False]
    assert await may_read(bob) == [True, False, False, True, False, False, True]
    await bob.leave(room)
    assert await may_read(bob) == [True, False, False, True, False, False, True]
    await bob.request("POST", f"{bob.room(room)}/forget", {})
    assert not any(await may_read(bob))
    for reader in (bob, carol):
        await reader.request("GET", f"{alice.room(room)}/messages", params={"dir": "b"}, expect=403)


async def test_ignored_users_are_left_out(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob, preset="private_chat")
    await say(bob, room, "hey", "you")
    await say(alice, room, "peace")
    ignored = {"ignored_users": {bob.user_id: {}}}
    path = f"/user/{quote(alice.user_id)}/account_data/m.ignored_user_list"
    heard = await bob.send(room, "listen")
    state = await bob.put_state(room, "m.room.member", {"membership": "join", "displayname": "B"}, bob.user_id)
    await alice.request("PUT", path, ignored)
    for single in (f"event/{quote(heard)}", f"context/{quote(heard)}"):
        await alice.request("GET", f"{alice.room(room)}/{single}", expect=404, errcode="M_NOT_FOUND")
    await alice.request("GET", f"{alice.room(room)}/event/{quote(state)}")
    page = await alice.messages(room, limit=50)
    assert bodies(page["chunk"]) == ["peace"]
    assert bob.user_id in [event.get("state_key") for event in page["chunk"]]


async def test_after_leaving(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob, preset="private_chat", name="then")
    await say(alice, room, "while bob is here")
    await bob.leave(room)
    await say(alice, room, "bob has gone")
    await alice.put_state(room, "m.room.name", {"name": "now"})
    page = await bob.messages(room, limit=50)
    assert bodies(page["chunk"]) == ["while bob is here"]
    assert page["chunk"][0]["content"]["membership"] == "leave"
    assert await bob.get_state(room, "m.room.name") == {"name": "then"}
    assert await alice.get_state(room, "m.room.name") == {"name": "now"}
    await bob.request("POST", f"{bob.room(room)}/forget", {})
    await bob.request("GET", f"{bob.room(room)}/messages", expect=403, errcode="M_FORBIDDEN", params={"dir": "b"})
    await bob.request("GET", f"{bob.room(room)}/state/m.room.name", expect=403, errcode="M_FORBIDDEN")
