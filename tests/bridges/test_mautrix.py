"""mautrix as a bridge: ghosts, portals, and every event in order exactly once, whoever is killed when.

`TINYSERVER_KILLS=100` kills as often, at other moments in every run.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..server.client import Client, Json
from ..server.conftest import NewUser
from ..server.harness import TinyServer, free_port
from ..server.nio_device import NioDevice, until

ROOT = Path(__file__).parent.parent.parent
KILLS = int(os.environ.get("TINYSERVER_KILLS", "4"))
SEED = None if "TINYSERVER_KILLS" in os.environ else 4
PATIENCE = 60.0
SENDERS = 2

pytestmark = pytest.mark.filterwarnings("default")  # nio's own dependencies warn


class Mautrix:
    """The process of a bridge."""

    def __init__(self, server: TinyServer, directory: Path, **more: Any) -> None:
        self.directory = directory
        self.database = directory / "bridge.db"
        self.log = directory / "bridge.log"
        self.config = {
            "server": server.base_url,
            "domain": server.server_name,
            "as_token": "as-token-of-mautrix",
            "hs_token": "hs-token-of-mautrix",
            "port": free_port(),
            "database": str(self.database),
            **more,
        }
        self.process: subprocess.Popen[str] | None = None

    def register(self, server: TinyServer) -> None:
        registration = {
            "id": "mautrix",
            "url": f"http://127.0.0.1:{self.config['port']}",
            "as_token": self.config["as_token"],
            "hs_token": self.config["hs_token"],
            "sender_localpart": "mxbot",
            "rate_limited": False,
            "namespaces": {
                "users": [{"exclusive": True, "regex": f"@mx_.*:{server.server_name}"}],
                "aliases": [{"exclusive": True, "regex": f"#mx_.*:{server.server_name}"}],
            },
            "receive_ephemeral": True,
            "org.matrix.msc3202": True,
        }
        file = self.directory / "registration.yaml"
        file.write_text(json.dumps(registration))
        done = server.command("appservice", "add", str(file), "--config", str(server.config_file))
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        file = self.directory / "config.json"
        file.write_text(json.dumps(self.config))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.bridges.mautrix_process", str(file)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.log.read_text()[-4000:]

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        with sqlite3.connect(self.database) as db:
            return db.execute(sql, parameters).fetchall()

    def notes(self, kind: str) -> list[Any]:
        return [json.loads(row[0]) for row in self.rows("SELECT json FROM notes WHERE kind = ? ORDER BY seq", kind)]

    async def until(self, what: str, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not in {PATIENCE} s: {what}\n{self.log.read_text()[-4000:]}"
            await asyncio.sleep(0.05)
        return found

    def check_log(self) -> None:
        assert "Failed to deserialize" not in self.log.read_text()
        assert "Traceback" not in self.log.read_text(), self.log.read_text()[-6000:]


@pytest.fixture
def mautrix(fresh_server: TinyServer, tmp_path: Path) -> Iterator[Mautrix]:
    made = Mautrix(fresh_server, tmp_path, ping=True)
    made.register(fresh_server)
    yield made
    made.kill()


async def insist(client: Client, method: str, path: str, body: Json) -> Any:
    """Make a request until it is answered; it may come twice."""
    while True:
        try:
            answer = await client.raw(method, path, body)
        except httpx.TransportError:
            await asyncio.sleep(0.02)
            continue
        assert answer.status_code == 200, answer.text
        return answer.json()


async def timeline_of(client: Client, room: str) -> list[Json]:
    found: list[Json] = []
    start = None
    while True:
        params = {"dir": "f", "limit": 500, "from": start}
        page = await client.request("GET", f"{client.room(room)}/messages", params=params)
        found += page["chunk"]
        if "end" not in page:
            return found
        start = page["end"]


async def test_every_event_once_whoever_is_killed(
    fresh_server: TinyServer, new_user: NewUser, mautrix: Mautrix
) -> None:
    server, chance = fresh_server, random.Random(SEED)
    await asyncio.to_thread(mautrix.start)
    assert len(mautrix.notes("ping")) == 1
    alice = await new_user("alice")
    rooms = [
        (await alice.join(f"#mx_channel{number}:tiny.test"))["room_id"] for number in range(SENDERS)
    ]  # made by the bridge, as somebody asks for it
    await alice.join("#mx_missing:tiny.test", expect=404, errcode="M_NOT_FOUND")
    profile = await alice.request("GET", "/profile/@mx_bob:tiny.test")
    assert profile["displayname"] == "Bob (mx)"

    sent: dict[str, str] = {}
    more, over = asyncio.Event(), False
    restarted: Counter[str] = Counter()

    async def talk(sender: int) -> None:
        number = 0
        while not over:
            body = f"{sender}-{number}"
            path = f"{alice.room(rooms[sender])}/send/m.room.message/{body}"
            answer = await insist(alice, "PUT", path, {"msgtype": "m.text", "body": body})
            sent[answer["event_id"]] = body
            number += 1
            more.set()
            await asyncio.sleep(0.01)

    talking = [asyncio.create_task(talk(sender)) for sender in range(SENDERS)]
    begun = time.monotonic()
    for turn in chance.sample(range(KILLS), KILLS):
        goal = len(sent) + chance.randint(10, 25)
        while len(sent) < goal:
            more.clear()
            await more.wait()
        if turn % 2:
            restarted["server"] += 1
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        else:
            restarted["bridge"] += 1
            await asyncio.to_thread(mautrix.kill)
            await asyncio.sleep(chance.random() / 2)  # long enough for some tries that nobody answers
            await asyncio.to_thread(mautrix.start)
    over = True
    await asyncio.gather(*talking)

    def echoes() -> list[str]:
        rows = mautrix.rows("SELECT json FROM events WHERE type = 'm.room.message' AND sender LIKE '@mx%' ORDER BY seq")
        return [json.loads(row[0])["content"]["body"] for row in rows]

    await mautrix.until("everything has come, and was repeated", lambda: len(echoes()) >= len(sent))
    for room in rooms:
        timeline = [event["event_id"] for event in await timeline_of(alice, room)]
        told = [row[0] for row in mautrix.rows("SELECT event_id FROM events WHERE room = ? ORDER BY seq", room)]
        # The bot joins by the second event: from then on it is told of everything.
        assert told == timeline[1:]
    assert Counter(echoes()) == Counter(f"echo of {body}" for body in sent.values())
    events, transactions, tries = (
        mautrix.rows(f"SELECT {what}")[0][0]
        for what in ("count(*) FROM events", "count(*) FROM transactions", "sum(tries) FROM transactions")
    )
    understood = len(mautrix.notes("event"))
    print(
        f"{dict(restarted)} killed in {time.monotonic() - begun:.0f} s; {len(sent)} messages and their echoes, "
        f"{events} events in {transactions} transactions, {tries - transactions} of which came again; "
        f"mautrix understood {understood}"
    )
    assert "Failed to deserialize" not in mautrix.log.read_text()


async def test_encryption(fresh_server: TinyServer, new_user: NewUser, mautrix: Mautrix, tmp_path: Path) -> None:
    """A ghost's device reads what is encrypted for it (MSC3202, MSC4203, MSC4190), without ever syncing."""
    mautrix.config["device"] = "@mx_crypt:tiny.test"
    await asyncio.to_thread(mautrix.start)
    session = await new_user("alice")
    (tmp_path / "nio").mkdir()
    alice = await NioDevice(session, tmp_path / "nio").start()
    try:
        ghost = Client(fresh_server.base_url, user_id="@mx_crypt:tiny.test", device_id="BRIDGE")
        async with ghost:
            room = await alice.new_room(ghost)
            await alice.is_in(room, ghost.user_id)
            await until("the ghost joins", lambda: ghost.user_id in alice.nio.rooms[room].users)
            await alice.knows(ghost)
            said = {await alice.say(room, f"secret {number}"): f"secret {number}" for number in range(3)}

            def read() -> dict[str, str]:
                return {note["event_id"]: note["body"] for note in mautrix.notes("read")}

            await mautrix.until("the secrets", lambda: len(read()) == len(said))
            assert read() == said
            assert [ghost.user_id, "BRIDGE"] in mautrix.notes("to_device")
            assert any(session.user_id in lists["changed"] for lists in mautrix.notes("device_lists"))
            # One of its five keys was claimed.
            assert mautrix.notes("counts")[0] == [ghost.user_id, "BRIDGE", 4]
    finally:
        await alice.stop()
    mautrix.check_log()
