"""Checked events of other servers on their way into rooms.

Events are admitted in order, several by one commit. One that refers to what is not here is kept on disk by that same
commit, so that its server need not wait for the answer and nothing is lost by a crash; what it lacks is then fetched,
for a few rooms at a time. It is tried again when that comes by itself, when its server can be reached again, and else
with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from time import monotonic
from typing import Any

from tinyserver.clock import Clock
from tinyserver.protocol.errors import MatrixError
from tinyserver.protocol.events import Event
from tinyserver.protocol.identifiers import domain_of
from tinyserver.protocol.signing import SignatureError
from tinyserver.rooms.pipeline import EventPipeline, MissingAncestors, Outcome, Received
from tinyserver.storage import rooms, waiting_events
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import WriteTransaction
from tinyserver.storage.waiting_events import WaitingEvent

log = logging.getLogger(__name__)

PER_STEP = 10
"""Events in one step of the writer: who writes in another room waits for that long."""
STEP_SECONDS = 0.03
"""A step that takes longer (in a room that has come apart) ends early."""
STEPS_AT_ONCE = 3
"""So many rooms' steps are with the writer at a time."""
ROOMS_AT_ONCE = 5
"""For so many rooms missing events are fetched at a time."""
MAX_IN_ROOM = 200
MAX_IN_ALL = 5000
MAX_TRIES = 8
SHORTEST_PAUSE = 1.0
"""Seconds between two attempts to complete what waits in a room, unless something comes meanwhile."""
FIRST_PAUSE_MS = 30_000
"""After the first try in vain; twice that after the next."""


