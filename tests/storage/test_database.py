"""The database file: group commits, roll-backs, snapshots, positions, versions, disks that are full or read-only."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tinyserver.protocol.errors import Forbidden
from tinyserver.storage import account_data, migrations, names
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.errors import DatabaseTooNew, StorageError, StorageFull, StorageReadOnly
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


@pytest_asyncio.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "t.db")
    database.start()
    yield database
    await database.close()


def put(tx: WriteTransaction, user: int, key: str, value: bytes = b"{}") -> int:
    return account_data.put(tx, user, None, key, value)


def keys(db: Database, user: int) -> list[str]:
    return [row.type for row in db.glance(lambda tx: account_data.of_room(tx, user, None))]


def held(db: Database) -> tuple[asyncio.Future[None], threading.Event]:
    """Keep the writer busy: (what it is busy with, the event that ends it)."""
    release = threading.Event()

    def wait(tx: WriteTransaction) -> None:
        assert release.wait(10)

    return asyncio.ensure_future(db.write(wait)), release


# -- group commit ----------------------------------------------------------------------------------


async def test_writes_that_wait_together_share_a_commit(db: Database) -> None:
    commits: list[Commit] = []
    db.on_commit = commits.append
    busy, release = held(db)
    await asyncio.sleep(0)  # let the task hand its step over
    writes = [asyncio.ensure_future(db.write(lambda tx, n=n: put(tx, n, "k"))) for n in range(1, 151)]  # type: ignore[misc]
    await asyncio.sleep(0)
    release.set()
    await busy
    positions = await asyncio.gather(*writes)
    assert positions == sorted(set(positions))
    assert len(commits) <= 3
    changes = [change for commit in commits for change in commit.changes]
    assert [(change.topic, change.nid) for change in changes] == [(Topic.USER, n) for n in range(1, 151)]
    assert [change.position for change in changes] == positions
    assert db.position == positions[-1]


async def test_answered_only_after_the_bell_and_the_disk(db: Database, tmp_path: Path) -> None:
    told: list[str] = []
    db.on_commit = lambda commit: told.append("bell")

    def step(tx: WriteTransaction) -> None:
        tx.on_commit(lambda: told.append("after commit"))
        put(tx, 1, "k")

    await db.write(step)
    told.append("answer")
    assert told == ["after commit", "bell", "answer"]
    with sqlite3.connect(tmp_path / "t.db") as other:
        assert other.execute("SELECT count(*) FROM account_data").fetchone() == (1,)
    other.close()


async def test_a_caller_that_goes_away_leaves_its_step_whole(db: Database) -> None:
    busy, release = held(db)
    abandoned = asyncio.ensure_future(db.write(lambda tx: put(tx, 1, "k")))
    await asyncio.sleep(0)
    abandoned.cancel()
    release.set()
    await busy
    await db.write(lambda tx: put(tx, 1, "later"))
    assert keys(db, 1) == ["k", "later"]


# -- steps that fail -------------------------------------------------------------------------------


async def test_a_failing_step_is_rolled_back_alone(db: Database) -> None:
    commits: list[Commit] = []
    db.on_commit = commits.append
    rung: list[str] = []

    def good(key: str) -> Callable[[WriteTransaction], int]:
        return lambda tx: put(tx, names.intern(tx, f"@{key}:x"), key)

    def bad(error: Exception) -> Callable[[WriteTransaction], int]:
        def step(tx: WriteTransaction) -> int:
            put(tx, names.intern(tx, "@bad:x"), "bad")
            tx.on_commit(lambda: rung.append("bad"))
            raise error

        return step

    busy, release = held(db)
    await asyncio.sleep(0)
    steps = [good("a"), bad(Forbidden("no")), good("b"), bad(RuntimeError("bug")), good("c")]
    writes = [asyncio.ensure_future(db.write(step)) for step in steps]
    await asyncio.sleep(0)
    release.set()
    await busy
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [int, Forbidden, int, RuntimeError, int]
    assert rung == []
    assert db.glance(lambda tx: names.find(tx, "@bad:x")) is None
    assert db.caches.nids.get("@bad:x") is None
    stored = [change.position for commit in commits for change in commit.changes]
    assert stored == [results[0], results[2], results[4]]
    # The number of the name that never was may be given to another: nobody remembers the old one.
    fresh = await db.write(lambda tx: names.intern(tx, "@fresh:x"))
    assert db.glance(lambda tx: names.text(tx, fresh)) == "@fresh:x"
    for key in ("a", "b", "c"):
        user = db.glance(lambda tx, key=key: names.find(tx, f"@{key}:x"))  # type: ignore[misc]
        assert user is not None
        assert keys(db, user) == [key]


async def test_wrong_sql_fails_alone(db: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await db.write(lambda tx: tx.execute("SELECT * FROM nowhere"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await db.read(lambda tx: tx.rows("SELECT * FROM nowhere"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        db.glance(lambda tx: tx.rows("SELECT * FROM nowhere"))
    await db.write(lambda tx: put(tx, 1, "k"))
    assert keys(db, 1) == ["k"]


async def test_readers_cannot_write(db: Database) -> None:
    with pytest.raises(StorageReadOnly):
        db.glance(lambda tx: tx.execute("INSERT INTO names (name) VALUES ('x')"))
    with pytest.raises(StorageReadOnly):
        await db.read(lambda tx: tx.execute("INSERT INTO names (name) VALUES ('x')"))


# -- snapshots -------------------------------------------------------------------------------------


async def test_a_reader_sees_one_moment(db: Database) -> None:
    await db.write(lambda tx: put(tx, 1, "before"))
    started, go_on = threading.Event(), threading.Event()

    def look_twice(tx: ReadTransaction) -> tuple[int, int]:
        first = account_data.count(tx, 1)
        started.set()
        assert go_on.wait(10)
        return first, account_data.count(tx, 1)

    reading = asyncio.ensure_future(db.read(look_twice))
    await asyncio.to_thread(started.wait, 10)
    await db.write(lambda tx: put(tx, 1, "meanwhile"))  # does not wait for the reader
    go_on.set()
    assert await reading == (1, 1)
    assert await db.read(lambda tx: account_data.count(tx, 1)) == 2


# -- positions -------------------------------------------------------------------------------------


def copy_of(path: Path, target: Path) -> Path:
    """The files as they lie on the disk this moment: what is left when the plug is pulled."""
    target.mkdir()
    for file in path.parent.glob(path.name + "*"):
        shutil.copy(file, target / file.name)
    return target / path.name


async def test_positions_are_never_given_out_again(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    given: list[int] = []
    for crash in range(4):
        db = Database(path)
        assert db.position >= (given[-1] if given else 0)
        db.start()
        for n in range(3):
            given.append(await db.write(lambda tx, n=n: put(tx, 1, f"k{n}")))  # type: ignore[misc]
        path = copy_of(path, tmp_path / f"crash{crash}")
        given.append(await db.write(lambda tx: put(tx, 1, "lost with the crash, but told to a client")))
        await db.close()
    assert given == sorted(set(given))


async def test_a_clean_end_wastes_no_positions(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    last = 0
    for _ in range(3):
        db = Database(path)
        db.start()
        position = await db.write(lambda tx: put(tx, 1, "k"))
        assert position == last + 1
        last = position
        await db.close()
    assert os.listdir(tmp_path) == [path.name]


async def test_what_was_answered_survives_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    db = Database(path)
    db.start()
    await asyncio.gather(*(db.write(lambda tx, n=n: put(tx, 1, f"k{n:02}")) for n in range(50)))  # type: ignore[misc]
    left = copy_of(path, tmp_path / "crash")
    await db.close()
    again = Database(left)
    assert keys(again, 1) == [f"k{n:02}" for n in range(50)]
    assert again.glance(lambda tx: tx.value("PRAGMA integrity_check")) == "ok"
    await again.close()


# -- versions --------------------------------------------------------------------------------------


async def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    await Database(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 4711")
    other.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseTooNew, match="4711"):
        Database(path)
    assert path.read_bytes() == before


@pytest.fixture
def second_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder that the program takes for the next version of the schema."""
    known = migrations.versions()
    folder = tmp_path / "9999_next"
    folder.mkdir()
    monkeypatch.setattr(migrations, "versions", lambda: [*known, (9999, folder)])
    return folder


