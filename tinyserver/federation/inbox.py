"""Checked events of other servers on their way into rooms.

Events are admitted in order, several by one commit. One that refers to what is not here is kept on disk by that same
commit, so that its server need not wait for the answer and nothing is lost by a crash; what it lacks is then fetched,
for a few rooms at a time. It is tried again when that comes by itself, when a server of the room can be reached again,
and else with growing pauses; it is given up only when those who should know what it follows say that they do not.

What is kept is bounded: of more events only the names are, to ask for them when the others have found their places.
Most have come by then, as ancestors of later ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from time import monotonic
from typing import Any, Protocol

from tinyserver.clock import Clock
from tinyserver.protocol.errors import MatrixError
from tinyserver.protocol.events import Event
from tinyserver.protocol.identifiers import domain_of
from tinyserver.protocol.signing import SignatureError
from tinyserver.rooms.ancestors import MissingAncestors
from tinyserver.rooms.pipeline import EventPipeline, Outcome, Received
from tinyserver.storage import names, rooms, server_stays, waiting_events
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction
from tinyserver.storage.waiting_events import WaitingEvent

log = logging.getLogger(__name__)

PER_STEP = 10
"""Events in one step of the writer: who writes in another room waits for that long."""
STEP_SECONDS = 0.03
"""A step that takes longer (in a room that has come apart) ends early."""
COSTLY_SECONDS = 0.1
"""After a step that took longer still, though it may hold one event alone, the room pauses for as long: half of the
writer's time at least is for others."""
STEPS_AT_ONCE = 3
"""So many rooms' steps are with the writer at a time."""
ROOMS_AT_ONCE = 5
"""For so many rooms missing events are fetched at a time."""
MAX_IN_ROOM = 200
MAX_IN_ALL = 5000
MAX_NAMES_IN_ROOM = 2000
MAX_NAMES_IN_ALL = 20_000
MAX_TRIES = 8
"""So often an event is tried whose servers answer, ..."""
MAX_TRIES_EVER = 64
"""... and so often one whose servers do not: for a month."""
OTHERS = 3
"""So many further servers of the room are asked what an event follows, ..."""
ASKING_OTHERS = 3
"""... for so many events of a room at a time: mostly they all lack the same."""
SHORTEST_PAUSE = 1.0
"""Seconds between two attempts to complete what waits in a room, unless something comes meanwhile."""
FIRST_PAUSE_MS = 30_000
"""After the first try in vain; twice that after the next."""
LONGEST_PAUSE_MS = 12 * 3600 * 1000


class Elsewhere(Protocol):
    """What other servers can be asked (implemented by `participation.missing_events`)."""

    async def event(self, server: str, room: RoomRow, event_id: str) -> Event | None:
        """An event of a room, checked; None if the server does not give it."""

    def is_failing(self, server: str) -> bool:
        """Whether a server could not be reached when it was last tried."""


class ManyEnds(Protocol):
    """Looks after rooms that come apart (implemented by rooms)."""

    def look_at(self, room_nid: int, /) -> None:
        """A room has got new events."""


