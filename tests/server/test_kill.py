"""Kill -9 under load, again and again: whatever was acknowledged is there afterwards, once.

`TINYSERVER_KILLS=200` kills as often, at other moments in every run; without it there are a few kills at moments that
a fixed seed chooses.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from .client import Client, Json, joined, timeline
from .harness import TinyServer

KILLS = int(os.environ.get("TINYSERVER_KILLS", "15"))
SEED = None if "TINYSERVER_KILLS" in os.environ else 20
ROOMS = 4
WRITERS_PER_USER = 3
ACKNOWLEDGED_BETWEEN_KILLS = (90, 140)
COUNTER = "org.example.counter"
TYPES = ("m.room.message", COUNTER)


def key_of(event: Json) -> str:
    """What tells one sent event from all others, however often it was sent."""
    content: Json = event["content"]
    return str(content["body"] if event["type"] == "m.room.message" else f"{event['state_key']}={content['n']}")


class Power:
    """Whether the server is on; everybody waits here while it is off."""

    def __init__(self) -> None:
        self.on = asyncio.Event()
        self.on.set()
        self.retries = 0

    async def insist(self, request: Callable[[], Awaitable[Any]]) -> Any:
        """Repeat the same request until it is answered."""
        while True:
            await self.on.wait()
            try:
                return await request()
            except httpx.TransportError:
                # The connection broke: the server is dead, though nobody may have noticed so far.
                self.retries += 1
                await asyncio.sleep(0.01)


class Ledger:
    """What the server has acknowledged, and what it was asked for without an answer so far."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, dict[str, str]] = {}  # room -> key -> event ID
        self.latest: dict[tuple[str, ...], int] = {}  # what has one value -> the last number acknowledged
        self.attempted: dict[tuple[str, ...], int] = {}
        self.count = 0
        self.grown = asyncio.Condition()

    async def sent(self, room: str, key: str, event_id: str) -> None:
        assert key not in self.acknowledged.setdefault(room, {})
        self.acknowledged[room][key] = event_id
        await self.note()

    async def put(self, name: tuple[str, ...], number: int) -> None:
        self.latest[name] = number
        await self.note()

    async def note(self) -> None:
        self.count += 1
        async with self.grown:
            self.grown.notify_all()

    async def until(self, count: int) -> None:
        async with self.grown:
            await self.grown.wait_for(lambda: self.count >= count)

    def possible(self, name: tuple[str, ...], number: int) -> bool:
        """Whether the value may be this: not older than the acknowledged one, and really sent."""
        return self.latest.get(name, 0) <= number <= self.attempted.get(name, 0)


class Writer:
    """One user's program that sends into all rooms, one request after the other, until it is told to stop."""

    def __init__(
        self, user: Client, number: int, rooms: list[str], power: Power, ledger: Ledger, chance: random.Random
    ) -> None:
        self.name = f"{user.localpart}-{number}"
        self.client = user
        self.reads = number == 0  # one writer of each user, so that its receipts only move forward
        self.rooms = rooms
        self.power = power
        self.ledger = ledger
        self.random = random.Random(chance.random())
        self.last_sent: dict[str, tuple[int, str]] = {}
        self.stopped = False

    async def run(self) -> None:
        number = 0
        while not self.stopped:
            number += 1
            room = self.random.choice(self.rooms)
            action = self.random.choices((self.message, self.state, self.account_data, self.receipt), (6, 2, 1, 1))[0]
            await action(room, number)

    async def message(self, room: str, number: int) -> None:
        key = f"{self.name}-{number}"
        event_id = await self.power.insist(lambda: self.client.send(room, key, txn=key))
        self.last_sent[room] = (number, event_id)
        await self.ledger.sent(room, key, event_id)

    async def state(self, room: str, number: int) -> None:
        # Repeated state without a change is no new event, so this is idempotent as well.
        name = ("state", room, self.name)
        self.ledger.attempted[name] = number
        event_id = await self.power.insist(lambda: self.client.put_state(room, COUNTER, {"n": number}, self.name))
        self.ledger.latest[name] = number
        await self.ledger.sent(room, f"{self.name}={number}", event_id)

    async def account_data(self, room: str, number: int) -> None:
        user = f"/user/{self.client.user_id}"
        where, path = self.random.choice((("", user), (room, f"{user}/rooms/{room}")))
        name = ("account_data", self.client.user_id, where, f"org.example.{self.name}")
        self.ledger.attempted[name] = number
        path = f"{path}/account_data/org.example.{self.name}"
        await self.power.insist(lambda: self.client.request("PUT", path, {"n": number}))
        await self.ledger.put(name, number)

    async def receipt(self, room: str, number: int) -> None:
        if not self.reads or room not in self.last_sent:
            return
        sent, event_id = self.last_sent[room]
        name = ("receipt", self.client.user_id, room)
        self.ledger.attempted[name] = sent
        await self.power.insist(lambda: self.client.receipt(room, event_id))
        await self.ledger.put(name, sent)


