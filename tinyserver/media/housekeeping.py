"""Room on the disk: copies and thumbnails that nobody has asked for the longest go first; uploads stay.

It works whenever something was stored, never by the clock alone: a server that stores nothing needs no room.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from tinyserver.clock import Clock
from tinyserver.media.repository import MediaRepository
from tinyserver.storage import media
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.media import MediaRow, ThumbnailKey
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

log = logging.getLogger(__name__)

_BATCH = 50
_AGES_EVERY_MS = 3600 * 1000
_GRACE_MS = 60 * 1000


@dataclass(frozen=True, slots=True)
class Room:
    """How much may be kept, and how long.

    `cache_bytes` or `cache_share` (0 to 1, of the free space and the cache together) bound copies and
    thumbnails; ages are in ms, 0 for no end: since the last use for copies, since the upload for uploads.
    """

    cache_bytes: int | None
    cache_share: float | None
    copies_age_ms: int
    uploads_age_ms: int


class Housekeeping:
    """Makes room.

    Args:
        db: what is known of the files.
        repository: removes them.
        clock: for their ages.
        room: how much there is.
    """

    def __init__(self, db: Database, repository: MediaRepository, clock: Clock, room: Room) -> None:
        self._db = db
        self._repository = repository
        self._clock = clock
        self._room = room
        self._ages_checked = 0
        self._wanted = False
        self._task: asyncio.Task[None] | None = None
        repository.on_stored = self.wake

    def wake(self) -> None:
        """Something was stored: look soon whether that was too much."""
        self._wanted = True
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """End what is being done."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                await self.tidy()
        except StorageError as error:
            log.warning("there is less room for files than there could be: %s", error)
        finally:
            self._task = None

    async def tidy(self) -> None:
        """Remove what is too much or too old. Raises StorageError."""
        now = self._clock.now_ms()
        if now - self._ages_checked >= _AGES_EVERY_MS:
            self._ages_checked = now
            await self._remove_old(now)
        limit = await self._limit()
        while self._db.glance(lambda tx: media.bytes_of(tx, media.CACHE)) > limit:
            if not await self._db.write(lambda tx: _evict(tx, limit, now)):
                break
        await self._repository.sweep()

    async def _limit(self) -> int:
        if self._room.cache_share is None:
            return self._room.cache_bytes or 0
        held = self._db.glance(lambda tx: media.bytes_of(tx, media.CACHE))
        return int((await self._repository.blobs.free_bytes() + held) * self._room.cache_share)

    async def _remove_old(self, now: int) -> None:
        room = self._room

        def step(tx: WriteTransaction) -> int:
            old = []
            if room.copies_age_ms:
                old += media.copies_unused_since(tx, now - room.copies_age_ms, _BATCH)
            if room.uploads_age_ms:
                old += media.uploads_before(tx, now - room.uploads_age_ms, _BATCH)
            for row in old:
                media.remove(tx, row)
            return len(old)

        while removed := await self._db.write(step):
            log.info("removed %d files that had reached their age", removed)


def _evict(tx: WriteTransaction, limit: int, now: int) -> int:
    """Remove some copies and thumbnails, the longest unused first, until the limit is kept; how many."""
    copies = [(row.used, row) for row in media.oldest_copies(tx, _BATCH)]
    candidates: list[tuple[int, MediaRow | ThumbnailKey]] = [*copies, *_thumbnails(tx)]
    removed = 0
    for used, candidate in sorted(candidates, key=lambda each: each[0]):
        # What somebody waits for right now is served, however large it is.
        if media.bytes_of(tx, media.CACHE) <= limit or used > now - _GRACE_MS:
            break
        if isinstance(candidate, MediaRow):
            media.remove(tx, candidate)
        else:
            media.drop_thumbnail(tx, candidate)
        removed += 1
    return removed


def _thumbnails(tx: ReadTransaction) -> list[tuple[int, ThumbnailKey]]:
    return [(used, key) for key, used in media.oldest_thumbnails(tx, _BATCH)]
