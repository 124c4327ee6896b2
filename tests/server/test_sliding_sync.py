"""Simplified sliding sync over HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from .client import bodies
from .conftest import NewUser
from .harness import TinyServer
from .sliding import LAZY, STABLE, UNSTABLE, SlidingSync, a_list, event_ids, types

Json = Any


async def test_first_answer_and_news(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob, name="Kitchen")
    first = [await alice.send(room, str(number)) for number in range(4)]
    sliding = SlidingSync(bob, lists={"all": a_list(timeline_limit=2, state=[*LAZY, ["m.room.create", ""]])})
    answer = await sliding.sync()
    assert answer["lists"]["all"] == {
        "count": 1,
        "ops": [{"op": "SYNC", "range": [0, 99], "room_ids": [room]}],
    }
    news = answer["rooms"][room]
    assert news["initial"] is True
    assert news["limited"] is True
    assert news["num_live"] == 0
    assert event_ids(news["timeline"]) == first[2:]
    assert news["name"] == "Kitchen"
    assert "heroes" not in news
    assert (news["joined_count"], news["invited_count"]) == (2, 0)
    assert (news["notification_count"], news["highlight_count"]) == (4, 0)
    members = {event["state_key"] for event in news["required_state"] if event["type"] == "m.room.member"}
    assert members == {alice.user_id, bob.user_id}
    assert types(news["required_state"]) == {"m.room.member", "m.room.create"}
    assert not any("room_id" in event for event in [*news["required_state"], *news["timeline"]])
    page = await bob.messages(room, from_=news["prev_batch"], limit=2)
    assert event_ids(reversed(page["chunk"])) == first[:2]
    assert (await sliding.sync())["rooms"] == {}
    sent = await alice.send(room, "news")
    news = (await sliding.sync())["rooms"][room]
    assert event_ids(news["timeline"]) == [sent]
    assert news["num_live"] == 1
    assert "initial" not in news
    assert news["limited"] is False
    assert "required_state" not in news  # the client knows the sender
    assert news["bump_stamp"] > answer["rooms"][room]["bump_stamp"]


async def test_waiting_request_is_answered_at_once(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    other = await alice.create_room()
    sliding = SlidingSync(bob)
    await sliding.sync()
    waiting = asyncio.ensure_future(sliding.sync(30_000))
    await alice.send(other, "not for bob")
    sent = await alice.send(room, "for bob")
    started = time.monotonic()
    answer = await waiting
    assert time.monotonic() - started < 10
    assert event_ids(answer["rooms"][room]["timeline"]) == [sent]


async def test_new_request_ends_the_former(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    sliding = SlidingSync(alice)
    await sliding.sync()
    waiting = asyncio.ensure_future(sliding.ask(60_000))
    while not waiting.done():  # the first of these may overtake it
        answer = await sliding.ask(0)
        assert answer["rooms"] == {}
    assert (await waiting)["pos"] == sliding.pos
    sent = await alice.send(room, "x")
    assert event_ids((await sliding.sync())["rooms"][room]["timeline"]) == [sent]


async def test_lost_answers_are_given_again(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    rooms = [await alice.create_room(bob) for _ in range(3)]
    sliding = SlidingSync(bob, lists={"all": a_list(0)})
    lost = await sliding.ask()
    assert list(lost["rooms"]) == [rooms[2]]
    assert list((await sliding.sync())["rooms"]) == [rooms[2]]
    sliding.request["lists"]["all"]["ranges"] = [[0, 1]]
    assert list((await sliding.ask())["rooms"]) == [rooms[1]]  # lost
    sent = await alice.send(rooms[0], "up")
    again = await sliding.sync()
    assert list(again["rooms"]) == [rooms[0]]  # which has pushed the other one out
    assert event_ids(again["rooms"][rooms[0]]["timeline"])[-1] == sent
    sliding.request["lists"]["all"]["ranges"] = [[0, 2]]
    assert list((await sliding.sync())["rooms"]) == [rooms[1]]


async def test_unknown_positions(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    ours, theirs = SlidingSync(alice), SlidingSync(bob)
    await ours.sync()
    await theirs.sync()
    for pos in ("nonsense", theirs.pos, "s1_1.x~1", "s99999999999_0.x~5", "~1", ours.pos + "1"):
        await ours.ask(pos=pos, expect=400, errcode="M_UNKNOWN_POS")
    other = SlidingSync(alice, "other")
    await other.ask(pos=ours.pos, expect=400, errcode="M_UNKNOWN_POS")
    assert (await ours.sync())["rooms"] == {}
    page = await alice.request(
        "GET", f"{alice.room(await alice.create_room())}/messages", params={"from": ours.pos, "dir": "b"}
    )
    assert page["chunk"] == []


async def test_room_that_was_out_of_sight_comes_back_complete(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    rooms = [await alice.create_room(bob) for _ in range(3)]
    sliding = SlidingSync(bob, lists={"all": a_list(2)})
    await sliding.sync()
    sliding.request["lists"] = {"all": a_list(0)}
    await sliding.sync()
    # Rooms 0 and then 1 are on top; room 0 changes while out of sight.
    sent = [await alice.send(rooms[0], "one"), await alice.send(rooms[0], "two")]
    await alice.send(rooms[1], "on top")
    answer = await sliding.sync()
    assert list(answer["rooms"]) == [rooms[1]]
    await alice.send(rooms[1], "still on top")
    await sliding.sync()
    sliding.request["lists"] = {"all": a_list(2)}
    answer = await sliding.sync()
    assert list(answer["rooms"]) == [rooms[0]]
    assert event_ids(answer["rooms"][rooms[0]]["timeline"]) == sent
    assert answer["rooms"][rooms[0]]["num_live"] == 0
    assert "initial" not in answer["rooms"][rooms[0]]


async def test_subscription_expands_timeline_and_state(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob, topic="Soup")
    sent = [await alice.send(room, str(number)) for number in range(8)]
    sliding = SlidingSync(bob, lists={"all": a_list(timeline_limit=1, state=[["m.room.create", ""]])})
    await sliding.sync()
    await sliding.sync()
    state = [["m.room.create", ""], ["m.room.topic", ""], *LAZY]
    sliding.request["room_subscriptions"] = {room: {"timeline_limit": 5, "required_state": state}}
    news = (await sliding.sync())["rooms"][room]
    assert news["unstable_expanded_timeline"] is True
    assert news["limited"] is True
    assert news["num_live"] == 0
    assert event_ids(news["timeline"]) == sent[3:]
    assert types(news["required_state"]) == {"m.room.topic", "m.room.member"}
    assert (await sliding.sync())["rooms"] == {}
    last = await alice.send(room, "last")
    assert event_ids((await sliding.sync())["rooms"][room]["timeline"]) == [last]


async def test_required_state(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room(name="N", topic="T")
    for key in ("a", "b"):
        await alice.put_state(room, "org.example.call", {"k": key}, key)
        await alice.put_state(room, "org.example.other", {"k": key}, key)

    async def state(required: Json) -> set[tuple[str, str]]:
        sliding = SlidingSync(alice, lists={"all": a_list(state=required)})
        events = (await sliding.sync())["rooms"][room].get("required_state", [])
        return {(event["type"], event["state_key"]) for event in events}

    both = {("org.example.call", "a"), ("org.example.call", "b")}
    me = ("m.room.member", alice.user_id)
    assert await state([["org.example.call", "*"]]) == both
    assert await state([["*", "a"]]) == {("org.example.call", "a"), ("org.example.other", "a")}
    assert await state([["m.room.member", "$ME"], ["m.room.name", ""]]) == {me, ("m.room.name", "")}
    assert await state([]) == set()
    everything = await state([["*", "*"]])
    assert everything >= {*both, me, ("m.room.topic", ""), ("m.room.power_levels", "")}
    assert await state([["*", "*"], ["org.example.call", "a"]]) == everything - {("org.example.call", "b")}
    sliding = SlidingSync(alice, lists={"all": a_list(state=[["org.example.call", "*"]])})
    await sliding.sync()
    changed = await alice.put_state(room, "org.example.call", {"k": "new"}, "c")
    await alice.put_state(room, "org.example.other", {"k": "new"}, "c")
    news = (await sliding.sync())["rooms"][room]
    assert event_ids(news["required_state"]) == [changed]


async def test_order_and_filters(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    plain = await alice.create_room(name="Plain one")
    space = await alice.create_room(creation_content={"type": "m.space"}, name="Space")
    encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    secret = await alice.create_room(name="Secret", initial_state=[encryption])
    invite = await bob.create_room(name="Come in")
    await bob.invite(invite, alice)
    await alice.put_state(space, "m.space.child", {"via": ["tiny.test"]}, plain)
    await alice.request("PUT", f"/user/{alice.user_id}/account_data/m.direct", {bob.user_id: [secret]})
    await alice.request("PUT", f"/user/{alice.user_id}/rooms/{plain}/tags/m.favourite", {})
    await alice.send(plain, "up")

    async def rooms(**filters: Json) -> list[str]:
        sliding = SlidingSync(alice, lists={"all": a_list(filters=filters)})
        await sliding.sync()
        return sliding.lists["all"]

    assert await rooms() == [plain, space, invite, secret]
    assert await rooms(is_invite=True) == [invite]
    assert await rooms(is_invited=False) == [plain, space, secret]
    assert await rooms(is_dm=True) == [secret]
    assert await rooms(is_encrypted=True) == [secret]
    assert await rooms(is_encrypted=False) == [plain, space, invite]
    assert await rooms(not_room_types=["m.space"]) == [plain, invite, secret]
    assert await rooms(room_types=["m.space"]) == [space]
    assert await rooms(room_types=[None, "m.space"], not_room_types=[None]) == [space]
    assert await rooms(spaces=[space]) == [plain]
    assert await rooms(tags=["m.favourite"]) == [plain]
    assert await rooms(not_tags=["m.favourite"]) == [space, invite, secret]
    assert await rooms(room_name_like="S") == [space, secret]
    await alice.put_state(plain, "m.room.encryption", encryption["content"])
    assert await rooms(is_encrypted=True) == [plain, secret]


async def test_invite_knock_leave_kick_and_ban(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    sliding = SlidingSync(bob, lists={"all": a_list(state=LAZY)})
    await sliding.sync()
    room = await alice.create_room(name="Kitchen", preset="public_chat")
    await alice.invite(room, bob)
    news = (await sliding.sync())["rooms"][room]
    assert news["initial"] is True
    assert news["name"] == "Kitchen"
    assert types(news["invite_state"]) >= {"m.room.create", "m.room.name", "m.room.member"}
    assert "timeline" not in news
    assert "required_state" not in news
    await bob.join(room)
    news = (await sliding.sync())["rooms"][room]
    assert news["initial"] is True
    assert news["timeline"]
    said = await alice.send(room, "before")
    await bob.leave(room)
    await alice.send(room, "after")
    answer = await sliding.sync()
    news = answer["rooms"][room]
    assert event_ids(news["timeline"])[0] == said
    assert news["timeline"][-1]["content"]["membership"] == "leave"
    assert len(news["timeline"]) == 2
    answer = await sliding.sync()
    assert answer["rooms"] == {}
    assert answer["lists"]["all"]["count"] == 0
    await bob.join(room)
    assert (await sliding.sync())["rooms"][room]["initial"] is True
    await alice.membership("kick", room, bob)
    news = (await sliding.sync())["rooms"][room]
    assert news["timeline"][-1]["content"]["membership"] == "leave"
    await alice.membership("ban", room, bob)
    news = (await sliding.sync())["rooms"][room]
    assert news["required_state"][-1]["content"]["membership"] == "ban"
    assert (await sliding.sync())["lists"]["all"]["count"] == 1  # who is banned can see that
    fresh = SlidingSync(bob, "fresh", lists={"all": a_list()})
    news = (await fresh.sync())["rooms"][room]
    assert news["required_state"][-1]["content"]["membership"] == "ban"
    assert "joined_count" not in news
    closed = await alice.create_room(initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}])
    await bob.request("POST", f"/knock/{closed}", {})
    news = (await sliding.sync())["rooms"][closed]
    assert news["invite_state"][-1]["content"]["membership"] == "knock"
    only_invited = await alice.create_room()
    await alice.invite(only_invited, bob)
    await sliding.sync()
    await alice.membership("kick", only_invited, bob)
    news = (await sliding.sync())["rooms"][only_invited]
    assert news["required_state"][-1]["content"]["membership"] == "leave"
    assert only_invited not in (await SlidingSync(bob, "x").sync())["rooms"]


async def test_rooms_of_others_are_passed_over(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room()
    config = {"timeline_limit": 5, "required_state": [["*", "*"]]}
    sliding = SlidingSync(bob, room_subscriptions={room: config, "!none:x": config, "": config})
    assert (await sliding.sync())["rooms"] == {}


async def test_heroes_dms_and_counts(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await bob.request("PUT", f"/profile/{bob.user_id}/displayname", {"displayname": "Bob"})
    room = await alice.create_room(bob)
    await alice.request("PUT", f"/user/{alice.user_id}/account_data/m.direct", {bob.user_id: [room]})
    sliding = SlidingSync(alice)
    news = (await sliding.sync())["rooms"][room]
    assert news["heroes"] == [{"user_id": bob.user_id, "displayname": "Bob"}]
    assert "name" not in news
    assert news["is_dm"] is True
    await alice.request("PUT", f"/user/{alice.user_id}/account_data/m.direct", {})
    assert (await sliding.sync())["rooms"][room]["is_dm"] is False
    sent = await bob.send(room, "hi")
    assert (await sliding.sync())["rooms"][room]["notification_count"] == 1
    await alice.receipt(room, sent)
    news = (await sliding.sync())["rooms"][room]
    assert news["notification_count"] == 0
    assert "timeline" not in news
    await alice.put_state(room, "m.room.name", {"name": "Us"})
    assert (await sliding.sync())["rooms"][room]["name"] == "Us"


async def test_stable_form(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(name="N", topic="T")
    invite = await bob.create_room()
    await bob.invite(invite, alice)
    include = [{"type": "m.room.topic"}, {"state_key": alice.user_id}]
    exclude = [{"type": "m.room.power_levels"}]
    asked = {"timeline_limit": 1, "required_state": {"include": include, "exclude": exclude, "lazy_members": True}}
    body: Json = {"conn_id": "c", "lists": {"all": {"range": [0, 9], **asked}}, "set_presence": "offline"}
    answer = await alice.request("POST", STABLE, body)
    assert answer["lists"] == {"all": {"count": 2}}
    news = answer["rooms"][room]
    assert news["membership"] == "join"
    assert news["lists"] == ["all"]
    assert "notification_count" not in news
    assert types(news["required_state"]) == {"m.room.topic", "m.room.member"}
    assert answer["rooms"][invite]["membership"] == "invite"
    assert answer["rooms"][invite]["stripped_state"]
    await alice.put_state(room, "m.room.name", {})
    body |= {"pos": answer["pos"], "timeout": 1000}
    answer = await alice.request("POST", STABLE, body)
    assert answer["rooms"][room]["name"] is None
    body["lists"]["all"] |= {"timeline_limit": 3}
    answer = await alice.request("POST", STABLE, body | {"pos": answer["pos"]})
    assert answer["rooms"][room]["expanded_timeline"] is True
    await alice.request("POST", STABLE, {"set_presence": "asleep"}, expect=400)


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({"lists": {"a": {"ranges": [[0, 1]]}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"timeline_limit": 1001}}}, "M_INVALID_PARAM"),
        ({"lists": {"a": {"timeline_limit": -1}}}, "M_INVALID_PARAM"),
        ({"lists": {"a": {"timeline_limit": 1, "ranges": [[5, 1]]}}}, "M_INVALID_PARAM"),
        ({"lists": {"a" * 65: {"timeline_limit": 1}}}, "M_INVALID_PARAM"),
        ({"lists": {str(number): {"timeline_limit": 1} for number in range(101)}}, "M_INVALID_PARAM"),
        ({"lists": {"a": {"timeline_limit": 1, "required_state": [["a", "b", "c"]]}}}, "M_BAD_JSON"),
        ({"conn_id": "x" * 65}, "M_INVALID_PARAM"),
        ({"extensions": {"to_device": {"enabled": True, "since": "soon"}}}, "M_INVALID_PARAM"),
        ([], "M_BAD_JSON"),
    ],
)
async def test_bad_requests(new_user: NewUser, body: Json, errcode: str) -> None:
    alice = await new_user("alice")
    await alice.request("POST", UNSTABLE, body, expect=400, errcode=errcode)


async def test_goes_on_after_a_restart(new_user: NewUser, fresh_server: TinyServer) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    rooms = [await alice.create_room(bob) for _ in range(2)]
    sliding = SlidingSync(bob, lists={"all": a_list(state=LAZY)})
    await sliding.sync()
    sent = await alice.send(rooms[0], "while away")
    await asyncio.to_thread(fresh_server.restart)
    answer = await sliding.sync()
    assert event_ids(answer["rooms"][rooms[0]]["timeline"]) == [sent]
    assert list(answer["rooms"]) == [rooms[0]]
    assert "initial" not in answer["rooms"][rooms[0]]
    # What was not stored yet when the power failed is not known: the client begins anew.
    new = SlidingSync(bob, "new")
    await new.sync()
    await asyncio.to_thread(fresh_server.kill)
    await asyncio.to_thread(fresh_server.start)
    await new.ask(expect=400, errcode="M_UNKNOWN_POS")
    assert (await sliding.sync())["rooms"] == {}


async def test_bodies_are_right(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    event_id = await alice.send(room, "original", txn="mine")
    sliding = SlidingSync(alice)
    event = (await sliding.sync())["rooms"][room]["timeline"][-1]
    assert event["unsigned"]["transaction_id"] == "mine"
    assert event["unsigned"]["membership"] == "join"
    edit = {"rel_type": "m.replace", "event_id": event_id}
    await alice.send(room, {"body": "* new", "m.new_content": {"body": "new"}, "m.relates_to": edit})
    timeline = (await SlidingSync(alice, "again").sync())["rooms"][room]["timeline"]
    assert timeline[-2]["unsigned"]["m.relations"]["m.replace"]["content"]["body"] == "* new"
    assert bodies(timeline) == ["original", "* new"]


async def test_very_many_rooms_come_with_several_answers(new_user: NewUser) -> None:
    alice = await new_user("alice")
    rooms = [await alice.create_room() for _ in range(50)]
    sliding = SlidingSync(alice, lists={"all": a_list(None, timeline_limit=100)})
    first = await sliding.sync()
    assert first["lists"]["all"]["count"] == 50
    assert 0 < len(first["rooms"]) < 50
    while (await sliding.sync(0))["rooms"]:
        pass
    assert set(sliding.rooms) == set(rooms)


async def test_a_device_has_a_limited_number_of_connections(new_user: NewUser) -> None:
    alice = await new_user("alice")
    first = SlidingSync(alice, "0")
    await first.sync()
    others = [SlidingSync(alice, str(number)) for number in range(1, 11)]
    for other in others:
        await other.sync()
    await first.ask(expect=400, errcode="M_UNKNOWN_POS")
    for other in others:
        await other.sync()


async def test_overlapping_lists_and_subscriptions_are_joined(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room(name="N", topic="T")
    lists = {
        "names": a_list(timeline_limit=1, state=[["m.room.name", ""]]),
        "topics": a_list(timeline_limit=3, state=[["m.room.topic", ""]]),
        "none": a_list(filters={"is_dm": True}),
    }
    sliding = SlidingSync(alice, lists=lists)
    sliding.request["room_subscriptions"] = {room: {"timeline_limit": 2, "required_state": [["m.room.create", ""]]}}
    answer = await sliding.sync()
    assert {name: each["count"] for name, each in answer["lists"].items()} == {"names": 1, "topics": 1, "none": 0}
    news = answer["rooms"][room]
    assert len(news["timeline"]) == 3
    assert types(news["required_state"]) == {"m.room.name", "m.room.topic", "m.room.create"}
    # State that is not wanted any more is not kept up, and comes again when it is.
    del lists["topics"]
    await sliding.sync()
    changed = await alice.put_state(room, "m.room.topic", {"topic": "U"})
    await sliding.sync()
    lists["topics"] = a_list(timeline_limit=1, state=[["m.room.topic", ""]])
    assert event_ids((await sliding.sync())["rooms"][room]["required_state"]) == [changed]
