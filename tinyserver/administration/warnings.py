"""Watching what an administrator has to know of before it is too late.

It looks when something is stored, at most once in a while: a server that stores nothing fills no disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from tinyserver.administration.rendering import size
from tinyserver.administration.room import AdminRoom
from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.protocol.errors import MatrixError
from tinyserver.storage import own_account
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.errors import StorageError

log = logging.getLogger(__name__)

LOW_SPACE = 500 * 1024**2
"""Bytes that are to be free on the disk."""
_LOOK_EVERY = 600.0  # seconds
_AGAIN_MS = 24 * 3600 * 1000
_DISK = "disk"


class Warnings:
    """Tells the administrators of a disk that is nearly full, once a day as long as it is.

    Args:
        db: knows when they were told.
        bell: tells when something was stored.
        clock: for the time of day.
        room: where they are told.
        directory: on the disk.
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
        monotonic: Callable[[], float],
        low_space: int = LOW_SPACE,
    ) -> None:
        self._db = db
        self._bell = bell
        self._clock = clock
        self._room = room
        self._directory = directory
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
        free = shutil.disk_usage(self._directory).free
        now = self._clock.now_ms()
        if free >= self._low_space:
            return
        told = self._db.glance(lambda tx: own_account.warned_at(tx, _DISK))
        if told is not None and told <= now < told + _AGAIN_MS:
            return
        text = (
            f"Only {size(free)} are free on the server's disk. When it is full, nobody can send anything any more. "
            "See what takes the room: media usage. Copies of other servers' files can go: media purge-remote"
        )
        try:
            if not await self._room.tell(_DISK, text, now):
                log.warning("only %s are free on the disk of %s", size(free), self._directory)
        except (StorageError, MatrixError) as error:
            log.warning("the administrators could not be told that the disk is nearly full: %s", error)
