"""Delayed events (MSC4140): sent after a while, unless their sender says otherwise; how calls notice who is gone.

What is scheduled is on disk before the client hears of it. That a delay began anew is only remembered: clients in a
call say so every few seconds, and a card must not be written for that. After a restart of this server, delays that had
begun anew begin anew again, and those that passed meanwhile get some grace: nobody is thrown out of a call because this
server was away.

spec: MSC4140
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from tinyserver.accounts.requester import Requester
from tinyserver.clock import Clock
from tinyserver.protocol import canonical_json
from tinyserver.protocol.errors import InvalidParam, LimitExceeded, MatrixError, MaxDelayExceeded, NotFound, Unknown
from tinyserver.rooms.access import room_of_member
from tinyserver.rooms.delay_ids import transaction_of
from tinyserver.rooms.sending import Sending, check_names, check_sticky, check_txn_id
from tinyserver.storage import accounts, delayed_events, names
from tinyserver.storage.database import Database
from tinyserver.storage.delayed_events import DelayedRow
from tinyserver.storage.errors import StorageError
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

log = logging.getLogger(__name__)

GRACE_SECONDS = 15.0
"""What a delay that passed while this server was away has left after the start."""
RETRY_SECONDS = 30.0
"""When the disk did not take the event."""
KEPT_MS = 7 * 24 * 3600 * 1000
KEPT_OF_ONE_USER = 1000
_PATIENCE = 5.0
_SWEEP = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """How far ahead (ms, 0: not at all) and how many at a time one user may schedule."""

    max_delay: int
    max_scheduled: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """An event to be sent after `delay` ms; without a `state_key` it is no state event. `timestamp` is what an
    application service wants as the time when it was sent; for `sticky` ms it is sticky."""

    room_id: str
    type: str
    state_key: str | None
    content: dict[str, Any]
    delay: int
    txn_id: str | None = None
    timestamp: int | None = None
    sticky: int | None = None


@dataclass(slots=True)
class _Waiting:
    """One that is still to be sent; times in monotonic seconds."""

    due: float
    user: int
    delay: float
    restarted: bool


class DelayedEvents:
    """Schedules events and sends them.

    Args:
        db: where they are kept.
        sending: sends them.
        clock: for the times that clients are told.
        monotonic: seconds of a clock that only runs forward.
        limits: how much may be scheduled.
    """

    def __init__(
        self, db: Database, sending: Sending, clock: Clock, monotonic: Callable[[], float], limits: Limits
    ) -> None:
        self._db = db
        self._sending = sending
        self._clock = clock
        self._monotonic = monotonic
        self.limits = limits
        self._waiting: dict[str, _Waiting] = {}
        self._queue: list[tuple[float, int, str]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._sender: asyncio.Task[None] | None = None

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what was scheduled before this server started."""
        now_ms, now = self._clock.now_ms(), self._monotonic()

        def step(tx: ReadTransaction) -> None:
            for row in delayed_events.scheduled(tx):
                left = row.delay / 1000 if row.restarted else (row.scheduled + row.delay - now_ms) / 1000
                waiting = _Waiting(now + max(left, GRACE_SECONDS), row.user, row.delay / 1000, bool(row.restarted))
                self._wait(row.delay_id, waiting)

        self._db.glance(step)
        self._arm()

    async def close(self) -> None:
        """Send nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)

    # -- what clients ask for --------------------------------------------------------------------

    async def schedule(self, requester: Requester, wanted: Wanted) -> str:
        """Schedule an event; its delay ID, the same for the same transaction ID of a device.

        Raises:
            InvalidParam: the delay is no positive number.
            MaxDelayExceeded: it is longer than this server waits.
            LimitExceeded: the user has scheduled many already.
            Forbidden: the user is not in the room.
            BadJson, TooLarge: the event is malformed.
        """
        if wanted.delay <= 0:
            raise InvalidParam("The delay must be a positive number of milliseconds")
        if wanted.delay > self.limits.max_delay:
            raise MaxDelayExceeded
        check_txn_id(wanted.txn_id)
        check_names(wanted.type, wanted.state_key)
        check_sticky(wanted.sticky)
        now, delay_id = self._clock.now_ms(), secrets.token_urlsafe(24)
        row = DelayedRow(
            delay_id,
            requester.user_nid,
            requester.txn_scope,
            wanted.txn_id,
            wanted.room_id,
            wanted.type,
            wanted.state_key,
            canonical_json.encode_lenient(wanted.content),
            wanted.delay,
            now,
            wanted.timestamp,
            wanted.sticky,
        )

        def step(tx: WriteTransaction) -> str:
            known = _scheduled_before(tx, row)
            if known is not None:
                return known
            room_of_member(tx, wanted.room_id, requester.user_id)
            if delayed_events.count(tx, row.user) >= self.limits.max_scheduled:
                raise LimitExceeded(60_000, "You have scheduled as many events as this server keeps for you")
            delayed_events.add(tx, row)
            return delay_id

        kept = await self._db.write(step)
        if kept == delay_id:
            seconds = wanted.delay / 1000
            self._wait(delay_id, _Waiting(self._monotonic() + seconds, row.user, seconds, restarted=False))
            self._arm()
        return kept

    def restart(self, delay_id: str, requester: Requester | None) -> None:
        """Have the delay begin anew. Raises NotFound, or Unknown (409) if it is too late for that."""
        waiting = self._waiting.get(delay_id)
        if waiting is None or (requester is not None and waiting.user != requester.user_nid):
            self._row(delay_id, requester)
            raise Unknown("The event is not scheduled any more", status=409)
        waiting.due = self._monotonic() + waiting.delay
        if not waiting.restarted:
            waiting.restarted = True
            # The one write, which nobody waits for: from now on a restart of this server lets the delay begin anew.
            write = self._db.write(lambda tx: delayed_events.mark_restarted(tx, delay_id), patience=_PATIENCE)
            asyncio.ensure_future(write).add_done_callback(_log_failure)

    async def cancel(self, delay_id: str, requester: Requester | None) -> None:
        """Have the event not sent. Raises NotFound, or Unknown (409) if it was sent."""
        row = self._row(delay_id, requester)
        if row.finalised is not None:
            if row.event_id is not None:
                raise Unknown("The event has been sent already", status=409)
            return
        waiting = self._waiting.pop(delay_id, None)
        if waiting is None:  # it is being sent at this very moment
            raise Unknown("The event has been sent already", status=409)
        try:
            await self._db.write(lambda tx: self._finalise(tx, row))
        except StorageError:
            self._wait(delay_id, waiting)
            self._arm()
            raise

    async def send(self, delay_id: str, requester: Requester | None) -> None:
        """Send the event now; if that fails, it stays scheduled.

        Raises:
            NotFound: there is none.
            Unknown: it was cancelled (409).
            MatrixError: it may not be sent.
        """
        row = self._row(delay_id, requester)
        if row.finalised is not None:
            if row.event_id is None:
                raise Unknown("The event has been cancelled", status=409)
            return
        waiting = self._waiting.pop(delay_id, None)
        if waiting is None:
            return  # it is being sent at this very moment
        try:
            await self._send(row)
        except BaseException:
            self._wait(delay_id, waiting)
            self._arm()
            raise

    def one(self, requester: Requester, delay_id: str) -> DelayedRow:
        """One of the requester's. Raises NotFound."""
        return self._row(delay_id, requester)

    def all(self, requester: Requester) -> list[tuple[DelayedRow, int]]:
        """The requester's that are still to be sent, each with the start of its countdown (ms since 1970), the next
        one first."""
        rows = self._db.glance(lambda tx: delayed_events.scheduled_by(tx, requester.user_nid))
        found = [(row, self._running_since(row)) for row in rows if row.delay_id in self._waiting]
        return sorted(found, key=lambda each: each[1] + each[0].delay)

    def _running_since(self, row: DelayedRow) -> int:
        left = self._waiting[row.delay_id].due - self._monotonic()
        return self._clock.now_ms() + int(left * 1000) - row.delay

    def _row(self, delay_id: str, requester: Requester | None) -> DelayedRow:
        row = self._db.glance(lambda tx: delayed_events.get(tx, delay_id))
        if row is None or (requester is not None and row.user != requester.user_nid):
            raise NotFound("There is no such delayed event")
        return row

    # -- sending ---------------------------------------------------------------------------------

    def _wait(self, delay_id: str, waiting: _Waiting) -> None:
        self._waiting[delay_id] = waiting
        self._enqueue(delay_id, waiting.due)

    def _enqueue(self, delay_id: str, due: float) -> None:
        # What was cancelled stands in the queue until it would have been due; many of these are swept out at once.
        if len(self._queue) > 2 * len(self._waiting) + _SWEEP:
            self._queue = [entry for entry in self._queue if entry[2] in self._waiting]
            heapq.heapify(self._queue)
        heapq.heappush(self._queue, (due, next(self._numbers), delay_id))

    def _arm(self) -> None:
        """One timer for the next one that is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._queue and self._sender is None:
            seconds = max(self._queue[0][0] - self._monotonic(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._sender = asyncio.create_task(self._send_due())

    async def _send_due(self) -> None:
        try:
            while self._queue and self._queue[0][0] <= self._monotonic():
                delay_id = heapq.heappop(self._queue)[2]
                waiting = self._waiting.get(delay_id)
                if waiting is None:
                    continue
                if waiting.due > self._monotonic():  # it has begun anew meanwhile
                    self._enqueue(delay_id, waiting.due)
                    continue
                del self._waiting[delay_id]
                await self._send_at_its_time(delay_id, waiting)
        finally:
            self._sender = None
            self._arm()

    async def _send_at_its_time(self, delay_id: str, waiting: _Waiting) -> None:
        row = self._row(delay_id, None)
        try:
            try:
                await self._send(row)
            except MatrixError as error:
                told = orjson.dumps(error.body())
                await self._db.write(lambda tx: self._finalise(tx, row, error=told))
        except StorageError as error:
            log.warning("a delayed event is not sent yet: %s", error)
            waiting.due = self._monotonic() + RETRY_SECONDS
            self._wait(delay_id, waiting)

    async def _send(self, row: DelayedRow) -> None:
        sender, is_admin = self._db.glance(lambda tx: _sender(tx, row.user))
        content = canonical_json.loads(row.content)
        txn_id = transaction_of(row.delay_id)
        if row.state_key is None:
            event_id = await self._sending.message(
                sender,
                row.room_id,
                row.type,
                content,
                is_admin=is_admin,
                device=row.device,
                txn_id=txn_id,
                timestamp=row.ts,
                sticky=row.sticky,
            )
        else:
            event_id = await self._sending.state(
                sender,
                row.room_id,
                row.type,
                row.state_key,
                content,
                device=row.device,
                txn_id=txn_id,
                timestamp=row.ts,
                sticky=row.sticky,
            )
        await self._db.write(lambda tx: self._finalise(tx, row, event_id=event_id))

    def _finalise(
        self, tx: WriteTransaction, row: DelayedRow, *, event_id: str | None = None, error: bytes | None = None
    ) -> None:
        now = self._clock.now_ms()
        delayed_events.finalise(tx, row.delay_id, now, event_id=event_id, error=error)
        delayed_events.forget(tx, row.user, now - KEPT_MS, KEPT_OF_ONE_USER)


def _scheduled_before(tx: ReadTransaction, row: DelayedRow) -> str | None:
    if row.device is None or row.txn_id is None:
        return None
    same = delayed_events.of_transaction(tx, row.device, row.txn_id)
    return next((known.delay_id for known in same if (known.room_id, known.type) == (row.room_id, row.type)), None)


def _sender(tx: ReadTransaction, user: int) -> tuple[str, bool]:
    account = accounts.get(tx, user)
    return names.text(tx, user), account is not None and account.is_admin


def _log_failure(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("that a delayed event begins anew is not on disk: %s", error)