class Inbox:
    """Takes events into the rooms that this server is in. Lives on the event loop.

    Args:
        db: where rooms are stored.
        pipeline: admits events.
        clock: when what waits is tried again.
        first_pause_ms: how long after the first try in vain.
    """

    def __init__(
        self, db: Database, pipeline: EventPipeline, clock: Clock, first_pause_ms: int = FIRST_PAUSE_MS
    ) -> None:
        self._db = db
        self._pipeline = pipeline
        self._clock = clock
        self._first_pause_ms = first_pause_ms
        self._writes = asyncio.Semaphore(STEPS_AT_ONCE)
        self._fetches = asyncio.Semaphore(ROOMS_AT_ONCE)
        self._work: dict[int, asyncio.Task[None]] = {}
        self._later: dict[int, asyncio.TimerHandle] = {}
        """For each room in which something waits and nothing is done at the moment: when it goes on."""
        self._releasing: set[asyncio.Task[None]] = set()
        self._is_closing = False

    def start(self) -> None:
        """Go on with what waited when the server stopped."""
        for room in self._db.glance(waiting_events.rooms):
            self._work_on(room)

    async def close(self) -> None:
        """Stop fetching; what waits is on disk."""
        self._is_closing = True
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
        working = [*self._work.values(), *self._releasing]
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)

    def on_return(self, server: str) -> None:
        """A server that failed is worth another try: what its events lack is asked for again."""
        if self._later and not self._is_closing:
            task = asyncio.ensure_future(self._release(server, list(self._later)))
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

    async def _release(self, server: str, waiting_in: Sequence[int]) -> None:
        def step(tx: WriteTransaction) -> None:
            for room in waiting_in:
                waiting_events.release_from(tx, room, server)

        try:
            await self._db.write(step)
        except StorageError as error:
            log.warning("what waits for %s is left for later: %s", server, error)
            return
        for room in waiting_in:
            self._work_on(room)

    async def check(self, room: RoomRow, pdus: Sequence[Any]) -> list[Event | MatrixError | SignatureError]:
        """Check what needs no knowledge of the room: for each PDU the event, or what is wrong with it."""
        return await self._pipeline.check_many(room, pdus)

    async def take(self, origin: str, room: RoomRow, events: Sequence[Event]) -> list[str | None]:
        """Admit events in the order given.

        Args:
            origin: the server that sent them.
            events: at most `PER_STEP` events of the room whose format, signatures and hashes have been checked.

        Returns:
            For each why it was not accepted, or None: it is stored, as part of the room or to wait for others.
        """
        async with self._writes:
            try:
                outcomes, waiting = await self._db.write(lambda tx: self._admit(tx, origin, room.nid, events))
            except (StorageError, asyncio.CancelledError):
                raise
            except Exception:
                if len(events) == 1:  # a bug of ours; the server's other events must not be held up by it
                    log.exception("taking the event %s of %s failed", events[0].event_id, room.room_id)
                    return ["This server cannot handle the event."]
                outcomes, waiting = None, False
        if outcomes is not None and len(outcomes) < len(events):
            return outcomes + await self.take(origin, room, events[len(outcomes) :])
        if outcomes is None:
            return [outcome for event in events for outcome in await self.take(origin, room, [event])]
        if waiting:
            self._work_on(room.nid)
        return outcomes

    def _admit(
        self, tx: WriteTransaction, origin: str, room: int, events: Sequence[Event]
    ) -> tuple[list[str | None], bool]:
        """What `take` returns for the first of the events, for as many as there is time for, and whether anything waits
        in the room now."""
        outcomes: list[str | None] = []
        end = monotonic() + STEP_SECONDS
        for event in events:
            if outcomes and monotonic() > end:
                break
            try:
                outcomes.append(_refusal(self._pipeline.admit(tx, room, event)))
            except MissingAncestors as missing:
                outcomes.append(self._put_aside(tx, origin, room, event, missing.event_ids[0]))
        waiting = waiting_events.any_in(tx, room)
        if waiting:
            waiting_events.release(tx, room)
        return outcomes, waiting

    @staticmethod
    def _put_aside(tx: WriteTransaction, origin: str, room: int, event: Event, lacks: str) -> str | None:
        if waiting_events.is_waiting(tx, room, event.event_id):
            return None
        if waiting_events.count(tx, room) >= MAX_IN_ROOM or waiting_events.total(tx, MAX_IN_ALL) >= MAX_IN_ALL:
            # It will be fetched as an ancestor of a later one.
            return "Too many events wait for missing ones already."
        waiting_events.put(tx, room, event, origin, lacks)
        return None

    # -- what waits ------------------------------------------------------------------------------

    def _work_on(self, room: int) -> None:
        if room not in self._work and not self._is_closing:
            timer = self._later.pop(room, None)
            if timer is not None:
                timer.cancel()
            self._work[room] = asyncio.ensure_future(self._work_through(room))

    async def _work_through(self, room_nid: int) -> None:
        """Try every event of a room that waits, once, the oldest first."""
        tried: set[int] = set()
        try:
            async with self._fetches:
                room = self._db.glance(lambda tx: rooms.get(tx, room_nid))
                while (waiting := self._next(room, tried)) is not None:
                    tried.add(waiting.nid)
                    await self._try(room, waiting)
        except StorageError as error:
            log.warning("events that wait in %s are left for later: %s", room_nid, error)
        finally:
            del self._work[room_nid]
            self._go_on_later(room_nid)

    def _go_on_later(self, room: int) -> None:
        """Come back to a room in which something still waits, when it is due."""
        if self._is_closing:
            return
        with contextlib.suppress(StorageError):
            due = self._db.glance(lambda tx: waiting_events.next_due(tx, room))
            if due is not None:
                seconds = max((due - self._clock.now_ms()) / 1000, SHORTEST_PAUSE)
                self._later[room] = asyncio.get_running_loop().call_later(seconds, self._work_on, room)

    def _next(self, room: RoomRow, tried: set[int]) -> WaitingEvent | None:
        now = self._clock.now_ms()
        return self._db.glance(lambda tx: waiting_events.first_due(tx, room.nid, room.version, now, tried))

    async def _try(self, room: RoomRow, waiting: WaitingEvent) -> None:
        lacks = None
        for server in dict.fromkeys((waiting.origin, domain_of(waiting.event.sender))):
            try:
                received = await self._pipeline.complete(server, room, waiting.event)
            except MissingAncestors as missing:
                lacks = missing.event_ids[0]
                continue
            except StorageError:
                raise
            except Exception:
                log.exception("completing the event %s of %s failed", waiting.event.event_id, room.room_id)
                break
            log.debug("%s in %s: %s", waiting.event.event_id, room.room_id, _refusal(received) or "taken")
            await self._db.write(lambda tx: _end(tx, room.nid, waiting.nid))
            return
        if waiting.tries + 1 >= MAX_TRIES:
            log.info("%s in %s is given up: nobody has what it follows", waiting.event.event_id, room.room_id)
            await self._db.write(lambda tx: waiting_events.remove(tx, waiting.nid))
            return
        due = self._clock.now_ms() + (self._first_pause_ms << waiting.tries)
        await self._db.write(lambda tx: waiting_events.tried(tx, waiting.nid, lacks, due))


def _end(tx: WriteTransaction, room: int, nid: int) -> None:
    """An event waits no longer; others may have waited for it, or for what came with it."""
    waiting_events.remove(tx, nid)
    waiting_events.release(tx, room)


def _refusal(received: Received) -> str | None:
    return received.reason if received.outcome is Outcome.REJECTED else None
