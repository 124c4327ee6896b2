"""What it costs that twenty devices wait and nothing happens."""

from __future__ import annotations

import asyncio

from ..bench import Bench
from ..user import User, json_filter, register_users, several

_SETTLE = 10.0
_FILTER = json_filter({"room": {"state": {"lazy_load_members": True}}})


async def idle_polls(bench: Bench) -> None:
    """Ten users with two devices long-poll (30 s) in one room, after everything has settled."""
    await bench.server.start()
    users = await register_users(bench.http, 10)
    devices = [*users, *await several(4, [user.another_device for user in users])]
    await users[0].create_room(bench.options.room_version, *users[1:])
    polls = [asyncio.create_task(_poll(device)) for device in devices]
    try:
        await asyncio.sleep(_SETTLE)
        with bench.server.measure() as spent:
            await asyncio.sleep(bench.options.seconds * 2)
        for poll in polls:
            if poll.done():
                poll.result()
    finally:
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
    bench.record("20 idle long-polls, CPU per minute", spent.cpu / spent.wall * 60, "s", goal=0.1)


async def _poll(device: User) -> None:
    since = None
    while True:
        since = (await device.sync(since, 30_000, _FILTER))["next_batch"]