class Watcher:
    """A client that syncs on from its own last token, whatever happens, and keeps all that it is given."""

    def __init__(self, client: Client, rooms: list[str], power: Power) -> None:
        self.client = client
        self.power = power
        self.seen: dict[str, list[str]] = {room: [] for room in rooms}
        self.rounds = 0

    async def begin(self) -> None:
        await self.client.sync_on()

    async def round(self, timeout: int = 2000) -> None:
        before = self.client.since
        answer = await self.power.insist(
            lambda: self.client.sync(before, timeout, filter={"room": {"timeline": {"limit": 100}}})
        )
        for room in self.seen:
            events = timeline(answer, room)
            part = joined(answer, room).get("timeline", {})
            if part.get("limited"):
                events = await self._gap(room, part["prev_batch"], before) + events
            self.seen[room] += [event["event_id"] for event in events]
        self.client.since = answer["next_batch"]
        self.rounds += 1

    async def _gap(self, room: str, start: str, end: str | None) -> list[Json]:
        found: list[Json] = []
        token: str | None = start
        while token is not None:
            page = await self.power.insist(
                lambda token=token: self.client.messages(room, dir="b", from_=token, to=end, limit=100)
            )
            found += page["chunk"]
            token = page.get("end") if page["chunk"] else None
        return found[::-1]


async def history(client: Client, room: str, direction: str) -> list[Json]:
    """All events of a room by `/messages`, oldest first."""
    found: list[Json] = []
    token = None
    while True:
        page = await client.messages(room, dir=direction, from_=token, limit=200)
        found += page["chunk"]
        token = page.get("end")
        if token is None:
            return found if direction == "f" else found[::-1]


