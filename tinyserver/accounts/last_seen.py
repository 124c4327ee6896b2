"""When each device was last used, kept in memory and written rarely: an SD card is not for such things."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tinyserver.storage import devices
from tinyserver.storage.database import Database
from tinyserver.storage.devices import Seen
from tinyserver.storage.errors import StorageError

log = logging.getLogger(__name__)

WRITE_INTERVAL = 3600.0
"""Seconds between two writes of everything that was seen meanwhile."""
MAX_AGENT = 200
_MAX_REMEMBERED = 10_000
_PATIENCE = 5.0  # seconds: a write of somebody else may take it along


class LastSeen:
    """Remembers every request's device; about once an hour all of them go to disk in one write.

    Args:
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, db: Database, monotonic: Callable[[], float]) -> None:
        self._db = db
        self._monotonic = monotonic
        self._seen: dict[int, Seen] = {}
        self._written_at = monotonic()
        self._writing: asyncio.Task[None] | None = None

    def note(self, device: int, seen: Seen) -> None:
        """A device (by number) was used."""
        self._seen[device] = seen
        due = self._monotonic() - self._written_at >= WRITE_INTERVAL or len(self._seen) > _MAX_REMEMBERED
        if due and self._writing is None:
            self._writing = asyncio.create_task(self._write(_PATIENCE))

    def of(self, device: int) -> Seen | None:
        """What is newer than what is stored, or None."""
        return self._seen.get(device)

    async def close(self) -> None:
        """Write what was seen since the last write."""
        if self._writing is not None:
            await self._writing
        await self._write()

    async def _write(self, patience: float = 0.0) -> None:
        seen, self._seen = self._seen, {}
        self._written_at = self._monotonic()
        try:
            if seen:
                await self._db.write(lambda tx: devices.set_seen(tx, seen.items()), patience=patience)
        except StorageError as error:
            log.warning("the times when devices were last used are lost: %s", error)
        finally:
            self._writing = None
