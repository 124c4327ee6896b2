"""Sticky events: for a while they reach whoever follows the room or comes into it, past gaps and filters."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Client, joined
from .conftest import NewUser
from .harness import TinyServer
from .sliding import STABLE, SlidingSync, a_list

STICKY, TTL = "msc4354_sticky", "msc4354_sticky_duration_ttl_ms"
KEY = "org.matrix.msc4354.sticky_duration_ms"
EXTENSION = "org.matrix.msc4354.sticky_events"
FEW = {"filter": {"room": {"timeline": {"limit": 3}}}}


async def stick(user: Client, room: str, text: str = "here", duration: int = 600_000, *, name: str = KEY) -> str:
    path = f"{user.room(room)}/send/org.example.member/{user.transaction()}"
    answer = await user.request("PUT", path, {"text": text}, params={name: duration})
    return str(answer["event_id"])


def section(answer: dict[str, Any], room: str) -> list[Any]:
    found: list[Any] = joined(answer, room).get(STICKY, {}).get("events", [])
    return found


async def test_past_a_gap_and_past_a_filter(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    await bob.sync_on(**FEW)
    shown = await stick(alice, room)
    answer = await bob.sync_on(**FEW)
    (event,) = joined(answer, room)["timeline"]["events"]
    assert (event["event_id"], event[STICKY]) == (shown, {"duration_ms": 600_000})
    assert 500_000 < event["unsigned"][TTL] <= 600_000
    assert section(answer, room) == []

    hidden = await stick(alice, room, "before a gap", name="sticky_duration_ms")
    for number in range(5):
        await alice.send(room, f"{number}")
    answer = await bob.sync_on(**FEW)
    assert joined(answer, room)["timeline"]["limited"]
    (event,) = section(answer, room)
    assert (event["event_id"], event["content"]) == (hidden, {"text": "before a gap"})
    assert 500_000 < event["unsigned"][TTL] <= 600_000
    assert section(await bob.sync_on(**FEW), room) == []

    only_names = {"filter": {"room": {"timeline": {"types": ["m.room.name"]}}}}
    filtered = await stick(alice, room, "filtered")
    assert [each["event_id"] for each in section(await bob.sync_on(timeout=5000, **only_names), room)] == [filtered]
    everything = await bob.sync(**only_names)
    assert [each["event_id"] for each in section(everything, room)] == [shown, hidden, filtered]

    await alice.redact(room, hidden)
    assert [each["event_id"] for each in section(await bob.sync(**only_names), room)] == [shown, filtered]
    assert STICKY not in await bob.request("GET", f"{bob.room(room)}/event/{hidden}")


async def test_who_comes_later_and_what_is_over(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(preset="public_chat", initial_state=[hidden_history()])
    lasting = await stick(alice, room, "lasting")
    await stick(alice, room, "short", duration=1)
    await stick(alice, room, "not at all", duration=0)
    await bob.sync_on()
    await bob.join(room)
    answer = await bob.sync_on()
    assert [each["event_id"] for each in section(answer, room)] == [lasting]
    ignored = {"ignored_users": {alice.user_id: {}}}
    await bob.request("PUT", f"/user/{bob.user_id}/account_data/m.ignored_user_list", ignored)
    assert section(await bob.sync(), room) == []


def hidden_history() -> dict[str, Any]:
    return {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}


async def test_state_and_delayed_events(server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    path = f"{alice.room(room)}/state/org.example.state/"
    first = await alice.request("PUT", path, {"n": 1}, params={KEY: 60_000})
    second = await alice.request("PUT", path, {"n": 1}, params={KEY: 60_000})
    assert first != second, "it sticks anew"
    await alice.sync_on()
    delayed = {KEY: 60_000, "org.matrix.msc4140.delay": 1}
    await alice.request("PUT", f"{alice.room(room)}/send/org.example.later/x", {"n": 2}, params=delayed)

    def later(answer: dict[str, Any]) -> Any:
        return [each for each in joined(answer, room).get("timeline", {}).get("events", []) if STICKY in each]

    (event,) = await alice.sync_until(later)
    assert (event["type"], event[STICKY]) == ("org.example.later", {"duration_ms": 60_000})


@pytest.mark.parametrize("duration", [-1, 3_600_001, "long"])
async def test_bad_durations(server: TinyServer, new_user: NewUser, duration: Any) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    for more in ({}, {"org.matrix.msc4140.delay": 1000}):
        for path in ("send/org.example/x", "state/org.example/x"):
            await alice.request(
                "PUT",
                f"{alice.room(room)}/{path}",
                {},
                params={KEY: duration, **more},
                expect=400,
                errcode="M_INVALID_PARAM",
            )


def extension(name: str = EXTENSION, **more: Any) -> dict[str, Any]:
    return {name: {"enabled": True, **more}}


def by_room(answer: dict[str, Any], name: str = EXTENSION) -> dict[str, list[str]]:
    rooms = answer["extensions"].get(name, {}).get("rooms", {})
    return {room: [each["content"]["text"] for each in found["events"]] for room, found in rooms.items()}


async def test_sliding_sync(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    first, second = await alice.create_room(bob), await alice.create_room(bob)
    third = await alice.create_room(preset="public_chat")
    for room in (first, second, third):
        await stick(alice, room, "one")
        await alice.send(room, "newer")
    sync = SlidingSync(bob, lists={"one": a_list(last=0, timeline_limit=1)}, extensions=extension())
    answer = await sync.sync()
    assert by_room(answer) == {first: ["one"], second: ["one"]}
    since = answer["extensions"][EXTENSION]["next_batch"]
    sync.request["extensions"] = extension(since=since)
    assert EXTENSION not in (await sync.sync())["extensions"]
    await stick(alice, first, "two")  # also of a room that is shown: it is in the timeline then
    answer = await sync.until(lambda answer: answer["rooms"].get(first, {}).get("timeline"))
    assert answer[-1]["content"] == {"text": "two"}
    await stick(alice, second, "three")
    await alice.send(second, "newer")
    answer = await sync.sync()
    found = by_room(answer) or {}
    assert found.get(second) == ["three"]
    since = answer["extensions"][EXTENSION]["next_batch"]
    await bob.join(third)
    sync.request["extensions"] = extension(since=since)
    assert by_room(await sync.sync())[third] == ["one"]

    body = {"extensions": extension("sticky_events", limit=2)}
    seen: set[tuple[str, str]] = set()
    while True:
        answer = await bob.request("POST", STABLE, body)
        if "sticky_events" not in answer["extensions"]:
            break
        seen |= {(where, text) for where, texts in by_room(answer, "sticky_events").items() for text in texts}
        since = answer["extensions"]["sticky_events"]["next_batch"]
        body = {"extensions": extension("sticky_events", limit=2, since=since)}
    assert seen == {(first, "one"), (first, "two"), (second, "one"), (second, "three"), (third, "one")}
    body = {"extensions": extension("sticky_events", since="nonsense")}
    await bob.request("POST", STABLE, body, expect=400, errcode="M_INVALID_PARAM")


async def test_over_a_restart(fresh_server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    event_id = await stick(alice, room, duration=3_600_000)
    for number in range(5):
        await alice.send(room, f"{number}")
    fresh_server.kill()
    fresh_server.start()
    (event,) = section(await alice.sync(**FEW), room)
    assert event["event_id"] == event_id
    assert 3_000_000 < event["unsigned"][TTL] < 3_600_000
