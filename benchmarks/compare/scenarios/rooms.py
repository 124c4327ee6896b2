"""What a new room costs."""

from __future__ import annotations

import time

from ..bench import Bench
from ..results import percentile
from ..user import register_users

_ROOMS = 50


async def create_rooms(bench: Bench) -> None:
    """One user creates rooms one after the other."""
    await bench.server.start()
    (user,) = await register_users(bench.http, 1)
    await user.create_room(bench.options.room_version)
    walls = []
    with bench.server.measure() as spent:
        for _ in range(_ROOMS):
            began = time.perf_counter()
            await user.create_room(bench.options.room_version)
            walls.append(time.perf_counter() - began)
    bench.record("createRoom, p50", percentile(walls, 50) * 1e3, "ms")
    bench.record("createRoom, CPU", spent.cpu / _ROOMS * 1e3, "ms", goal=5)
    bench.record("createRoom, written", spent.written / _ROOMS / 1e3, "kB", goal=60)
