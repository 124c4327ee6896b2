"""Events that are sent after a while, unless somebody says otherwise."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import quote

from ..federation.peers.eventually import eventually
from .client import Client
from .conftest import MakeServer, NewUser
from .harness import TinyServer

UNSTABLE = "/_matrix/client/unstable/org.matrix.msc4140"
EVENTS = UNSTABLE + "/delayed_events"
CALL_MEMBER = "org.matrix.msc3401.call.member"
DELAY = "org.matrix.msc4140.delay"


async def later(client: Client, room: str, delay: int, body: str = "later", *, txn: str | None = None) -> str:
    path = f"{client.room(room)}/send/m.room.message/{txn or client.transaction()}"
    content = {"msgtype": "m.text", "body": body}
    answer = await client.request("PUT", path, content, params={DELAY: delay})
    return str(answer["delay_id"])


async def leave_later(client: Client, room: str, delay: int) -> str:
    path = f"{client.room(room)}/state/{CALL_MEMBER}/{quote('_' + client.user_id + '_D', safe='')}"
    return str((await client.request("PUT", path, {}, params={DELAY: delay}))["delay_id"])


async def act(client: Client, delay_id: str, action: str, **expectation: Any) -> Any:
    return await client.request("POST", f"{EVENTS}/{delay_id}/{action}", **expectation)


async def test_what_is_scheduled_is_sent_and_never_early(new_user: NewUser, server: TinyServer) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    await bob.sync_on()
    began = time.monotonic()
    delay_id = await later(alice, room, 700, "hello", txn="once")
    assert await later(alice, room, 700, "hello", txn="once") == delay_id
    (listed,) = (await alice.request("GET", EVENTS))["delayed_events"]
    assert (listed["delay_id"], listed["room_id"], listed["type"], listed["delay"]) == (
        *(delay_id, room, "m.room.message"),
        700,
    )
    assert listed["content"] == {"msgtype": "m.text", "body": "hello"}
    assert (await bob.request("GET", EVENTS)) == {"delayed_events": []}
    event = await bob.sync_until(lambda answer: next(iter(messages(answer, room)), None))
    assert time.monotonic() - began >= 0.7
    assert event["content"]["body"] == "hello"
    shown = await alice.request("GET", f"{alice.room(room)}/event/{quote(event['event_id'])}")
    assert shown["unsigned"]["org.matrix.msc4140.delay_id"] == delay_id
    assert "transaction_id" not in shown["unsigned"]

    async def is_known_as_sent() -> bool:
        known = await alice.request("GET", f"{EVENTS}/{delay_id}")
        return bool(known.get("event_id") == event["event_id"])

    await eventually(is_known_as_sent)
    await bob.request("GET", f"{EVENTS}/{delay_id}", expect=404, errcode="M_NOT_FOUND")


def messages(answer: Any, room: str) -> list[Any]:
    events = answer.get("rooms", {}).get("join", {}).get(room, {}).get("timeline", {}).get("events", [])
    return [event for event in events if event["type"] in ("m.room.message", CALL_MEMBER)]


async def test_a_call_notices_who_is_gone(new_user: NewUser, server: TinyServer, connect: Any) -> None:
    """The leaving is put off as long as somebody says so, with or without a token, and comes when nobody does."""
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob, power_level_content_override={"events": {CALL_MEMBER: 0}})
    key = f"_{bob.user_id}_D"
    await bob.put_state(room, CALL_MEMBER, {"application": "m.call"}, key)
    await alice.sync_on()
    delay_id = await leave_later(bob, room, 1000)
    began = time.monotonic()
    stranger = connect(server)
    while time.monotonic() - began < 1.5:
        await act(bob, delay_id, "restart")
        await act(stranger, delay_id, "restart")
        await asyncio.sleep(0.05)
    assert await alice.get_state(room, CALL_MEMBER, key) == {"application": "m.call"}
    await act(alice, delay_id, "restart", expect=404, errcode="M_NOT_FOUND")
    event = await alice.sync_until(
        lambda answer: next((e for e in messages(answer, room) if e["type"] == CALL_MEMBER and not e["content"]), None)
    )
    assert event["sender"] == bob.user_id
    await act(bob, delay_id, "restart", expect=409, errcode="M_UNKNOWN")


async def test_sending_now_and_cancelling(new_user: NewUser, server: TinyServer) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    first, second = await later(alice, room, 60_000, "first"), await later(alice, room, 60_000, "second")
    for _ in range(2):
        await act(alice, first, "send")
        await alice.request("POST", f"{EVENTS}/{second}", {"action": "cancel"})
    await act(alice, first, "cancel", expect=409)
    await act(alice, second, "send", expect=409)
    await act(alice, second, "restart", expect=409)
    page = await alice.messages(room, limit=5)
    assert [event["content"].get("body") for event in page["chunk"]].count("first") == 1
    assert "second" not in str(page)
    assert (await alice.request("GET", EVENTS)) == {"delayed_events": []}
    assert "event_id" not in await alice.request("GET", f"/_matrix/client/v1/delayed_events/{second}")
    path = f"{UNSTABLE}{alice.room(room)}/delayed_event/org.example.x/{alice.transaction()}"
    newer = await alice.request("PUT", path, {"delay_ms": 50_000, "content": {"a": 1}, "state_key": "k"})
    await alice.request("POST", f"/_matrix/client/v1/delayed_events/{newer['delay_id']}/send")
    assert await alice.get_state(room, "org.example.x", "k") == {"a": 1}


async def test_what_may_not_be_sent_says_why(new_user: NewUser, server: TinyServer) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    path = f"{bob.room(room)}/state/m.room.name/"
    delay_id = (await bob.request("PUT", path, {"name": "mine"}, params={DELAY: 60_000}))["delay_id"]
    await act(bob, delay_id, "send", expect=403, errcode="M_FORBIDDEN")
    assert [each["delay_id"] for each in (await bob.request("GET", EVENTS))["delayed_events"]] == [delay_id]
    soon = (await bob.request("PUT", path, {"name": "mine"}, params={DELAY: 1}))["delay_id"]

    async def told_what_became_of_it() -> Any:
        told = await bob.request("GET", f"{EVENTS}/{soon}")
        return "finalised_ts" in told and told

    told = await eventually(told_what_became_of_it)
    assert told["error"]["errcode"] == "M_FORBIDDEN"


async def test_bad_requests(new_user: NewUser, make_server: MakeServer) -> None:
    server = make_server(config={"delayed_events": {"max_delay": "1h", "max_scheduled": 3}})
    alice, bob = await new_user("alice", server=server), await new_user("bob", server=server)
    room = await alice.create_room()
    path = f"{alice.room(room)}/send/m.room.message/x"
    for delay in ("0", "-5", "x", "1.5"):
        await alice.request("PUT", path, {}, params={DELAY: delay}, expect=400, errcode="M_INVALID_PARAM")
    answer = await alice.request("PUT", path, {}, params={DELAY: 3_600_001}, expect=400, errcode="M_UNKNOWN")
    assert answer["org.matrix.msc4140.errcode"] == "M_MAX_DELAY_EXCEEDED"
    assert answer["org.matrix.msc4140.max_delay"] == 3_600_000
    await bob.request("PUT", path, {}, params={DELAY: 1000}, expect=403, errcode="M_FORBIDDEN")
    delay_id = await later(alice, room, 60_000)
    await alice.request("POST", f"{EVENTS}/{delay_id}", {}, expect=400, errcode="M_MISSING_PARAM")
    await alice.request("POST", f"{EVENTS}/{delay_id}", {"action": 5}, expect=400, errcode="M_INVALID_PARAM")
    await act(alice, "unknown", "cancel", expect=404, errcode="M_NOT_FOUND")
    for _ in range(2):
        await later(alice, room, 60_000)
    await alice.request("PUT", path, {}, params={DELAY: 1000}, expect=429, errcode="M_LIMIT_EXCEEDED")
    capabilities = (await alice.request("GET", "/capabilities"))["capabilities"]
    assert capabilities["m.delayed_events"] == {"max_delay_ms": 3_600_000, "max_scheduled": 3}
    versions = await alice.request("GET", "/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.msc4140"] is True


async def test_pulled_plugs_throw_nobody_out(new_user: NewUser, fresh_server: TinyServer) -> None:
    """What is overdue after a start has some grace, in which it can be begun anew, and is then sent exactly once."""
    alice = await new_user("alice")
    room = await alice.create_room()
    delay_id = await leave_later(alice, room, 300)
    far = await later(alice, room, 3_600_000)
    fresh_server.kill()
    await asyncio.sleep(0.4)  # the delay passes while nobody is there to see it
    fresh_server.start()
    listed = [each["delay_id"] for each in (await alice.request("GET", EVENTS))["delayed_events"]]
    assert sorted(listed) == sorted([delay_id, far])
    await act(alice, delay_id, "restart")

    async def is_sent() -> bool:
        return "event_id" in await alice.request("GET", f"{EVENTS}/{delay_id}")

    await eventually(is_sent)
    fresh_server.kill()
    fresh_server.start()
    await act(alice, far, "send")
    page = await alice.messages(room, limit=50)
    assert sum(event["type"] == CALL_MEMBER for event in page["chunk"]) == 1
