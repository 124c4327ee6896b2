"""A room with thousands of members of this server."""

from __future__ import annotations

import time
from functools import partial
from urllib.parse import quote

from ..bench import Bench
from ..results import percentile
from ..user import User, register_users, several

_MESSAGES = 30


async def big_room(bench: Bench) -> None:
    """Everybody joins a public room; then one member sends messages one after the other, as in a room of two before."""
    members = bench.options.members
    await bench.server.start()
    users = await register_users(bench.http, members)
    small = await users[0].create_room(bench.options.room_version, users[1])
    await _sends(bench, users[0], small, "room of 2 members")
    body = {"preset": "public_chat", "room_version": bench.options.room_version}
    room = quote((await users[0].call("POST", "/createRoom", body))["room_id"], safe="")
    with bench.server.measure() as spent:
        await several(4, (partial(user.join, room) for user in users[1:]))
    joins = members - 1
    bench.record(f"room of {members:,} members, joins", joins / spent.wall, "joins/s", more_is_better=True)
    bench.record(f"room of {members:,} members, join, CPU", spent.cpu / joins * 1e3, "ms")
    bench.record(f"room of {members:,} members, join, written", spent.written / joins / 1e3, "kB")
    await _sends(bench, users[0], room, f"room of {members:,} members")
    bench.record(f"room of {members:,} members, RSS", bench.server.memory().rss / 1e6, "MB")


async def _sends(bench: Bench, user: User, room: str, what: str) -> None:
    for _ in range(3):
        await user.send(room)
    walls = []
    with bench.server.measure() as spent:
        for _ in range(_MESSAGES):
            began = time.perf_counter()
            await user.send(room)
            walls.append(time.perf_counter() - began)
    bench.record(f"{what}, send, p50", percentile(walls, 50) * 1e3, "ms")
    bench.record(f"{what}, send, CPU", spent.cpu / _MESSAGES * 1e3, "ms")
    bench.record(f"{what}, send, written", spent.written / _MESSAGES / 1e3, "kB")
