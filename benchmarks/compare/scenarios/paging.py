"""Scrolling back through a long room."""

from __future__ import annotations

import time
from functools import partial

from ..bench import Bench
from ..results import percentile
from ..user import register_users, several

_MESSAGES = 1000
_PAGE = 100
_SCROLLS = 3


async def paging(bench: Bench) -> None:
    """/messages backwards in pages of a hundred, three times through a thousand messages."""
    await bench.server.start()
    (user,) = await register_users(bench.http, 1)
    room = await user.create_room(bench.options.room_version)
    await several(20, (partial(user.send, room) for _ in range(_MESSAGES)))
    walls = []
    with bench.server.measure() as spent:
        for _ in range(_SCROLLS):
            position = ""
            for _ in range(_MESSAGES // _PAGE):
                began = time.perf_counter()
                answer = await user.call("GET", f"/rooms/{room}/messages?dir=b&limit={_PAGE}{position}")
                walls.append(time.perf_counter() - began)
                assert len(answer["chunk"]) == _PAGE, f"a page of {len(answer['chunk'])}"
                position = f"&from={answer['end']}"
    bench.record("/messages, page of 100, p50", percentile(walls, 50) * 1e3, "ms")
    bench.record("/messages, page of 100, CPU", spent.cpu / len(walls) * 1e3, "ms")
