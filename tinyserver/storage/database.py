"""The SQLite file: one writer that commits in groups, readers that never wait for it.

- `await db.write(step)`: the step runs on the writer thread inside a savepoint. Steps that wait at the same
  time share one transaction and one fsync; each is answered after that commit. A step that raises is rolled
  back alone. With `patience` a step waits a moment for others to share their commit: what nobody waits for
  (a read receipt) then costs the card no fsync of its own.
- `await db.read(step)`: the step runs on a reader thread over a snapshot.
- `db.glance(step)`: the same on the calling thread (the event loop's), for a handful of indexed look-ups
  that cost less than two thread switches would.

Every commit is announced once, on the event loop, to `on_commit` before its writers are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, TypeVar

from tinyserver.storage import migrations
from tinyserver.storage.caches import Caches
from tinyserver.storage.errors import StorageError, StorageFull, translate
from tinyserver.storage.transaction import Change, FromOutside, ReadTransaction, WriteTransaction

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PAGE_SIZE = 1024
"""Bytes; fixed when a database is made. A message touches half a dozen pages, each of which is written whole to the
write-ahead log: small pages halve what a card has to write (`docs/benchmarks.md`). For the same reason there is no
auto_vacuum: it would note every new page in one more page, and what is deleted is filled again anyway."""
CHECKPOINT_COMMITS = 1000
"""The write-ahead log is folded into the database after this many commits ..."""
CHECKPOINT_BYTES = 8 * 1024 * 1024
"""... or when its file has grown by so much."""
CHECKPOINT_LOOK_CHANGES = 300
"""After how many changed rows its size is looked at."""
POSITIONS_PER_RESERVATION = 100_000
"""How far ahead the position counter is reserved on disk, so that a commit need not store it."""
MAX_STEPS_PER_COMMIT = 200
MAX_BROUGHT = 256
"""How many answers from outside one step may wait for, one after the other."""
TROUBLE_LOG_SECONDS = 60.0
"""A disk that stays full or broken is mentioned in the log this often: the log may lie on it."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What one group commit stored."""

    position: int
    """Everything up to and including this place in the one order is on disk."""
    changes: tuple[Change, ...]


@dataclass(slots=True)
class _Job:
    """A write step on its way through the writer thread."""

    step: Callable[[WriteTransaction], Any]
    future: asyncio.Future[Any]
    due: float
    """The monotonic second at which it will not wait for company any longer."""
    brought: Mapping[Hashable, Any]
    result: Any = None
    error: BaseException | None = None
    transaction: WriteTransaction | None = None


