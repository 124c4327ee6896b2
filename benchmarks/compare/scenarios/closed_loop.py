"""As many messages as the server takes: twenty senders, each sends its next message when the last one is answered."""

from __future__ import annotations

import asyncio
import time

from ..bench import Bench
from ..results import percentile
from ..user import User, register_users

_SENDERS = 20


async def one_room(bench: Bench) -> None:
    """Twenty users in one room; also what a message leaves in the database."""
    await bench.server.start()
    users = await register_users(bench.http, _SENDERS)
    room = await users[0].create_room(bench.options.room_version, *users[1:])
    places = [(user, room) for user in users]
    await _send_for(places, seconds=1)
    before = await bench.server.database_bytes_at_rest()
    await bench.server.start()
    sent = await _send_for(places, seconds=0) + await _measure(bench, places, "one room")
    grown = await bench.server.database_bytes_at_rest() - before
    bench.record("closed loop, one room, database bytes per message", grown / sent, "B", goal=600)


async def twenty_rooms(bench: Bench) -> None:
    """Twenty users, each in a room of its own."""
    await bench.server.start()
    users = await register_users(bench.http, _SENDERS)
    places = [(user, await user.create_room(bench.options.room_version)) for user in users]
    await _send_for(places, seconds=1)
    await _measure(bench, places, "twenty rooms")


async def _measure(bench: Bench, places: list[tuple[User, str]], where: str) -> int:
    """Record the closed loop's figures; the number of messages sent."""
    walls: list[float] = []
    with bench.server.measure() as spent:
        sent = await _send_for(places, bench.options.seconds / 2, walls)
    what = f"closed loop, {where}"
    bench.record(f"{what}", sent / spent.wall, "messages/s", goal=1000, more_is_better=True)
    bench.record(f"{what}, latency p50", percentile(walls, 50) * 1e3, "ms")
    bench.record(f"{what}, latency p95", percentile(walls, 95) * 1e3, "ms")
    bench.record(f"{what}, CPU per 1,000 messages", spent.cpu / sent * 1e3, "s")
    bench.record(f"{what}, written per message", spent.written / sent / 1e3, "kB")
    return sent


async def _send_for(places: list[tuple[User, str]], seconds: float, walls: list[float] | None = None) -> int:
    """Every sender sends at least once and until the time is up; how many messages were acknowledged."""
    end = time.perf_counter() + seconds
    sent = 0

    async def loop(user: User, room: str) -> None:
        nonlocal sent
        while True:
            began = time.perf_counter()
            await user.send(room)
            sent += 1
            if walls is not None:
                walls.append(time.perf_counter() - began)
            if time.perf_counter() >= end:
                return

    async with asyncio.TaskGroup() as group:
        for user, room in places:
            group.create_task(loop(user, room))
    return sent