def check_file(server: TinyServer, directory: Path) -> None:
    """SQLite's own check, on a copy of what the dead server left, so that the server finds it as it was."""
    directory.mkdir()
    for name in ("tinyserver.db", "tinyserver.db-wal"):
        if (server.data_dir / name).exists():
            shutil.copy(server.data_dir / name, directory / name)
    connection = sqlite3.connect(directory / "tinyserver.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    shutil.rmtree(directory)


async def check_rooms(client: Client, rooms: list[str], ledger: Ledger) -> dict[str, list[Json]]:
    """Every acknowledged event stands in its room once and under its ID, nothing stands there twice."""
    found = {}
    for room in rooms:
        events = await history(client, room, "b")
        ids = [event["event_id"] for event in events]
        assert len(set(ids)) == len(ids), "an event came twice"
        counted = Counter(key_of(event) for event in events if event["type"] in TYPES)
        assert not [key for key, count in counted.items() if count > 1], "sent once, stored twice"
        by_key = {key_of(event): event["event_id"] for event in events if event["type"] in TYPES}
        lost = {key for key, event_id in ledger.acknowledged.get(room, {}).items() if by_key.get(key) != event_id}
        assert not lost, f"acknowledged, but lost: {sorted(lost)}"
        found[room] = events
    return found


async def check_values(clients: list[Client], ledger: Ledger, found: dict[str, list[Json]]) -> None:
    """State, account data and receipts are what was acknowledged, or what was asked for after that."""
    answers = {client.user_id: await client.sync() for client in clients}
    for name in ledger.latest:
        kind = name[0]
        if kind == "state":
            number = (await clients[0].get_state(name[1], COUNTER, name[2]))["n"]
        elif kind == "account_data":
            _, user, room, data_type = name
            client = next(client for client in clients if client.user_id == user)
            path = f"/user/{user}" + (f"/rooms/{room}" if room else "") + f"/account_data/{data_type}"
            number = (await client.request("GET", path))["n"]
        else:
            _, user, room = name
            number = _receipt(answers[user], room, user, found[room])
        assert ledger.possible(name, number), (name, number, ledger.latest[name], ledger.attempted.get(name))


def _receipt(answer: Json, room: str, user: str, events: list[Json]) -> int:
    """The number in the body of the message that the user has read."""
    for event in joined(answer, room)["ephemeral"]["events"]:
        if event["type"] == "m.receipt":
            for event_id, kinds in event["content"].items():
                if user in kinds.get("m.read", {}):
                    body = next(event["content"]["body"] for event in events if event["event_id"] == event_id)
                    return int(body.rpartition("-")[2])
    raise AssertionError(f"no receipt of {user}")


async def test_kill_under_load(fresh_server: TinyServer, new_user: Callable[..., Any], tmp_path: Path) -> None:
    server, chance = fresh_server, random.Random(SEED)
    users = [await new_user(name) for name in ("alice", "bob", "carol")]
    rooms = [
        await users[0].create_room(*users[1:], power_level_content_override={"state_default": 0}) for _ in range(ROOMS)
    ]
    power, ledger = Power(), Ledger()
    writers = [
        Writer(user, number, rooms, power, ledger, chance) for user in users for number in range(WRITERS_PER_USER)
    ]
    watchers = []
    for user in users:
        device = await user.another_device()
        watchers.append(Watcher(device, rooms, power))
        await watchers[-1].begin()
    before = {room: [event["event_id"] for event in await history(users[0], room, "f")] for room in rooms}

    async def watch(watcher: Watcher) -> None:
        while not finished.is_set():
            await watcher.round()

    finished = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(writer.run()) for writer in writers]
        watching = [tasks.create_task(watch(watcher)) for watcher in watchers]
        for kill in range(KILLS):
            await ledger.until(ledger.count + chance.randint(*ACKNOWLEDGED_BETWEEN_KILLS))
            await asyncio.sleep(chance.random() * 0.01)  # somewhere in the middle of something
            power.on.clear()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(check_file, server, tmp_path / f"{kill}")
            await asyncio.to_thread(server.start)
            found = await check_rooms(users[0], rooms, ledger)
            await check_values(users, ledger, found)
            power.on.set()
        for writer in writers:
            writer.stopped = True
        await asyncio.gather(*working)
        finished.set()
        await asyncio.gather(*watching)
    for watcher in watchers:
        await watcher.round(timeout=0)

    await check_everything(users, rooms, ledger, watchers, before)
    events = sum(len(keys) for keys in ledger.acknowledged.values())
    print(
        f"{KILLS} kills: {events} events and {ledger.count - events} other writes acknowledged, "
        f"{power.retries} requests repeated, {sum(watcher.rounds for watcher in watchers)} syncs"
    )
    assert power.retries > KILLS, "the kills hit nothing"
    for watcher in watchers:
        await watcher.client.close()
    server.stop()
    check_file(server, tmp_path / "end")


async def check_everything(
    users: list[Client], rooms: list[str], ledger: Ledger, watchers: list[Watcher], before: dict[str, list[str]]
) -> None:
    """When all is said: nothing but what was acknowledged, in one order for everybody."""
    found = await check_rooms(users[0], rooms, ledger)
    ledger.attempted = dict(ledger.latest)
    await check_values(users, ledger, found)
    for room, events in found.items():
        keys = {key_of(event) for event in events if event["type"] in TYPES}
        assert keys == set(ledger.acknowledged[room])
        order = [event["event_id"] for event in events]
        assert [event["event_id"] for event in await history(users[1], room, "f")] == order
        assert order[: len(before[room])] == before[room]
        for watcher in watchers:
            assert watcher.seen[room] == order[len(before[room]) :], "sync gave another order, something twice, or not"
        stamps = [event["origin_server_ts"] for event in events]
        assert stamps == sorted(stamps)


async def test_a_new_name_reaches_every_room(fresh_server: TinyServer, new_user: Callable[..., Any]) -> None:
    """Whatever of it a pulled plug interrupts is done after the next start."""
    alice = await new_user("alice")
    rooms = [await alice.create_room() for _ in range(60)]

    async def names() -> list[str | None]:
        states = [await alice.get_state(room, "m.room.member", alice.user_id) for room in rooms]
        return [state.get("displayname") for state in states]

    path = f"/profile/{quote(alice.user_id)}/displayname"
    changing = asyncio.create_task(alice.raw("PUT", path, {"displayname": "New"}))
    while (await alice.request("GET", path, expect=(200, 404))).get("displayname") != "New":
        pass
    await asyncio.to_thread(fresh_server.kill)
    await asyncio.gather(changing, return_exceptions=True)
    await asyncio.to_thread(fresh_server.start)
    assert await names() == ["New"] * len(rooms)
