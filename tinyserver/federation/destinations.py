"""Which servers fail, and when each is tried again: dead servers cost nothing.

The pause after a failure doubles up to a bound. It ends at once when the server shows up by itself. One that cannot
be connected to costs next to nothing, and may say nothing when it is back: it is tried again sooner, and later by half
of the pause before, so that it is found within half of the time that it was away. What is known here survives a
restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from tinyserver.clock import Clock
from tinyserver.federation.errors import BackingOff
from tinyserver.storage import destinations as stored
from tinyserver.storage.database import Database
from tinyserver.storage.destinations import FailingRow
from tinyserver.storage.errors import StorageError
from tinyserver.storage.transaction import WriteTransaction

log = logging.getLogger(__name__)

FIRST_PAUSE_MS = 30_000
FIRST_CHEAP_PAUSE_MS = 2_000
"""The first pause after a try that nobody answered, and nobody waited for."""
LONGEST_PAUSE_MS = 12 * 3600 * 1000
LONGEST_LOCAL_PAUSE_MS = 120_000
"""Where the fault is probably ours (no network): then all servers "fail", and none of them should be left alone for
half a day because of it."""
CONTACT_PAUSES = 2
"""Who makes requests and cannot be reached is tried for it not more often than once in so many first pauses."""
OUTAGE_MS = 30_000
"""How long nothing but faults on our side makes an outage."""
MAX_REMEMBERED = 5000
FORGET_AFTER_MS = 30 * 24 * 3600 * 1000
_STORE_DELAY = 5.0  # seconds, in which further changes join
_MAX_REASON = 300


class Destinations:
    """The back-off of every server.

    Args:
        db: where it is kept.
        clock: the time of the next try.
        jitter: a number from 0 to 1 that spreads the tries.
        first_pause_ms: the pause after the first failure.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        first_pause_ms: int = FIRST_PAUSE_MS,
    ) -> None:
        self._db = db
        self._clock = clock
        self._jitter = jitter
        self._first_pause_ms = first_pause_ms
        self._failing: OrderedDict[str, FailingRow] | None = None
        self._tried_on_contact: dict[str, int] = {}
        self._unsaved: set[str] = set()
        self._saving: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self.on_return: list[Callable[[str], None]] = []
        """Called with the name of a server that failed and is worth another try now."""
        self.on_recovery: list[Callable[[], None]] = []
        """Called when the network is back after an outage on our side."""
        self._out_of_reach: set[str] = set()
        """Servers that failed by a fault on our side since the last answer from anybody."""
        self._out_since = 0

    def check(self, destination: str) -> None:
        """Raise BackingOff while the server is to be left alone."""
        row = self._rows().get(destination)
        if row is None:
            return
        now = self._clock.now_ms()
        # A clock that was ahead when the pause was noted must not make it longer.
        if now < row.retry_at <= now + 2 * LONGEST_PAUSE_MS:
            raise BackingOff(destination, row.retry_at, row.reason)

    def state_of(self, destination: str) -> FailingRow | None:
        """Since when and why a server fails, or None where it does not."""
        return self._rows().get(destination)

    def failing(self) -> list[FailingRow]:
        """All servers that fail."""
        return list(self._rows().values())

    def failed(
        self,
        destination: str,
        reason: str,
        *,
        local: bool = False,
        cheap: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """A request to the server failed in a way that the next one would as well.

        Args:
            local: the fault is probably on this side.
            cheap: there is no connection, which showed at once.
            retry_after: seconds that the server itself asks for.
        """
        rows = self._rows()
        now = self._clock.now_ms()
        if local:
            self._note_outage(destination, now)
        before = rows.get(destination)
        if before is not None and now < before.retry_at <= now + 2 * LONGEST_PAUSE_MS:
            return  # several requests were under way when it failed: it failed once
        longest = LONGEST_LOCAL_PAUSE_MS if local else LONGEST_PAUSE_MS
        first = min(self._first_pause_ms, FIRST_CHEAP_PAUSE_MS) if cheap else self._first_pause_ms
        pause = first if before is None else min(max(int(before.pause * (1.5 if cheap else 2)), first), longest)
        if retry_after is not None:
            pause = min(max(int(retry_after * 1000), 1000), longest)
        spread = int(pause * (0.9 + 0.2 * self._jitter()))
        since = now if before is None else min(before.failing_since, now)
        rows[destination] = FailingRow(destination, since, now + spread, pause, reason[:_MAX_REASON])
        rows.move_to_end(destination)
        if len(rows) > MAX_REMEMBERED:
            forgotten = rows.popitem(last=False)[0]
            self._tried_on_contact.pop(forgotten, None)
            self._save(forgotten)
        self._save(destination)

    def answered(self, destination: str) -> None:
        """The server answered a request: it is there."""
        self._tried_on_contact.pop(destination, None)
        if self._rows().pop(destination, None) is not None:
            self._save(destination)
            for call in self.on_return:
                call(destination)
        self._end_outage()

    def _note_outage(self, destination: str, now: int) -> None:
        if not self._out_of_reach:
            self._out_since = now
        if len(self._out_of_reach) < MAX_REMEMBERED:
            self._out_of_reach.add(destination)

    def _end_outage(self) -> None:
        """A server has answered. If several could not be reached for a while, and nobody answered: that was us."""
        out, self._out_of_reach = self._out_of_reach, set()
        now = self._clock.now_ms()
        if len(out) < 2 or now - self._out_since < OUTAGE_MS:
            return
        for destination in out:
            self.retry(destination)
        for recover in self.on_recovery:
            recover()

    def retry(self, destination: str) -> bool:
        """Try a server again now, whatever its back-off says; False where it is not known to fail."""
        row = self._rows().get(destination)
        if row is None:
            return False
        self._rows()[destination] = replace(row, retry_at=self._clock.now_ms())
        self._save(destination)
        for call in self.on_return:
            call(destination)
        return True

    def contacted(self, destination: str) -> None:
        """The server made a request: it may be tried again at once, even if it failed.

        The first time at once, then not more often than once in a while: some can send, but never be reached.
        """
        row = self._rows().get(destination)
        if row is None:
            return
        now = self._clock.now_ms()
        tried_at = self._tried_on_contact.get(destination)
        if now < row.retry_at and (
            tried_at is None or not tried_at <= now < tried_at + CONTACT_PAUSES * self._first_pause_ms
        ):
            self._tried_on_contact[destination] = now
            self.retry(destination)

    async def close(self) -> None:
        """Store what is not stored yet, at once."""
        self._closing.set()
        while self._saving is not None:
            await asyncio.gather(self._saving, return_exceptions=True)

    # -- keeping ---------------------------------------------------------------------------------

    def _rows(self) -> OrderedDict[str, FailingRow]:
        if self._failing is None:
            rows = self._db.glance(lambda tx: stored.failing(tx, MAX_REMEMBERED))
            self._failing = OrderedDict((row.server, row) for row in reversed(rows))
        return self._failing

    def _save(self, destination: str) -> None:
        self._unsaved.add(destination)
        if self._saving is None:
            self._saving = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        """Write what changed, with whatever else is written soon: nobody waits for it."""
        try:
            while self._unsaved:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), _STORE_DELAY)
                changed, self._unsaved = self._unsaved, set()
                rows = [row for server in changed if (row := self._rows().get(server)) is not None]
                gone = changed - {row.server for row in rows}
                forget = self._clock.now_ms() - FORGET_AFTER_MS

                def step(
                    tx: WriteTransaction,
                    rows: list[FailingRow] = rows,
                    gone: set[str] = gone,
                    forget: int = forget,
                ) -> None:
                    stored.put(tx, rows)
                    stored.remove(tx, gone)
                    stored.forget_before(tx, forget)

                await self._db.write(step)
        except StorageError as error:
            log.warning("the state of other servers could not be stored: %s", error)
        finally:
            self._saving = None
