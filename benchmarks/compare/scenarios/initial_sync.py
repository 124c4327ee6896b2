"""The first sync of a device whose user is in fifty rooms of five members with a hundred messages each."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from ..bench import Bench
from ..results import percentile
from ..user import User, json_filter, register_users, several

_ROOMS = 50
_MEMBERS = 5
_MESSAGES = 100
_DEVICES = 5


async def initial_sync(bench: Bench) -> None:
    """Five new devices sync one after the other, first lazily with twenty messages a room, then with all."""
    await bench.server.start()
    users = await register_users(bench.http, _MEMBERS)
    rooms = await several(2, [partial(_new_room, bench.options.room_version, users, i) for i in range(_ROOMS)])
    jobs = ((users[n % _MEMBERS], room) for n in range(_MESSAGES) for room in rooms)
    await several(20, (partial(user.send, room) for user, room in jobs))
    lazily = {"timeline": {"limit": 20}, "state": {"lazy_load_members": True}}
    await measure_first_syncs(bench, users[0], "50 rooms x 20 messages, lazily", lazily, _ROOMS, 20, goal=40)
    everything = {"timeline": {"limit": _MESSAGES}}
    await measure_first_syncs(bench, users[0], "50 rooms x 100 messages", everything, _ROOMS, _MESSAGES)


async def _new_room(version: str, users: list[User], number: int) -> str:
    first = number % _MEMBERS
    return await users[first].create_room(version, *(user for user in users if user is not users[first]))


async def measure_first_syncs(
    bench: Bench,
    user: User,
    what: str,
    room_filter: dict[str, Any],
    rooms: int,
    events: int,
    *,
    goal: float | None = None,
) -> None:
    """First syncs of new devices one after the other; all must have so many rooms with so many events at least."""
    sync_filter = json_filter({"room": room_filter})
    devices = [await user.another_device() for _ in range(_DEVICES)]
    walls = []
    with bench.server.measure() as spent:
        for device in devices:
            began = time.perf_counter()
            answer = await device.sync(None, 0, sync_filter)
            walls.append(time.perf_counter() - began)
            _check(answer, rooms, events)
    bench.record(f"initial sync, {what}, p50", percentile(walls, 50) * 1e3, "ms")
    bench.record(f"initial sync, {what}, CPU", spent.cpu / _DEVICES * 1e3, "ms", goal=goal)
    bench.record(f"RSS after initial syncs, {what}", bench.server.memory().rss / 1e6, "MB")


def _check(answer: dict[str, Any], rooms: int, events: int) -> None:
    """Who leaves rooms or messages out is not faster."""
    found = answer["rooms"]["join"].values()
    assert len(found) == rooms, f"{len(found)} rooms"
    assert all(len(room["timeline"]["events"]) >= events for room in found), "a timeline is not as long as asked for"
