"""Watching what an administrator has to know of before it is too late.

It looks when something is stored, at most once in a while: a server that stores nothing fills no disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tinyserver.administration.rendering import moment, size
from tinyserver.administration.room import AdminRoom
from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.protocol.certificates import RENEWAL_DAYS, end_of_certificate
from tinyserver.protocol.errors import MatrixError
from tinyserver.storage import own_account
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.errors import StorageError

log = logging.getLogger(__name__)

LOW_SPACE = 500 * 1024**2
"""Bytes that are to be free on the disk."""
_LOOK_EVERY = 600.0  # seconds
_DAY_MS = 24 * 3600 * 1000
_AGAIN_MS = _DAY_MS


class Warnings:
    """Tells the administrators of a disk that is nearly full and of certificates that nobody renews, once a day as long
    as it is so.

    Args:
        db: knows when they were told.
        bell: tells when something was stored.
        clock: for the time of day.
        room: where they are told.
        directory: on the disk.
        certificates: the files of those that listeners use.
        monotonic: seconds of a clock that only runs forward.
        low_space: bytes that are to be free.
    """

    def __init__(
        self,
        db: Database,
        bell: Bell,
        clock: Clock,
        room: AdminRoom,
        directory: Path,
        certificates: Sequence[Path],
        monotonic: Callable[[], float],
        low_space: int = LOW_SPACE,
    ) -> None:
        self._db = db
        self._bell = bell
        self._clock = clock
        self._room = room
        self._directory = directory
        self._certificates = certificates
        self._monotonic = monotonic
        self._low_space = low_space
        self._next_look = 0.0
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to watch."""
        self._unsubscribe = self._bell.subscribe(self._on_commit)

    async def close(self) -> None:
        """Stop watching."""
        self._unsubscribe()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _on_commit(self, commit: Commit) -> None:
        now = self._monotonic()
        if now >= self._next_look and (self._task is None or self._task.done()):
            self._next_look = now + _LOOK_EVERY
            self._task = asyncio.create_task(self.look())

    async def look(self) -> None:
        """Look now, and tell what has to be told and was not told lately."""
        now = self._clock.now_ms()
        for kind, text in self._found(now):
            told = self._db.glance(lambda tx, kind=kind: own_account.warned_at(tx, kind))  # type: ignore[misc]
            if told is not None and told <= now < told + _AGAIN_MS:
                continue
            log.warning("%s", text)
            try:
                await self._room.tell(kind, text, now)
            except (StorageError, MatrixError) as error:
                log.warning("the administrators could not be told of it: %s", error)

    def _found(self, now_ms: int) -> Iterator[tuple[str, str]]:
        free = shutil.disk_usage(self._directory).free
        if free < self._low_space:
            yield (
                "disk",
                f"Only {size(free)} are free on the server's disk. When it is full, nobody can send anything any more. "
                "See what takes the room: media usage. Copies of other servers' files can go: media purge-remote",
            )
        for file in self._certificates:
            try:
                ends = end_of_certificate(file.read_text("ascii"))
            except (OSError, ValueError) as error:
                yield f"certificate {file}", f"The certificate {file} cannot be read any more: {error}"
                continue
            if ends < now_ms + RENEWAL_DAYS * _DAY_MS:
                verb = "has ended" if ends < now_ms else "ends"
                yield (
                    f"certificate {file}",
                    f"The certificate {file} {verb} on {moment(ends)}, and nobody has renewed it. "
                    "Without it neither people nor other servers can reach this one.",
                )