class Database:
    """The server's one database file.

    Args:
        path: the SQLite file; made when it is not there.
        cache_budget: bytes for `Caches` (decoded events, names).
        readers: number of reader threads.

    Raises:
        DatabaseTooNew: the file was written by a newer program.
        StorageError: the file cannot be opened or written.
    """

    def __init__(self, path: Path, *, cache_budget: int = 16 * 1024 * 1024, readers: int = 2) -> None:
        self.path = path
        self.caches = Caches(cache_budget)
        self.on_commit: Callable[[Commit], None] = lambda commit: None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        try:
            self._writer = _connect(path, cache_kib=4096)
            try:
                migrations.migrate(self._writer)
                # Refused where nothing can be written: better now than later.
                self._writer.execute("BEGIN IMMEDIATE")
                self._writer.execute("UPDATE counters SET value = value WHERE name = 'position'")
                self._writer.execute("ROLLBACK")
                self._position = self._reserved = self._first_position()
            except BaseException:
                self._writer.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise translate(error, path.parent) from error
        self.position = self._position
        self._glance = self._reader_connection()
        self._readers = ThreadPoolExecutor(readers, "reader")
        self._maintenance = ThreadPoolExecutor(1, "checkpoint")
        self._checkpointing = threading.Event()
        self._wal = Path(f"{path}-wal")
        self._wal_size = 0
        self._changes_seen = 0
        self._commits = 0
        self._thread: threading.Thread | None = None
        self._trouble: type[StorageError] | None = None
        self._trouble_logged_at = 0.0

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the writer thread; called once, on the event loop that will use the database."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_forever, name="writer", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish the waiting writes, fold the write-ahead log into the file and close."""
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self._readers.shutdown(wait=True)
        self._maintenance.shutdown(wait=True)
        self._glance.close()
        for connection in self._connections:
            connection.close()
        try:
            self._writer.execute("UPDATE counters SET value = ? WHERE name = 'position'", (self._position,))
            self._writer.execute("PRAGMA optimize")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            log.warning("the write-ahead log could not be folded in: %s", error)
        self._writer.close()

    # -- steps -----------------------------------------------------------------------------------

    async def write(
        self,
        step: Callable[[WriteTransaction], Result],
        *,
        patience: float = 0.0,
        turn: contextlib.AbstractAsyncContextManager[object] | None = None,
    ) -> Result:
        """Run one step on the writer and wait until it is on disk.

        Args:
            step: plain function over the open transaction; whatever it raises undoes it and is raised here. If that is
                `FromOutside`, the step is run anew with the answer.
            patience: seconds that the step may wait for others to be committed with.
            turn: held while the step waits for the disk, but not while it waits for answers from outside.

        Raises:
            StorageFull, StorageReadOnly: nothing was stored.
        """
        brought: dict[Hashable, Any] = {}
        while True:
            try:
                async with turn or contextlib.nullcontext():
                    return await self._write(step, patience, brought)
            except FromOutside as missing:
                if len(brought) == MAX_BROUGHT or missing.key in brought:
                    raise
                brought[missing.key] = await missing.ask()

    async def _write(
        self, step: Callable[[WriteTransaction], Result], patience: float, brought: Mapping[Hashable, Any]
    ) -> Result:
        if self._thread is None:  # before the start, or after the end: nobody would ever carry it out
            raise StorageError("the database is not open for writing")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._jobs.put(_Job(step, future, monotonic() + patience if patience else 0.0, brought))
        # A client that goes away must not leave its step half observed: the step goes on, unwaited for.
        return await asyncio.shield(future)

    async def read(self, step: Callable[[ReadTransaction], Result]) -> Result:
        """Run one step on a reader thread, over a snapshot."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_on_thread, step)

    def glance(self, step: Callable[[ReadTransaction], Result]) -> Result:
        """Run a step of a few indexed look-ups at once, on the event loop."""
        return self._read_step(self._glance, step)

    # -- the writer thread -----------------------------------------------------------------------

    def _write_forever(self) -> None:
        open_ended = True
        while open_ended:
            group, open_ended = self._next_group()
            try:
                if group:
                    self._commit_group(group)
            except Exception as error:  # a bug of ours: this group fails, the writer lives on
                log.exception("a commit failed")
                for job in group:
                    job.error = job.error or error
                assert self._loop is not None
                self._loop.call_soon_threadsafe(self._announce, group, self._position)

    def _next_group(self) -> tuple[list[_Job], bool]:
        """The steps to commit together, and whether more may come after them."""
        group: list[_Job] = []
        while len(group) < MAX_STEPS_PER_COMMIT:
            try:
                wait = min(job.due for job in group) - monotonic() if group else None
                job = self._jobs.get(timeout=wait) if wait is None or wait > 0 else self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                return group, False
            group.append(job)
        return group, True

    def _commit_group(self, group: list[_Job]) -> None:
        connection = self._writer
        new_names: dict[str, int] = {}
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in group:
                self._run_step(job, new_names)
            if all(job.error is not None for job in group):
                connection.execute("ROLLBACK")  # a commit would write the pages again that were changed back
            else:
                self._reserve_positions()
                connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            # A step may have remembered what an earlier one of its group had changed, and now has not.
            self.caches.epoch += 1
            self.caches.events.clear()
            cause = self._translate(error)
            for job in group:
                job.error = job.error or cause
        assert self._loop is not None
        self._note_trouble(group)
        stored = [job for job in group if job.error is None]
        if stored:
            for name, nid in new_names.items():
                self.caches.nids.put(name, nid)
                self.caches.names.put(nid, name)
        self._loop.call_soon_threadsafe(self._announce, group, self._position)
        if stored:
            self._checkpoint_if_due()

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            try:
                self._writer.execute("ROLLBACK")
            except sqlite3.Error as error:  # the next group begins with another try
                log.warning("rolling back failed: %s", error)
        self._reserved = self._stored_reservation()

    def _translate(self, error: BaseException) -> BaseException:
        return translate(error, self.path.parent) if isinstance(error, sqlite3.Error | OSError) else error

    def _note_trouble(self, group: list[_Job]) -> None:
        """Say in the log that the disk is full or broken, now and then while it lasts, and that it works again."""
        trouble = next((job.error for job in group if isinstance(job.error, StorageError)), None)
        if trouble is None:
            if self._trouble is not None and any(job.error is None for job in group):
                self._trouble = None
                log.warning("the database can be written again")
            return
        now = monotonic()
        if self._trouble is not type(trouble) or now - self._trouble_logged_at >= TROUBLE_LOG_SECONDS:
            self._trouble, self._trouble_logged_at = type(trouble), now
            log.error("the database in %s cannot be written: %s", self.path.parent, trouble)
            if isinstance(trouble, StorageFull):
                self._start_checkpoint()  # a log that has been folded in is written anew from its beginning

    def _run_step(self, job: _Job, group_names: dict[str, int]) -> None:
        connection = self._writer
        names = dict(group_names)
        transaction = WriteTransaction(connection, self.caches, self._take_position, names, job.brought)
        connection.execute("SAVEPOINT step")
        try:
            job.result = job.step(transaction)
        except BaseException as error:
            if not connection.in_transaction:  # SQLite rolled everything back by itself (disk full, I/O error)
                raise
            connection.execute("ROLLBACK TO step")
            connection.execute("RELEASE step")
            job.error = self._translate(error)
            return
        connection.execute("RELEASE step")
        job.transaction = transaction
        group_names.update(names)

    def _announce(self, group: list[_Job], position: int) -> None:
        """On the event loop: answer the writers, then ring the bell; who waits for either runs after both.

        A sender should know the ID of an event before sync brings it: clients are better at that order.
        """
        stored = [job.transaction for job in group if job.error is None and job.transaction is not None]
        if stored:
            self.position = max(self.position, position)
        for job in group:
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)
        if not stored:
            return
        try:
            for transaction in stored:
                for callback in transaction.after_commit:
                    callback()
            changes = tuple(change for transaction in stored for change in transaction.changes)
            self.on_commit(Commit(self.position, changes))
        except Exception:  # a bug of a listener
            log.exception("telling of a commit failed")

    # -- positions -------------------------------------------------------------------------------

    def _first_position(self) -> int:
        return int(self._writer.execute("SELECT value FROM counters WHERE name = 'position'").fetchone()[0])

    def _stored_reservation(self) -> int:
        try:
            return self._first_position()
        except sqlite3.Error:
            return 0

    def _take_position(self, ahead: int) -> int:
        self._position += ahead
        return self._position

    def _reserve_positions(self) -> None:
        # After a crash the counter goes on from the reservation: beyond everything ever given out.
        if self._position > self._reserved - POSITIONS_PER_RESERVATION // 10:
            reserved = self._position + POSITIONS_PER_RESERVATION
            self._writer.execute("UPDATE counters SET value = ? WHERE name = 'position'", (reserved,))
            self._reserved = reserved

    # -- readers ---------------------------------------------------------------------------------

    def _reader_connection(self) -> sqlite3.Connection:
        connection = _connect(self.path, cache_kib=2048)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _read_on_thread(self, step: Callable[[ReadTransaction], Result]) -> Result:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._reader_connection()
            self._connections.append(connection)
        return self._read_step(connection, step)

    def _read_step(self, connection: sqlite3.Connection, step: Callable[[ReadTransaction], Result]) -> Result:
        try:
            connection.execute("BEGIN")
            try:
                return step(ReadTransaction(connection, self.caches))
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise translate(error, self.path.parent) from error

    # -- the write-ahead log ---------------------------------------------------------------------

    def _checkpoint_if_due(self) -> None:
        """Have the log folded in after a number of commits, or when one of them made its file grow much.

        The file does not shrink when it is folded in, it is written from its beginning again: its size alone tells
        nothing.
        """
        self._commits += 1
        changed = self._writer.total_changes
        if self._commits < CHECKPOINT_COMMITS and changed - self._changes_seen < CHECKPOINT_LOOK_CHANGES:
            return
        self._changes_seen = changed
        try:
            size = self._wal.stat().st_size
        except OSError:
            return
        grown = size > self._wal_size + CHECKPOINT_BYTES
        if (grown or self._commits >= CHECKPOINT_COMMITS) and not self._checkpointing.is_set():
            self._commits, self._wal_size = 0, max(size, self._wal_size)
            self._start_checkpoint()

    def _start_checkpoint(self) -> None:
        if not self._checkpointing.is_set():
            self._checkpointing.set()
            self._maintenance.submit(self._checkpoint)

    def _checkpoint(self) -> None:
        """Fold the log into the file on a thread of its own: writers and readers go on meanwhile."""
        try:
            connection = _connect(self.path, cache_kib=64)
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                connection.close()
        except sqlite3.Error as error:
            log.warning("checkpoint failed, will be tried again: %s", error)
        finally:
            self._checkpointing.clear()


def _connect(path: Path, *, cache_kib: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=400, timeout=30)
    if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
        # Only once: saying it again would write a page, and wait for the writer.
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA foreign_keys = OFF")
    return connection
