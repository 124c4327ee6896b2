"""A client with many rooms: sliding sync that looks at twenty, first and with news; then first syncs of all of them."""

from __future__ import annotations

import time
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

from ..bench import Bench
from ..results import percentile
from ..user import User, register_users, several
from .initial_sync import measure_first_syncs

_PATH = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
_MEMBERS = 5
_MESSAGES = 10
_DEVICES = 5
_NEWS = 30
_PAGES = 20
_STATE = [
    ["m.room.create", ""],
    ["m.room.encryption", ""],
    ["m.room.name", ""],
    ["m.room.avatar", ""],
    ["m.room.canonical_alias", ""],
    ["m.room.power_levels", ""],
    ["m.room.join_rules", ""],
    ["m.room.member", "$LAZY"],
    ["m.room.member", "$ME"],
    ["m.space.child", "*"],
    ["org.matrix.msc3401.call.member", "*"],
]
"""About what Element X asks for."""


async def sliding_sync(bench: Bench) -> None:
    """Two hundred rooms: new devices ask for the first time; then one has messages one after the other."""
    await _many_rooms(bench, 200, goal=100)


async def sliding_sync_big(bench: Bench) -> None:
    """The same with one more room, which has thousands of members."""
    await _many_rooms(bench, 200, goal=100, with_big_room=True)


async def _many_rooms(bench: Bench, count: int, goal: float | None, *, with_big_room: bool = False) -> None:
    await bench.server.start()
    users = await register_users(bench.http, _MEMBERS)
    rooms = await several(2, [partial(_new_room, bench.options.room_version, users, i) for i in range(count)])
    if with_big_room:
        rooms.append(await _big_room(bench, users[:2]))
        what = f"{count} rooms and one of {bench.options.members:,} members"
    else:
        what = f"{count} rooms"
    await several(20, (partial(users[n % 2].send, room) for n in range(_MESSAGES) for room in rooms))
    await bench.server.stop()
    await bench.server.start()
    before = bench.server.memory().rss
    devices = [await users[0].another_device() for _ in range(_DEVICES)]
    walls = []
    answer: dict[str, Any] = {}
    with bench.server.measure() as spent:
        for device in devices:
            began = time.perf_counter()
            answer = await _ask(device, None)
            walls.append(time.perf_counter() - began)
            assert len(answer["rooms"]) == 20, f"{len(answer['rooms'])} rooms"
            assert answer["lists"]["all"]["count"] == len(rooms), "a room is missing"
    bench.record(f"sliding sync, {what}, first answer after a start", walls[0] * 1e3, "ms", goal=goal)
    bench.record(f"sliding sync, {what}, first answer, p50", percentile(walls, 50) * 1e3, "ms")
    bench.record(f"sliding sync, {what}, first answer, CPU", spent.cpu / _DEVICES * 1e3, "ms")
    grown = bench.server.memory().rss - before
    bench.record(f"sliding sync, {what}, memory for {_DEVICES} devices", grown / 1e6, "MB", goal=10)
    await _news(bench, users[1], devices[-1], answer, rooms, what)
    lazily = {"timeline": {"limit": 10}, "state": {"lazy_load_members": True}}
    await measure_first_syncs(bench, users[0], f"{what}, lazily", lazily, len(rooms), 10)
    await measure_first_syncs(bench, users[0], what, {"timeline": {"limit": 10}}, len(rooms), 10)
    await _back(bench, users[0], rooms[-1], what)


async def _back(bench: Bench, user: User, room: str, what: str) -> None:
    """Pages of twenty messages backwards, in the room with the most members if there is a big one."""
    walls = []
    with bench.server.measure() as spent:
        for _ in range(_PAGES):
            began = time.perf_counter()
            answer = await user.call("GET", f"/rooms/{room}/messages?dir=b&limit=20")
            walls.append(time.perf_counter() - began)
            assert len(answer["chunk"]) >= _MESSAGES, "messages are missing"
    bench.record(f"/messages, {what}, page of 20, p50", percentile(walls, 50) * 1e3, "ms")
    bench.record(f"/messages, {what}, page of 20, CPU", spent.cpu / _PAGES * 1e3, "ms")


async def _news(bench: Bench, sender: User, device: User, answer: dict[str, Any], rooms: list[str], what: str) -> None:
    """Messages in rooms far down the list, each followed by a request."""
    asked = [await _ask(device, answer["pos"])]
    walls = []
    with bench.server.measure() as spent:
        for room in rooms[:_NEWS]:
            await sender.send(room)
            began = time.perf_counter()
            asked.append(await _ask(device, asked[-1]["pos"]))
            walls.append(time.perf_counter() - began)
            assert unquote(room) in asked[-1]["rooms"], "the message is missing"
    bench.record(f"sliding sync, {what}, news, p50", percentile(walls, 50) * 1e3, "ms")
    bench.record(f"sliding sync, {what}, message and news, CPU", spent.cpu / _NEWS * 1e3, "ms")


async def _ask(device: User, pos: str | None) -> dict[str, Any]:
    listed = {"ranges": [[0, 19]], "timeline_limit": 1, "required_state": _STATE}
    extensions = {name: {"enabled": True} for name in ("account_data", "receipts", "typing")}
    body = {
        "conn_id": "room-list",
        "lists": {"all": {**listed, "filters": {"not_room_types": ["m.space"]}}},
        "extensions": extensions,
    }
    path = _PATH + ("" if pos is None else f"?pos={pos}&timeout=10000")
    found: dict[str, Any] = await device.http.request("POST", path, body, device.token)
    return found


async def _new_room(version: str, users: list[User], number: int) -> str:
    return await users[0].create_room(version, *users[1 : 2 + number % (_MEMBERS - 1)])


async def _big_room(bench: Bench, users: list[User]) -> str:
    body = {"preset": "public_chat", "room_version": bench.options.room_version}
    room = quote((await users[0].call("POST", "/createRoom", body))["room_id"], safe="")
    members = await register_users(bench.http, bench.options.members - len(users), "member")
    await several(4, (partial(member.join, room) for member in [*users[1:], *members]))
    return room
