"""How long a start takes, and what a server holds when nobody has talked to it yet."""

from __future__ import annotations

import asyncio
import statistics
from functools import partial

from ..bench import Bench
from ..user import register_users, several

_STARTS = 5
_SETTLE = 5.0


async def start(bench: Bench) -> None:
    """The first start creates the database; then several on the empty database; memory after the last."""
    first = await bench.server.start()
    bench.record("first start, database created, to the first answer", first.wall, "s")
    starts = []
    for _ in range(_STARTS):
        await bench.server.stop()
        starts.append(await bench.server.start())
    bench.record("start on an empty database, to the first answer", _median([s.wall for s in starts]), "s", goal=0.8)
    bench.record("start, CPU", _median([s.cpu for s in starts]), "s")
    await asyncio.sleep(_SETTLE)
    memory = bench.server.memory()
    bench.record("idle after the start, RSS", memory.rss / 1e6, "MB", goal=60)
    bench.record("idle after the start, PSS", memory.pss / 1e6, "MB")


async def preloaded_start(bench: Bench) -> None:
    """Start on a database of `--events` messages in a hundred rooms, sent over HTTP before."""
    await bench.server.start()
    users = await register_users(bench.http, 10)
    rooms = [(user, await user.create_room(bench.options.room_version)) for user in users for _ in range(10)]
    jobs = (rooms[i % len(rooms)] for i in range(bench.options.events))
    await several(50, (partial(user.send, room) for user, room in jobs))
    starts = []
    for _ in range(_STARTS):
        await bench.server.stop()
        starts.append(await bench.server.start())
    label = f"start on a database of {bench.options.events:,} events, to the first answer"
    bench.record(label, _median([s.wall for s in starts]), "s", goal=1.0)
    await asyncio.sleep(_SETTLE)
    bench.record(f"RSS after a start on {bench.options.events:,} events", bench.server.memory().rss / 1e6, "MB")


def _median(values: list[float]) -> float:
    return statistics.median(values)
