"""Rooms that have come apart are joined together again before that gets expensive.

What a room is now follows from all of its forward extremities, for each event anew: many of them (as a spam server
makes on purpose) cost every server of the room time. The next event of anybody here joins some of them; where nobody
says anything, an empty event does, of the type by which clients and servers know such events.

All servers of a room see the same. So each waits for a moment that gets longer with their number, and looks again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import suppress

from tinyserver.protocol.errors import Forbidden, MatrixError, UserSuspended
from tinyserver.protocol.events import MAX_PREV_EVENTS
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.storage import memberships, names, room_state, rooms, server_stays
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

log = logging.getLogger(__name__)

MAX_ENDS = MAX_PREV_EVENTS
"""More forward extremities than an event can name are too many."""
AT_ONCE = 10
"""So many events before others in the room may have done it."""
SECONDS_PER_SERVER = 0.25
LONGEST_WAIT = 30.0
TYPE = "org.matrix.dummy_event"
_MEMBERS_TRIED = 5
_KEPT = ("membership", "displayname", "avatar_url")


class ManyEnds:
    """Joins the ends of rooms. Lives on the event loop.

    Args:
        db: where rooms are stored.
        pipeline: sends events.
        jitter: a number from 0 to 1 by which servers differ.
    """

    def __init__(self, db: Database, pipeline: EventPipeline, jitter: Callable[[], float] = random.random) -> None:
        self._db = db
        self._pipeline = pipeline
        self._jitter = jitter
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False

    def look_at(self, room_nid: int) -> None:
        """A room has got new events: join its ends if there are too many now."""
        if room_nid in self._timers or self._is_closing:
            return
        servers = self._db.glance(lambda tx: _servers(tx, room_nid))
        if servers is not None:
            delay = self._jitter() * min(SECONDS_PER_SERVER * servers, LONGEST_WAIT)
            self._timers[room_nid] = asyncio.get_running_loop().call_later(delay, self._begin, room_nid)

    async def close(self) -> None:
        """Join nothing any more."""
        self._is_closing = True
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, room_nid: int) -> None:
        task = asyncio.ensure_future(self._join(room_nid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, room_nid: int) -> None:
        sent = 0
        try:
            while sent < AT_ONCE and await self._db.write(lambda tx: self._send(tx, room_nid)):
                sent += 1
        except (StorageError, MatrixError) as error:
            log.info("the ends of the room %s could not be joined: %s", room_nid, error)
        finally:
            del self._timers[room_nid]
        if sent == AT_ONCE:
            self.look_at(room_nid)

    def _send(self, tx: WriteTransaction, room_nid: int) -> bool:
        """Join as many ends as an event can name, if there are still too many; whether that was so."""
        room = rooms.get(tx, room_nid)
        if len(room.extremities) <= MAX_ENDS:
            return False
        for draft in _drafts(tx, room):
            with suppress(Forbidden, UserSuspended):
                self._pipeline.send(tx, room_nid, draft)
                return True
        return False


def _servers(tx: ReadTransaction, room_nid: int) -> int | None:
    """How many other servers are in a room that has too many ends, else None."""
    room = rooms.get(tx, room_nid)
    if len(room.extremities) <= MAX_ENDS or room.is_partial:
        return None
    return len(server_stays.now(tx, room_nid))


def _drafts(tx: ReadTransaction, room: RoomRow) -> Iterator[EventDraft]:
    """What somebody here may be allowed to send: an empty event or, where most may only listen, their membership as it
    is."""
    members = [names.text(tx, nid) for nid in memberships.local_members(tx, room.nid)[:_MEMBERS_TRIED]]
    for user_id in members:
        yield EventDraft(TYPE, user_id)
    for user_id in members:
        content = room_state.content_at(tx, room.state, "m.room.member", user_id)
        kept: dict[str, object] = {key: content[key] for key in _KEPT if key in content}
        yield EventDraft("m.room.member", user_id, kept, state_key=user_id)
