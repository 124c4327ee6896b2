"""A disk that is full, or fails: clear errors, nothing half-written, and no restart when there is space again."""

from __future__ import annotations

import base64
import contextlib
import random
import resource
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .client import Client, Json, bodies, joined, timeline
from .conftest import MakeServer, NewUser
from .harness import TinyServer
from .mounts import small_disk

NO_SPACE = r"cannot be written: no space is left on the disk"
FAILING = r"cannot be written: the disk does not work as it should"
AGAIN = r"the database can be written again"
LARGE = base64.b64encode(random.Random(1).randbytes(15_000)).decode()  # cannot be compressed much


class Filler:
    """A file that takes all the space that is left."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "filler"

    def fill(self, *, leave: int = 0) -> None:
        """Take all of it but `leave` bytes."""
        with self._path.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass
            file.truncate(file.tell() - leave)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


@pytest.fixture
def small_server(make_server: MakeServer) -> Iterator[TinyServer]:
    """A server whose data directory is a disk of 12 MiB."""
    server = make_server(start=False)
    with small_disk(server.data_dir, "12m"):
        server.start()
        server.log.tolerate(NO_SPACE)
        yield server
        server.kill()


def integrity(server: TinyServer) -> list[Any]:
    connection = sqlite3.connect(f"file:{server.data_dir / 'tinyserver.db'}?mode=ro", uri=True)
    with contextlib.closing(connection):
        return connection.execute("PRAGMA integrity_check").fetchall()


async def send_until_full(client: Client, room: str, name: str) -> list[str]:
    """Send large messages until one is refused for want of space; the beginnings of the bodies that were stored."""
    stored = []
    for number in range(2000):
        body = f"{name}-{number} {LARGE}"
        answer: Json = await client.send(room, body, expect=(200, 507))
        if isinstance(answer, dict):
            assert answer["errcode"] == "M_RESOURCE_LIMIT_EXCEEDED"
            assert "full" in answer["error"]
            assert answer["admin_contact"] == client.base_url
            return stored
        stored.append(f"{name}-{number}")
    raise AssertionError("the disk is never full")


async def history(client: Client, room: str) -> list[str]:
    """The beginnings of all messages of the room, oldest first."""
    found: list[str] = []
    token = None
    while True:
        page = await client.messages(room, dir="f", from_=token, limit=100)
        found += [body.split(" ")[0] for body in bodies(page["chunk"])]
        token = page.get("end")
        if token is None:
            return found


async def every_write_is_refused(alice: Client, room: str, event_id: str) -> None:
    """Writes of all kinds on a full disk. A small one may still find a place; none may fail otherwise."""
    login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": alice.user_id}}
    refused = 0
    for method, path, body in (
        ("PUT", f"{alice.room(room)}/send/m.room.message/full", {"msgtype": "m.text", "body": LARGE}),
        ("PUT", f"{alice.room(room)}/state/m.room.topic/", {"topic": LARGE}),
        ("POST", "/createRoom", {"name": LARGE[:200], "initial_state": [{"type": "x", "content": {"x": LARGE}}] * 3}),
        ("PUT", f"/user/{alice.user_id}/account_data/org.example.x", {"x": LARGE}),
        ("PUT", f"/profile/{alice.user_id}/org.example", {"org.example": LARGE}),
        ("POST", f"/user/{alice.user_id}/filter", {"room": {"rooms": [f"!{n}:x" for n in range(1000)]}}),
        ("POST", "/login", {**login, "password": alice.password, "initial_device_display_name": "x" * 200}),
        ("POST", f"{alice.room(room)}/receipt/m.read/{event_id}", {}),
    ):
        answer = await alice.request(method, path, body, expect=(200, 507))
        refused += answer.get("errcode") == "M_RESOURCE_LIMIT_EXCEEDED"
    assert refused >= 5


async def test_a_full_disk(small_server: TinyServer, new_user: NewUser) -> None:
    server, filler = small_server, Filler(small_server.data_dir)
    alice, bob = await new_user("alice", server=server), await new_user("bob", server=server)
    room = await alice.create_room(bob)
    stored = [f"before-{number}" for number in range(5)]
    ids = [await alice.send(room, body) for body in stored]
    since = (await bob.sync())["next_batch"]
    filler.fill(leave=400_000)
    stored += await send_until_full(alice, room, "filled")
    assert len(stored) > 10
    # Nothing of what was refused is there, all the rest can be read.
    assert await history(bob, room) == stored
    await every_write_is_refused(alice, room, ids[0])
    answer = await bob.sync(since, filter={"room": {"timeline": {"limit": 100}}})
    assert [body.split(" ")[0] for body in bodies(timeline(answer, room))] == stored[5:]
    await bob.get_state(room, "m.room.create")
    log = server.log.text()
    assert 1 <= log.count("no space is left on the disk") <= 3, "said once, not for every request"
    assert "Traceback" not in log
    # With space it goes on by itself.
    filler.remove()
    await alice.send(room, "again")
    assert [body for body in await history(bob, room) if body not in stored] == ["again"]
    assert AGAIN in server.log.text()
    await alice.request("PUT", f"/user/{alice.user_id}/account_data/org.example.x", {"x": 1})
    assert integrity(server) == [("ok",)]


async def test_killed_while_the_disk_is_full(small_server: TinyServer, new_user: NewUser) -> None:
    server, filler = small_server, Filler(small_server.data_dir)
    alice = await new_user("alice", server=server)
    room = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    stored: list[str] = []
    for number in range(3):
        filler.fill()
        stored += await send_until_full(alice, room, f"{number}")
        server.kill()
        filler.fill()
        start_while_full(server)
        if server.running:
            assert await history(alice, room) == stored
            server.stop()
            filler.fill()
            start_while_full(server)
            server.kill()
        filler.remove()
        server.start()
        assert await history(alice, room) == stored
        assert integrity(server) == [("ok",)]
        stored.append(f"free-{number}")
        await alice.send(room, stored[-1])
        seen: list[str] = []
        while part := joined(await alice.sync_on() if seen else await first(alice, since), room):
            assert not part["timeline"]["limited"] or not seen
            seen += bodies(part["timeline"]["events"])
        assert seen[-1].split(" ")[0] == stored[-1]
        since = alice.since or since
    assert "Traceback" not in server.log.text()


async def first(client: Client, since: str) -> Json:
    client.since = since
    return await client.sync_on()


def start_while_full(server: TinyServer) -> None:
    """The server starts on a full disk, or says why it cannot."""
    mark = server.launch()
    try:
        server.log.wait_for(r"\blistening\b", process=server._process, since=mark)  # type: ignore[arg-type]
        server.answer()
    except AssertionError:
        assert server.wait_exit() == 1
        assert "no space is left" in server.log.text(mark)


async def test_a_disk_that_fails(fresh_server: TinyServer, new_user: NewUser) -> None:
    """Writing beyond a file size that is suddenly forbidden is an error that SQLite calls an I/O error."""
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN, "Python ignores this signal, so the server gets EFBIG"
    server = fresh_server
    server.log.tolerate(FAILING)
    alice = await new_user()
    room = await alice.create_room()
    for number in range(100):
        await alice.send(room, f"{number} {LARGE}")
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    # More than the server's log holds, less than the write-ahead log.
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (500_000, hard))
    for sent in range(100, 300):
        answer = await alice.send(room, f"{sent} {LARGE}", txn=f"{sent}", expect=(200, 503))
        if isinstance(answer, dict):
            break
    for _ in range(3):
        answer = await alice.send(room, f"{sent} {LARGE}", txn=f"{sent}", expect=503, errcode="M_UNKNOWN")
        assert "disk" in answer["error"]
    assert await history(alice, room) == [f"{number}" for number in range(sent)]
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))
    await alice.send(room, f"{sent} {LARGE}", txn=f"{sent}")
    assert await history(alice, room) == [f"{number}" for number in range(sent + 1)]
    assert AGAIN in server.log.text()
    assert "Traceback" not in server.log.text()
    assert integrity(server) == [("ok",)]
