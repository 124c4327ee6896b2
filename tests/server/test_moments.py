"""Going to a moment in a room's history."""

from __future__ import annotations

from typing import Any

from .client import Client
from .conftest import NewUser

SERVER_CONFIG = {"rate_limits": {"enabled": False}}


async def at(client: Client, room: str, ts: Any, direction: str, **expectation: Any) -> dict[str, Any]:
    path = f"/_matrix/client/v1{client.room(room)}/timestamp_to_event"
    found: dict[str, Any] = await client.request("GET", path, params={"ts": ts, "dir": direction}, **expectation)
    return found


async def test_the_closest_event_in_each_direction(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room, other = await alice.create_room(), await alice.create_room()
    for number in range(30):
        await alice.send(room, str(number))
        await alice.send(other, "in between")
    timeline = (await alice.messages(room, dir="f", limit=100))["chunk"]
    times = [event["origin_server_ts"] for event in timeline]
    assert times == sorted(times)
    for ts in {moment + step for moment in times for step in (-1, 0, 1)}:
        later = [event for event in timeline if event["origin_server_ts"] >= ts]
        earlier = [event for event in timeline if event["origin_server_ts"] <= ts]
        if later:
            found = await at(alice, room, ts, "f")
            wanted = later[0]
            assert found == {"event_id": wanted["event_id"], "origin_server_ts": wanted["origin_server_ts"]}
        else:
            await at(alice, room, ts, "f", expect=404, errcode="M_NOT_FOUND")
        if earlier:
            assert (await at(alice, room, ts, "b"))["event_id"] == earlier[-1]["event_id"]
        else:
            await at(alice, room, ts, "b", expect=404, errcode="M_NOT_FOUND")
    assert (await at(alice, room, 0, "f"))["event_id"] == timeline[0]["event_id"]
    assert (await at(alice, room, 2**70, "b"))["event_id"] == timeline[-1]["event_id"]


async def test_only_what_the_reader_may_see(new_user: NewUser) -> None:
    alice, bob, mallory = await new_user("alice"), await new_user("bob"), await new_user("mallory")
    visibility = {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}
    room = await alice.create_room(initial_state=[visibility])
    hidden = await alice.send(room, "before bob came")
    await alice.invite(room, bob)
    await bob.join(room)
    assert (await at(alice, room, 2**53, "b"))["event_id"] != hidden
    found = await at(bob, room, 0, "f")
    seen = (await bob.messages(room, dir="f", limit=100))["chunk"]
    assert found["event_id"] == seen[0]["event_id"] != hidden
    await at(mallory, room, 0, "f", expect=403, errcode="M_FORBIDDEN")
    await at(alice, room, "x", "f", expect=400, errcode="M_INVALID_PARAM")
    await at(alice, room, 1, "x", expect=400, errcode="M_INVALID_PARAM")