async def test_migration(tmp_path: Path, second_version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.db"
    with monkeypatch.context() as before:
        before.setattr(migrations, "versions", lambda: list(migrations_of_program()))
        db = Database(path)
        db.start()
        await db.write(lambda tx: put(tx, 1, "kept"))
        secret = db.glance(lambda tx: tx.value("SELECT value FROM secrets WHERE name = 'trie'"))
        await db.close()
    (second_version / "b.sql").write_text("INSERT INTO more VALUES ('a;b');\n")
    (second_version / "a.sql").write_text("-- What; follows.\nCREATE TABLE more (\n  name TEXT -- ;\n) STRICT;\n")
    (second_version / "notes.txt").write_text("not SQL")
    db = Database(path)
    assert db.glance(lambda tx: tx.value("PRAGMA user_version")) == 9999
    assert db.glance(lambda tx: tx.value("SELECT name FROM more")) == "a;b"
    assert db.glance(lambda tx: tx.value("SELECT value FROM secrets WHERE name = 'trie'")) == secret
    assert keys(db, 1) == ["kept"]
    await db.close()


def migrations_of_program() -> Iterator[tuple[int, Path]]:
    for entry in sorted(Path(migrations.__file__).parent.glob("[0-9]*_*")):
        yield int(entry.name[:4]), entry


async def test_a_failing_migration_changes_nothing(tmp_path: Path, second_version: Path) -> None:
    """From nothing or from the version before: everything or nothing."""
    path = tmp_path / "t.db"
    (second_version / "a.sql").write_text("CREATE TABLE more (name TEXT) STRICT;\nINSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        Database(path)
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (0,)
        assert other.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    other.close()
    (second_version / "a.sql").write_text("CREATE TABLE more (name TEXT) STRICT;\n")
    await Database(path).close()


# -- disks that are full or read-only --------------------------------------------------------------


async def fill(db: Database, size: int = 20_000) -> tuple[int, StorageError]:
    """Write until it fails; how many writes were stored, and the error."""
    for n in range(2000):
        try:
            await db.write(lambda tx, n=n: put(tx, 1, f"k{n:04}", b'{"x":"' + b"x" * size + b'"}'))  # type: ignore[misc]
        except StorageError as error:
            return n, error
    raise AssertionError("the disk is never full")


async def check_full_and_free(db: Database, make_space: Callable[[], None]) -> None:
    stored, error = await fill(db)
    assert stored > 5
    assert isinstance(error, StorageFull), repr(error)
    assert "space" in str(error)
    # Nothing half-written, and reading goes on.
    assert keys(db, 1) == [f"k{n:04}" for n in range(stored)]
    big = b'{"x":"' + b"y" * 200_000 + b'"}'
    several = (db.write(lambda tx, n=n: put(tx, 2, f"{n}", big)) for n in range(3))  # type: ignore[misc]
    assert {type(result) for result in await asyncio.gather(*several, return_exceptions=True)} == {StorageFull}
    assert keys(db, 2) == []
    position = db.position
    make_space()
    after = await db.write(lambda tx: put(tx, 1, "works again"))
    assert after > position
    assert keys(db, 1)[-1] == "works again"
    assert await db.read(lambda tx: account_data.count(tx, 1)) == stored + 1


async def test_full_database(db: Database) -> None:
    writer: Any = db._writer
    writer.execute("PRAGMA max_page_count = 400")
    await check_full_and_free(db, lambda: writer.execute("PRAGMA max_page_count = 1000000").fetchone() and None)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 4 MiB."""
    path = Path(tempfile.mkdtemp(prefix="tinyserver-test-"))
    mounted = shutil.which("mount") and os.geteuid() == 0
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    if not mounted or subprocess.run(command, capture_output=True, check=False).returncode:
        path.rmdir()
        pytest.skip("only those who may mount file systems can make a small one")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)
    path.rmdir()


async def test_full_disk(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 * 1024 * 1024))
    db = Database(small_disk / "t.db")
    db.start()
    try:
        await check_full_and_free(db, ballast.unlink)
    finally:
        await db.close()
    again = Database(small_disk / "t.db")
    assert again.glance(lambda tx: tx.value("PRAGMA integrity_check")) == "ok"
    assert keys(again, 1)[-1] == "works again"
    await again.close()


def remount(path: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(path)], check=True)


async def test_disk_that_becomes_read_only(small_disk: Path) -> None:
    """As an SD card does at its end: what was stored can be read, and the next start says what is wrong."""
    db = Database(small_disk / "t.db")
    db.start()
    await db.write(lambda tx: put(tx, 1, "k"))
    await db.close()
    await asyncio.to_thread(remount, small_disk, "ro")
    with pytest.raises(StorageReadOnly, match="cannot be written"):
        Database(small_disk / "t.db")
    await asyncio.to_thread(remount, small_disk, "rw")
    db = Database(small_disk / "t.db")
    assert keys(db, 1) == ["k"]
    await db.close()


def test_a_file_that_is_not_ours() -> None:
    """Without the right to write, whoever starts the server is told so. A process of its own drops root's rights."""
    script = """
import os, sys
from pathlib import Path
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageReadOnly
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    Database(Path(sys.argv[1]))
except StorageReadOnly as error:
    print("told:", error)
"""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / "t.db"
        asyncio.run(Database(path).close())
        path.chmod(0o444)
        directory.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False, timeout=30
        )
        directory.chmod(0o755)
    assert "told: " in done.stdout, done.stdout + done.stderr


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    path.write_bytes(b"this is a diary, not a database\n" * 1000)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="damaged"):
        Database(path)
    assert path.read_bytes() == before