class Inbox:
    """Takes events into the rooms that this server is in. Lives on the event loop.

    Args:
        db: where rooms are stored.
        pipeline: admits events.
        elsewhere: asks other servers.
        many_ends: is told of rooms with new events.
        clock: when what waits is tried again.
        first_pause_ms: how long after the first try in vain.
    """

    def __init__(
        self,
        db: Database,
        pipeline: EventPipeline,
        elsewhere: Elsewhere,
        many_ends: ManyEnds,
        clock: Clock,
        first_pause_ms: int = FIRST_PAUSE_MS,
    ) -> None:
        self._db = db
        self._pipeline = pipeline
        self._elsewhere = elsewhere
        self._many_ends = many_ends
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
        """A server that failed is worth another try: what is missing in its rooms is asked for again."""
        if self._later and not self._is_closing:
            task = asyncio.ensure_future(self._release(server, list(self._later)))
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

    async def worked_through(self, room: int) -> None:
        """Wait until what waits in a room has been tried."""
        task = self._work.get(room)
        if task is not None:
            await asyncio.wait([task])

    async def _release(self, server: str, waiting_in: Sequence[int]) -> None:
        def step(tx: WriteTransaction) -> list[int]:
            shared = [room for room in waiting_in if server_stays.is_in_room(tx, room, server)]
            for room in shared:
                waiting_events.release_all(tx, room)
            return shared

        try:
            released = await self._db.write(step)
        except StorageError as error:
            log.warning("what waits for %s is left for later: %s", server, error)
            return
        for room in released:
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
        outcomes: list[str | None] = []
        while len(outcomes) < len(events):
            outcomes += await self._take_some(origin, room, events[len(outcomes) :])
        self._many_ends.look_at(room.nid)
        if self._db.glance(lambda tx: waiting_events.any_in(tx, room.nid)):
            self._work_on(room.nid)
        return outcomes

    async def _take_some(self, origin: str, room: RoomRow, events: Sequence[Event]) -> list[str | None]:
        """What `take` returns for the first of the events, for as many as there is time for in one step."""
        try:
            outcomes, seconds = await self._db.write(
                lambda tx: self._admit(tx, origin, room.nid, events), turn=self._writes
            )
        except (StorageError, asyncio.CancelledError):
            raise
        except Exception:
            if len(events) > 1:  # a bug of ours; the server's other events must not be held up by it
                return await self._take_some(origin, room, events[:1])
            log.exception("taking the event %s of %s failed", events[0].event_id, room.room_id)
            return ["This server cannot handle the event."]
        if seconds > COSTLY_SECONDS:
            await asyncio.sleep(seconds)
        return outcomes

    def _admit(
        self, tx: WriteTransaction, origin: str, room: int, events: Sequence[Event]
    ) -> tuple[list[str | None], float]:
        """The step of `_take_some`: what it returns, and how many seconds that took."""
        outcomes: list[str | None] = []
        begun = monotonic()
        for event in events:
            if outcomes and monotonic() > begun + STEP_SECONDS:
                break
            try:
                # Who has made an event may come back to it, if it was rejected by what another server said of it.
                is_author = domain_of(event.sender) == origin
                outcomes.append(_refusal(self._pipeline.admit(tx, room, event, anew=is_author)))
            except MissingAncestors as missing:
                outcomes.append(self._put_aside(tx, origin, room, event, missing.event_ids[0]))
        if waiting_events.any_in(tx, room):
            waiting_events.release(tx, room)
        return outcomes, monotonic() - begun

    @staticmethod
    def _put_aside(tx: WriteTransaction, origin: str, room: int, event: Event, lacks: str) -> str | None:
        if waiting_events.is_waiting(tx, room, event.event_id):
            return None
        if waiting_events.count(tx, room) < MAX_IN_ROOM and waiting_events.total(tx, MAX_IN_ALL) < MAX_IN_ALL:
            waiting_events.put(tx, room, event, origin, lacks)
            return None
        is_full = (
            waiting_events.count_names(tx, room) >= MAX_NAMES_IN_ROOM
            or waiting_events.total_names(tx, MAX_NAMES_IN_ALL) >= MAX_NAMES_IN_ALL
        )
        # The oldest gives way: it will be fetched as an ancestor of a later one.
        if is_full and not waiting_events.forget_a_name(tx, room, origin):
            return "Too many events wait for missing ones already."
        waiting_events.put_name(tx, room, event.event_id, origin)
        return None

    # -- what waits ------------------------------------------------------------------------------

    def _work_on(self, room: int) -> None:
        if room not in self._work and not self._is_closing:
            timer = self._later.pop(room, None)
            if timer is not None:
                timer.cancel()
            self._work[room] = asyncio.ensure_future(self._work_through(room))

    async def _work_through(self, room_nid: int) -> None:
        """Try every event of a room that is due."""
        asking = ASKING_OTHERS
        try:
            async with self._fetches:
                room = self._db.glance(lambda tx: rooms.get(tx, room_nid))
                while (waiting := await self._next(room)) is not None:
                    servers = self._servers(room, waiting, OTHERS if asking else 0)
                    if not await self._try(room, waiting, servers):
                        asking = max(asking - 1, 0)
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

    async def _next(self, room: RoomRow) -> WaitingEvent | None:
        """Admit what is due and lacks nothing any more, several by one commit. Returns the first that lacks something,
        or None if nothing is due."""
        now = self._clock.now_ms()
        while (first := self._db.glance(lambda tx: _first_due(tx, room, now))) is not None:
            try:
                waiting = await self._db.write(lambda tx: self._admit_due(tx, room, now), turn=self._writes)
            except (StorageError, asyncio.CancelledError):
                raise
            except Exception as error:  # a bug of ours; it is told when the event is tried alone
                log.debug("events that wait in %s are tried one by one: %s", room.room_id, error)
                return first
            self._many_ends.look_at(room.nid)
            if waiting is not None:
                return waiting
        return None

    def _admit_due(self, tx: WriteTransaction, room: RoomRow, now: int) -> WaitingEvent | None:
        """The step of `_next`. Returns an event that lacks something, or None: there was not enough time to tell."""
        begun = monotonic()
        has_tidied = is_any_admitted = False
        lacking = None
        while lacking is None and (waiting := _first_due(tx, room, now)) is not None:
            if waiting.event is not None:
                try:
                    self._pipeline.admit(tx, room.nid, waiting.event)
                except MissingAncestors:
                    lacking = waiting
                else:
                    waiting_events.remove(tx, waiting.nid)
                    is_any_admitted = True
            elif has_tidied:
                lacking = waiting
            else:  # most have come by now, as ancestors of others
                waiting_events.forget_stored(tx, room.nid)
                has_tidied = True
            if monotonic() > begun + STEP_SECONDS:
                break
        if is_any_admitted:
            waiting_events.release(tx, room.nid)
        return lacking

    def _servers(self, room: RoomRow, waiting: WaitingEvent, others: int) -> list[str]:
        """Whom to ask for what an event lacks: those who should have it, and some of the other servers of the room."""
        largest = self._db.glance(
            lambda tx: [names.text(tx, nid) for nid in server_stays.largest(tx, room.nid, others + 2)] if others else []
        )
        own = _own_servers(waiting)
        return own + [server for server in largest if server not in own][:others]

    async def _try(self, room: RoomRow, waiting: WaitingEvent, servers: Sequence[str]) -> bool:
        """Try to complete an event; whether it waits no longer."""
        event, lacks = waiting.event, None
        for server in servers:
            try:
                event = event or await self._elsewhere.event(server, room, waiting.event_id)
                if event is None:
                    continue
                received = await self._pipeline.complete(server, room, event)
            except MissingAncestors as missing:
                lacks = missing.event_ids[0]
                continue
            except StorageError:
                raise
            except Exception:
                log.exception("completing the event %s of %s failed", waiting.event_id, room.room_id)
                break
            log.debug("%s in %s: %s", waiting.event_id, room.room_id, _refusal(received) or "taken")
            await self._db.write(lambda tx: _end(tx, room.nid, waiting.nid))
            self._many_ends.look_at(room.nid)
            return True
        is_hopeless = not any(self._elsewhere.is_failing(server) for server in _own_servers(waiting))
        if waiting.tries + 1 >= (MAX_TRIES if is_hopeless else MAX_TRIES_EVER) and not waiting.is_released:
            log.info("%s in %s is given up: nobody has what it follows", waiting.event_id, room.room_id)
            await self._db.write(lambda tx: waiting_events.remove(tx, waiting.nid))
            return True
        due = self._clock.now_ms() + min(self._first_pause_ms << waiting.tries, LONGEST_PAUSE_MS)
        await self._db.write(lambda tx: waiting_events.tried(tx, waiting, lacks, due))
        return False


def _first_due(tx: ReadTransaction, room: RoomRow, now: int) -> WaitingEvent | None:
    return waiting_events.first_due(tx, room.nid, room.version, now)


def _own_servers(waiting: WaitingEvent) -> list[str]:
    """The servers that should have what an event follows: the one that sent it, and that of its author."""
    author = [] if waiting.event is None else [domain_of(waiting.event.sender)]
    return list(dict.fromkeys([waiting.origin, *author]))


def _end(tx: WriteTransaction, room: int, nid: int) -> None:
    """An event waits no longer; others may have waited for it, or for what came with it."""
    waiting_events.remove(tx, nid)
    waiting_events.release(tx, room)


def _refusal(received: Received) -> str | None:
    return received.reason if received.outcome is Outcome.REJECTED else None
