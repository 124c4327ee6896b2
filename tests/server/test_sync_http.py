"""`/sync` and its predecessors over HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from .client import Client, bodies, joined, timeline
from .conftest import NewUser
from .harness import TinyServer

LAZY = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 5}}}


async def test_conversation(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(name="Kitchen")
    await alice.invite(room, bob)
    invited = await bob.sync_until(lambda answer: answer.get("rooms", {}).get("invite", {}).get(room))
    types = {event["type"] for event in invited["invite_state"]["events"]}
    assert {"m.room.create", "m.room.name", "m.room.member"} <= types
    await bob.join(room)
    news = await bob.sync_until(lambda answer: joined(answer, room))
    assert news["summary"]["m.joined_member_count"] == 2
    await alice.sync_on()
    hello = await bob.send(room, "hello")
    event = await alice.sync_event(room, hello)
    assert event["content"]["body"] == "hello"
    assert event["unsigned"]["membership"] == "join"
    await alice.receipt(room, hello)
    seen = await bob.sync_until(
        lambda answer: [
            each for each in joined(answer, room).get("ephemeral", {}).get("events", ()) if each["type"] == "m.receipt"
        ]
    )
    assert alice.user_id in seen[0]["content"][hello]["m.read"]


async def test_waiting_sync_is_answered_at_once(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    since = (await alice.sync(set_presence="offline"))["next_batch"]
    phone = await alice.another_device()
    first = (await phone.sync(set_presence="offline"))["next_batch"]
    waiting = asyncio.ensure_future(phone.sync(first, timeout=20_000, set_presence="offline"))
    event_id = await alice.send(room, "wake up")
    started = time.monotonic()
    answer = await waiting
    assert time.monotonic() - started < 5
    assert [event["event_id"] for event in timeline(answer, room)] == [event_id]
    await phone.close()
    mine = timeline(await alice.sync(since), room)
    assert "transaction_id" in mine[-1]["unsigned"]
    assert "transaction_id" not in timeline(answer, room)[-1]["unsigned"]


async def test_unread_counts_follow_receipts(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    await bob.join(room)
    await bob.sync_on()
    last = ""
    for number in range(3):
        last = await alice.send(room, str(number))
    counts = joined(await bob.sync_on(), room)["unread_notifications"]
    assert counts == {"notification_count": 3, "highlight_count": 0}
    await bob.receipt(room, last)
    read = await bob.sync_until(lambda answer: joined(answer, room).get("unread_notifications"))
    assert read == {"notification_count": 0, "highlight_count": 0}


async def test_gap_is_filled_by_messages(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    await alice.sync_on()
    sent = [await alice.send(room, str(number)) for number in range(12)]
    news = joined(await alice.sync_on(filter=LAZY), room)["timeline"]
    assert news["limited"] is True
    page = await alice.messages(room, dir="b", limit=7, **{"from": news["prev_batch"]})
    assert [event["event_id"] for event in reversed(page["chunk"])] == sent[:7]
    assert [event["event_id"] for event in news["events"]] == sent[7:]


async def test_leaving_and_forgetting(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    await bob.join(room)
    await bob.sync_on()
    await bob.leave(room)
    assert room in (await bob.sync_on())["rooms"]["leave"]
    archive = {"room": {"include_leave": True}}
    assert room in (await bob.sync(filter=archive))["rooms"]["leave"]
    await bob.request("POST", f"{bob.room(room)}/forget", {})
    assert "rooms" not in await bob.sync(filter=archive)


async def test_account_data_and_stored_filters(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    first = await alice.sync_on()
    assert "m.push_rules" in {event["type"] for event in first["account_data"]["events"]}
    assert first["device_one_time_keys_count"] == {"signed_curve25519": 0}
    assert first["device_unused_fallback_key_types"] == []
    await alice.request("PUT", f"/user/{alice.user_id}/account_data/com.example.note", {"text": "milk"})
    await alice.request("PUT", f"/user/{alice.user_id}/rooms/{room}/tags/u.home", {"order": 0.5})
    news = await alice.sync_on()
    assert news["account_data"]["events"] == [{"type": "com.example.note", "content": {"text": "milk"}}]
    tags = joined(news, room)["account_data"]["events"]
    assert tags == [{"type": "m.tag", "content": {"tags": {"u.home": {"order": 0.5}}}}]
    stored = await alice.request(
        "POST", f"/user/{alice.user_id}/filter", {"room": {"timeline": {"types": ["m.room.message"]}}}
    )
    await alice.send(room, "only this")
    answer = await alice.sync(filter=stored["filter_id"])
    assert {event["type"] for event in timeline(answer, room)} == {"m.room.message"}


async def test_filtered_data_of_rooms_that_are_new_or_left(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(preset="public_chat")
    only_notes = {"room": {"account_data": {"types": ["org.example.note"]}}}
    data = f"/user/{bob.user_id}/rooms/{room}"
    await bob.request("PUT", f"{data}/account_data/org.example.note", {"text": "soon"})
    await bob.request("PUT", f"{data}/tags/u.soon", {})
    await bob.sync_on()
    await bob.join(room)
    assert joined(await bob.sync_on(filter=only_notes), room)["account_data"]["events"] == [
        {"type": "org.example.note", "content": {"text": "soon"}}
    ]
    await bob.leave(room)
    await bob.request("PUT", f"{data}/account_data/org.example.note", {"text": "never again"})
    left = [{"type": "org.example.note", "content": {"text": "never again"}}]
    news = await bob.sync_on(filter=only_notes)
    assert news["rooms"]["leave"][room]["account_data"]["events"] == left
    only_notes["room"]["include_leave"] = True  # type: ignore[assignment]
    archive = await bob.sync(filter=only_notes)
    assert archive["rooms"]["leave"][room]["account_data"]["events"] == left


@pytest.mark.parametrize(
    ("query", "status", "errcode"),
    [
        ({"since": "nonsense"}, 400, "M_INVALID_PARAM"),
        ({"since": "s1_2.x\ud800".encode("utf-8", "replace").decode()}, 400, "M_INVALID_PARAM"),
        ({"since": "s" + "9" * 400}, 400, "M_INVALID_PARAM"),
        ({"timeout": "soon"}, 400, "M_INVALID_PARAM"),
        ({"full_state": "maybe"}, 400, "M_INVALID_PARAM"),
        ({"set_presence": "asleep"}, 400, "M_INVALID_PARAM"),
        ({"filter": "{"}, 400, "M_NOT_JSON"),
        ({"filter": '{"room": 1}'}, 400, "M_BAD_JSON"),
        ({"filter": '{"room": {"timeline": {"limit": -1}}}'}, 400, "M_BAD_JSON"),
        ({"filter": "[" * 5000}, 404, "M_NOT_FOUND"),
        ({"filter": '{"a":' * 3000}, 400, "M_NOT_JSON"),
        ({"filter": "99999"}, 404, "M_NOT_FOUND"),
        ({"filter": "no-number"}, 404, "M_NOT_FOUND"),
    ],
)
async def test_bad_parameters(new_user: NewUser, query: dict[str, Any], status: int, errcode: str) -> None:
    alice = await new_user("alice")
    response = await alice.raw("GET", "/sync", params=query)
    assert (response.status_code, response.json()["errcode"]) == (status, errcode)


async def test_sync_wants_a_token(server: TinyServer, connect: Any) -> None:
    response = await connect(server).raw("GET", "/sync")
    assert (response.status_code, response.json()["errcode"]) == (401, "M_MISSING_TOKEN")


async def test_tokens_survive_being_killed(new_user: NewUser, fresh_server: TinyServer) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    await alice.sync_on()
    sent = []
    for round_number in range(3):
        for number in range(4):
            sent.append(await alice.send(room, f"{round_number}.{number}"))
        fresh_server.kill()
        fresh_server.start()
    news = await alice.sync_on()
    assert [event["event_id"] for event in timeline(news, room)] == sent
    later = await alice.send(room, "after")
    assert [event["event_id"] for event in timeline(await alice.sync_on(), room)] == [later]


async def test_stop_answers_waiting_clients(new_user: NewUser, fresh_server: TinyServer) -> None:
    alice = await new_user("alice")
    since = (await alice.sync())["next_batch"]
    since = (await alice.sync(since))["next_batch"]
    waiting = asyncio.ensure_future(alice.sync(since, timeout=60_000, set_presence="offline"))
    for _ in range(3):  # whoever is answered after the sync was sent shows that it has arrived
        await alice.request("GET", "/account/whoami")
    await asyncio.to_thread(fresh_server.stop)
    answer = await waiting
    assert "rooms" not in answer
    assert answer["next_batch"]


async def test_who_is_logged_out_while_waiting_is_told_no_more(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    async with await bob.another_device() as stolen:
        since = (await stolen.sync())["next_batch"]
        waiting = asyncio.ensure_future(stolen.raw("GET", "/sync", params={"since": since, "timeout": 20_000}))
        body: dict[str, Any] = {"devices": [stolen.device_id]}
        asked = await bob.request("POST", "/delete_devices", body, expect=401)
        user = {"type": "m.id.user", "user": bob.user_id}
        password = {"type": "m.login.password", "identifier": user, "password": bob.password}
        body["auth"] = {**password, "session": asked["session"]}
        assert not waiting.done()
        await bob.request("POST", "/delete_devices", body)
        await alice.send(room, "a secret")
        answer = await waiting
        assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNKNOWN_TOKEN")


async def test_each_event_reaches_every_device_once_under_load(new_user: NewUser) -> None:
    """Several devices follow while several people write into several rooms at once."""
    people = [await new_user(name) for name in ("ann", "ben", "cat")]
    rooms = [await people[0].create_room(*people[1:]) for _ in range(3)]
    for person in people[1:]:
        for room in rooms:
            await person.join(room)
    devices = [*people, *[await person.another_device() for person in people]]
    for device in devices:
        await device.sync_on(filter=LAZY)
    sent: list[str] = []
    finished = asyncio.Event()

    async def write(person: Client) -> None:
        for number in range(25):
            sent.append(await person.send(rooms[number % 3], f"{person.user_id} {number}"))

    async def follow(device: Client) -> list[str]:
        seen: list[str] = []
        while not (finished.is_set() and set(sent) <= set(seen)):
            answer = await device.sync_on(timeout=2_000, filter={"room": {"timeline": {"limit": 50}}})
            for room in rooms:
                assert not joined(answer, room).get("timeline", {}).get("limited", False)
                seen += [event["event_id"] for event in timeline(answer, room)]
        return seen

    following = [asyncio.ensure_future(follow(device)) for device in devices]
    await asyncio.gather(*map(write, people))
    finished.set()
    for seen in await asyncio.wait_for(asyncio.gather(*following), 30):
        assert sorted(seen) == sorted(sent)
    for device in devices[len(people) :]:
        await device.close()


async def test_initial_sync_of_old(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(name="Old")
    await alice.send(room, "hello")
    other = await bob.create_room()
    await bob.invite(other, alice)
    answer = await alice.request("GET", "/initialSync", params={"limit": 2})
    by_id = {found["room_id"]: found for found in answer["rooms"]}
    assert bodies(by_id[room]["messages"]["chunk"])[-1:] == ["hello"]
    assert len(by_id[room]["messages"]["chunk"]) == 2
    assert by_id[room]["membership"] == "join"
    assert by_id[room]["visibility"] == "private"
    assert "m.room.create" in {event["type"] for event in by_id[room]["state"]}
    assert by_id[other]["membership"] == "invite"
    assert by_id[other]["invite"]["content"]["membership"] == "invite"
    event_id = await alice.send(room, "next")
    events = await alice.request("GET", "/events", params={"from": answer["end"], "timeout": 5000})
    assert [event["event_id"] for event in events["chunk"] if "event_id" in event] == [event_id]
    assert events["chunk"][0]["room_id"] == room
    waiting = asyncio.ensure_future(alice.request("GET", "/events", params={"from": events["end"], "timeout": 10_000}))
    await alice.send(room, "and on")
    assert bodies([event for event in (await waiting)["chunk"] if event["type"] == "m.room.message"]) == ["and on"]


async def test_peeking_into_a_room(new_user: NewUser) -> None:
    alice, stranger = await new_user("alice"), await new_user("stranger")
    readable = {
        "type": "m.room.history_visibility",
        "state_key": "",
        "content": {"history_visibility": "world_readable"},
    }
    room = await alice.create_room(initial_state=[readable])
    await alice.send(room, "come and see")
    seen = await stranger.request("GET", f"{stranger.room(room)}/initialSync")
    assert bodies(seen["messages"]["chunk"]) == ["come and see"]
    assert "membership" not in seen
    path = {"from": seen["messages"]["end"], "timeout": 10_000, "room_id": room}
    waiting = asyncio.ensure_future(stranger.request("GET", "/events", params=path))
    await alice.send(room, "more")
    assert bodies((await waiting)["chunk"]) == ["more"]
    private = await alice.create_room()
    refused = await stranger.raw("GET", f"{stranger.room(private)}/initialSync")
    assert (refused.status_code, refused.json()["errcode"]) == (403, "M_FORBIDDEN")
