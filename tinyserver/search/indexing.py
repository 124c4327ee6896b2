"""Keeps the index of words and the directory of users up to date: a consumer of the one order, with a cursor on disk.

Messages are not indexed one by one but a while later together, and at the latest when somebody searches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from tinyserver.bell import Bell
from tinyserver.directory.descriptions import describe
from tinyserver.protocol.search_text import KEYS
from tinyserver.storage import events, names, rooms, search_index, user_directory
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import Topic, WriteTransaction

_OF_USERS = ("m.room.member", "m.room.join_rules", "m.room.history_visibility")
log = logging.getLogger(__name__)

DELAY = 20.0
"""Seconds for which new messages gather before they are indexed."""
LOOKED_AT = 500
"""How many events are looked at in one step, ..."""
INDEXED = 100
"""... and how many are indexed at most, so that no other write waits long."""


class SearchIndexing:
    """Follows what is stored.

    Args:
        db: where it is stored.
        bell: tells when there is something new.
    """

    def __init__(self, db: Database, bell: Bell) -> None:
        self._db = db
        self._bell = bell
        self._closing = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._complete_at = -1

    def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop; what is not indexed will be after the next start."""
        self._closing.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def catch_up(self) -> None:
        """Index everything that is stored by now. Raises StorageError."""
        async with self._lock:
            position = self._bell.position
            if position <= self._complete_at:
                return
            while await self._db.write(_index_some):
                pass
            self._complete_at = position

    async def _follow(self) -> None:
        while not self._closing.is_set():
            await self._bell.wait(self._complete_at, (Topic.TIMELINE,))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), DELAY)
            try:
                await self.catch_up()
            except StorageError as error:
                log.warning("messages could not be put into the search index: %s", error)


def _index_some(tx: WriteTransaction) -> bool:
    """Index the next events; whether there are more."""
    found = search_index.not_indexed(tx, search_index.indexed_until(tx), LOOKED_AT)
    if not found:
        return False
    types = {names.find(tx, event_type) for event_type in (*KEYS, *_OF_USERS)}
    wanted = [nid for nid, event_type in found if event_type in types]
    last = found[-1][0] if len(wanted) <= INDEXED else wanted[INDEXED - 1]
    read = events.get_many(tx, wanted[:INDEXED], keep=False)
    search_index.add(tx, read.values())
    for nid in sorted(read):
        _note_for_directory(tx, read[nid])
    search_index.set_indexed_until(tx, last)
    return len(found) == LOOKED_AT or len(wanted) > INDEXED


def _note_for_directory(tx: WriteTransaction, stored: StoredEvent) -> None:
    """Let users be found by their names, and note which rooms are open."""
    event_type = stored.event.type
    if event_type == "m.room.member":
        user_directory.note_member(tx, stored)
    elif event_type in _OF_USERS:
        seen = describe(tx, rooms.get(tx, stored.room))
        user_directory.set_open(tx, stored.room, is_open=seen.world_readable or seen.join_rule == "public")
