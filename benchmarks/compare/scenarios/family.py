"""A family's evening: ten people with two devices each, all devices long-polling, a given number of messages a second.

Rooms: one of all ten (two of nine messages), four of five, three of two. Before every third message its sender is seen
typing; after every message two of the others (one in a room of two) send a read receipt at the same time. Messages are
sent at fixed times, whether the server keeps up or not, but never more than MOST_IN_FLIGHT at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..bench import Bench
from ..results import percentile
from ..server import BenchmarkError
from ..user import User, mark_of, register_users, several

MOST_IN_FLIGHT = 200
_WARM_UP_SECONDS = 4.0
_DRAIN_SECONDS = 30.0
_FILTER = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 20}}}


async def family_calm(bench: Bench) -> None:
    await _family(bench, rate=5)


async def family_busy(bench: Bench) -> None:
    await _family(bench, rate=20)


@dataclass
class _Room:
    room_id: str
    members: list[User]


@dataclass
class _Load:
    """What was sent when, and what arrived; a message is known by its mark."""

    sent_at: dict[str, tuple[float, str]] = field(default_factory=dict)
    owed: dict[str, int] = field(default_factory=dict)
    sends: list[float] = field(default_factory=list)
    deliveries: list[float] = field(default_factory=list)

    def arrived(self, user: User, answer: dict[str, Any]) -> None:
        """Note the messages of others that stand in a sync answer."""
        now = time.perf_counter()
        for room in answer.get("rooms", {}).get("join", {}).values():
            for event in room.get("timeline", {}).get("events", ()):
                mark = mark_of(event)
                if mark not in self.sent_at:
                    continue
                began, sender = self.sent_at[mark]
                if sender != user.user_id:
                    self.deliveries.append(now - began)
                    self.owed[mark] -= 1
                    if not self.owed[mark]:
                        del self.owed[mark]


async def _family(bench: Bench, rate: int) -> None:
    await bench.server.start()
    users = await register_users(bench.http, 10)
    second_devices = await several(4, [user.another_device for user in users])
    rooms = await _make_rooms(bench, users)
    before = await bench.server.database_bytes_at_rest()
    await bench.server.start()
    load = _Load()
    positions = await several(4, [partial(_first_sync, d) for d in (*users, *second_devices)])
    polls = [asyncio.create_task(_poll(load, *position)) for position in positions]
    try:
        dice = random.Random(rate)
        warm_up = await _talk(load, rooms, rate, _WARM_UP_SECONDS, dice)
        await _drained(load, polls)
        load.sends.clear()
        load.deliveries.clear()
        with bench.server.measure() as spent:
            sent = await _talk(load, rooms, rate, bench.options.seconds, dice)
            memory = bench.server.memory()
            await _drained(load, polls)
    finally:
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
    _record(bench, load, rate, sent, spent.wall, spent.cpu, spent.written)
    bench.record(f"family, {rate} messages/s, RSS", memory.rss / 1e6, "MB", goal=90 if rate == 20 else None)
    bench.record(f"family, {rate} messages/s, PSS", memory.pss / 1e6, "MB")
    grown = await bench.server.database_bytes_at_rest() - before
    bench.record(f"family, {rate} messages/s, database bytes per message", grown / (warm_up + sent), "B", goal=600)


def _record(bench: Bench, load: _Load, rate: int, sent: int, wall: float, cpu: float, written: int) -> None:
    what = f"family, {rate} messages/s"
    busy = rate == 20
    bench.record(f"{what}, achieved", sent / wall, "messages/s", more_is_better=True)
    bench.record(f"{what}, send latency p50", percentile(load.sends, 50) * 1e3, "ms", goal=5)
    bench.record(f"{what}, send latency p95", percentile(load.sends, 95) * 1e3, "ms")
    bench.record(f"{what}, delivery latency p50", percentile(load.deliveries, 50) * 1e3, "ms")
    bench.record(f"{what}, delivery latency p95", percentile(load.deliveries, 95) * 1e3, "ms")
    bench.record(f"{what}, CPU per 1,000 messages", cpu / sent * 1e3, "s", goal=5)
    bench.record(f"{what}, written per message", written / sent / 1e3, "kB", goal=10 if busy else None)


async def _make_rooms(bench: Bench, users: list[User]) -> list[_Room]:
    """All rooms; that of everybody stands in the list twice, as it is chosen twice as often."""
    version = bench.options.room_version
    groups = [users, users[:5], users[5:], users[::2], users[1::2], *([users[i], users[i + 5]] for i in range(3))]
    rooms = [_Room(await group[0].create_room(version, *group[1:]), group) for group in groups]
    return [*rooms, rooms[0]]


async def _first_sync(device: User) -> tuple[User, str, str]:
    filter_id = await device.add_filter(_FILTER)
    answer = await device.sync(None, 0, filter_id)
    return device, filter_id, answer["next_batch"]


async def _poll(load: _Load, device: User, filter_id: str, since: str) -> None:
    """What a client does all day."""
    while True:
        answer = await device.sync(since, 30_000, filter_id)
        since = answer["next_batch"]
        load.arrived(device, answer)


async def _talk(load: _Load, rooms: list[_Room], rate: int, seconds: float, dice: random.Random) -> int:
    """Send `rate` messages a second and what belongs to them; how many messages were acknowledged."""
    before = len(load.sends)
    began = time.perf_counter()
    running: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            while len(running) >= MOST_IN_FLIGHT:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            room = dice.choice(rooms)
            sender, *readers = dice.sample(room.members, min(3, len(room.members)))
            task = group.create_task(_say(load, room, sender, readers, typing=number % 3 == 0))
            running.add(task)
            task.add_done_callback(running.discard)
    return len(load.sends) - before


async def _say(load: _Load, room: _Room, sender: User, readers: list[User], *, typing: bool) -> None:
    if typing:
        await sender.type(room.room_id, True)
    mark = str(len(load.sent_at))
    began = time.perf_counter()
    load.owed[mark] = 2 * (len(room.members) - 1)
    load.sent_at[mark] = (began, sender.user_id)
    event_id = await sender.send(room.room_id, mark)
    load.sends.append(time.perf_counter() - began)
    await asyncio.gather(*(reader.read(room.room_id, event_id) for reader in readers))


async def _drained(load: _Load, polls: list[asyncio.Task[None]]) -> None:
    """Wait until every message stands in every other device's sync; BenchmarkError if it does not get there."""
    end = time.perf_counter() + _DRAIN_SECONDS
    while load.owed:
        for poll in polls:
            if poll.done():
                poll.result()
        if time.perf_counter() > end:
            raise BenchmarkError(f"{sum(load.owed.values())} deliveries of {len(load.owed)} messages never came")
        await asyncio.sleep(0.05)
