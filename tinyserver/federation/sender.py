"""Sends events and ephemeral messages to other servers: everything that is owed, in order, one transaction at a time.

What is owed follows from the store (`tinyserver.storage.outgoing`): a log of events, and for each server the position
up to which it has everything. In memory there is an `_Outbox` only for servers that lack something. A server that
fails costs nothing until it is time to try again (`Destinations` says when), or until it makes a request itself.

Who lacks much is not flooded: some servers acknowledge a transaction before they deal with it, and drop what they have
too much of. After each full one they get the next when they can show its last event.

The ID of a transaction follows from what is in it of what is kept: sent again after a crash it is the same, unless
something new has come meanwhile. Events and messages to devices are known by their own IDs in any case.

spec: server-server-api#transactions
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.federation.client import FederationClient
from tinyserver.federation.destinations import Destinations
from tinyserver.federation.owed import Portion, next_portion
from tinyserver.federation.pending_edus import Pending, PendingEdus, Read, as_edus
from tinyserver.outgoing.errors import AnswerMalformed, AnswerTooLarge, HttpError, OutgoingError
from tinyserver.protocol.request_auth import path_of
from tinyserver.storage import names, outgoing, server_stays
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.transaction import Change, ReadTransaction, Topic, WriteTransaction

log = logging.getLogger(__name__)

MAX_EDUS = 100
_NOT_FOUND = 404
_OWING = frozenset((Topic.OUTGOING, Topic.OUTGOING_DEVICES, Topic.OUTGOING_MESSAGES))
MAX_AT_ONCE = 20
"""How many servers are sent to at the same time."""
TIMEOUT = 90.0
"""Seconds: the other side deals with all events before it answers."""
GRACE = 2.0
"""Seconds that the end of the process waits for answers."""
SAVE_DELAY = 1.0
"""Seconds in which servers that got something are noted with one write."""
TIDY_EVERY = 500
"""After so many noted servers, what nobody needs any more is forgotten."""
FIRST_REST_MS = 250
MAX_RESTS = 5
"""How often a server that was sent much is waited for, twice as long each time."""
ASK_TIMEOUT = 15.0
FIRST_PAUSE_MS = 30_000
LONGEST_PAUSE_MS = 3600 * 1000


@dataclass(slots=True, eq=False)
class _Batch:
    """A transaction that was tried: sent again, it is the same. It holds what is kept in (`start`, `end`], and `edus`
    that are not."""

    start: int
    end: int
    edus: list[Pending]


@dataclass(slots=True, eq=False)
class _Outbox:
    """A server that lacks something: it has everything up to the position `sent`, and may be owed something up to
    `owed_until`. `refusals` counts answers that say no, after which it is tried again at `retry_at` (ms). `busy_with`
    is an event of a full transaction that it may not have dealt with yet; it was left in peace for that `rests` times,
    now until `rests_until` (ms)."""

    name: str
    nid: int
    sent: int
    owed_until: int = 0
    edus: PendingEdus = field(default_factory=PendingEdus)
    batch: _Batch | None = None
    is_greeting: bool = False
    refusals: int = 0
    retry_at: int = 0
    busy_with: str = ""
    rests: int = 0
    rests_until: int = 0

    @property
    def has_work(self) -> bool:
        return self.owed_until > self.sent or len(self.edus) > 0 or self.batch is not None or self.is_greeting


class FederationSender:
    """The sender. Lives on the event loop.

    Args:
        db: what is owed.
        bell: tells of new events.
        client: sends.
        destinations: who is left alone at the moment; tells who has come back.
        clock: when it is tried again.
        server_name: this server, to which nothing is sent.
        first_pause_ms: how long a server is left alone that says no for the first time.
    """

    def __init__(
        self,
        db: Database,
        bell: Bell,
        client: FederationClient,
        destinations: Destinations,
        clock: Clock,
        server_name: str,
        first_pause_ms: int = FIRST_PAUSE_MS,
    ) -> None:
        self._db = db
        self._bell = bell
        self._client = client
        self._destinations = destinations
        self._clock = clock
        self._server_name = server_name
        self._first_pause_ms = first_pause_ms
        self._outboxes: dict[str, _Outbox] = {}
        self._ready: OrderedDict[str, None] = OrderedDict()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._later: list[tuple[int, str]] = []
        self._waiting: set[str] = set()
        """Who is in `_later`."""
        self._timer: asyncio.TimerHandle | None = None
        self._unsaved: dict[int, int] = {}
        self._saved = 0
        self._saving: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._has_started = False
        self._counter = 0
        self._seen = bell.position
        """What is owed of everything up to here is known."""

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Go on with what was owed when the server stopped. Called once, before anything is stored."""
        self._has_started = True
        self._seen = self._bell.position
        self._bell.subscribe(self._on_commit)
        self._destinations.on_return.append(self._on_return)

        def step(tx: ReadTransaction) -> dict[str, tuple[int, int]]:
            return {names.text(tx, nid): (nid, sent) for nid, sent in outgoing.behind(tx).items()}

        for name, (nid, sent) in self._db.glance(step).items():
            self._outboxes[name] = _Outbox(name, nid, sent, owed_until=self._bell.position)
            self._wake(name)

    async def close(self) -> None:
        """Stop sending; note who got what. What is under way for too long is broken off, and sent again after the next
        start."""
        self._closing.set()
        if self._timer is not None:
            self._timer.cancel()
        running = list(self._running.values())
        if running:
            await asyncio.wait(running, timeout=GRACE)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._saving is not None:
            await asyncio.gather(self._saving, return_exceptions=True)
        if self._has_started:  # else nobody knows here what is owed
            with contextlib.suppress(StorageError):
                await self._tidy()

    # -- what others hand in ---------------------------------------------------------------------

    def send_edu(self, servers: Iterable[int], pending: Pending) -> None:
        """Tell servers (nids) something that is not kept. Servers that fail are told of receipts only."""
        if not self._has_started:
            return
        for nid in servers:
            name = self._db.glance(lambda tx, nid=nid: names.text(tx, nid))  # type: ignore[misc]
            if not isinstance(pending, Read) and self._is_left_alone(name):
                continue
            self._outbox(name, nid, self._seen).edus.put(pending)
            self._wake(name)

    def greet(self, server: int) -> None:
        """Let a server (nid) hear from us, though there may be nothing to say: it may have given us up. Not if it
        fails itself."""
        name = self._db.glance(lambda tx: names.text(tx, server))
        if self._is_left_alone(name):
            return
        self._outbox(name, server, self._seen).is_greeting = True
        self._wake(name)

    def _on_commit(self, commit: Commit) -> None:
        owing = sorted((change for change in commit.changes if change.topic in _OWING), key=lambda each: each.position)
        for change in owing:
            for nid, name in self._db.glance(_concerned(change)).items():
                outbox = self._outbox(name, nid, change.position - 1)
                outbox.owed_until = change.position
                self._wake(name)
        self._seen = commit.position

    def _on_return(self, server: str) -> None:
        outbox = self._outboxes.get(server)
        if outbox is not None:
            outbox.refusals, outbox.retry_at = 0, 0
            self._wake(server)

    def _outbox(self, name: str, nid: int, sent: int) -> _Outbox:
        """The outbox of a server; if it has none, it has everything up to `sent`."""
        outbox = self._outboxes.get(name)
        if outbox is None:
            outbox = self._outboxes[name] = _Outbox(name, nid, sent)
        return outbox

    # -- whose turn it is ------------------------------------------------------------------------

    def _is_left_alone(self, name: str) -> bool:
        return self._retry_at(name) > self._clock.now_ms()

    def _retry_at(self, name: str) -> int:
        """When a server may be tried (ms); in the past: now."""
        failing, outbox = self._destinations.state_of(name), self._outboxes.get(name)
        return max(0 if failing is None else failing.retry_at, 0 if outbox is None else outbox.retry_at)

    def _wake(self, name: str) -> None:
        """There is something for a server."""
        if name in self._running or name in self._ready or self._closing.is_set() or name == self._server_name:
            return
        when = max(self._retry_at(name), self._outboxes[name].rests_until)
        if when > self._clock.now_ms():
            self._wake_at(when, name)
            return
        self._ready[name] = None
        self._run_ready()

    def _run_ready(self) -> None:
        while self._ready and len(self._running) < MAX_AT_ONCE and not self._closing.is_set():
            name, _ = self._ready.popitem(last=False)
            self._running[name] = asyncio.ensure_future(self._serve(self._outboxes[name]))

    def _wake_at(self, when: int, name: str) -> None:
        if name not in self._waiting:
            self._waiting.add(name)
            heapq.heappush(self._later, (when, name))
            if self._later[0] == (when, name):
                self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._later and not self._closing.is_set():
            seconds = max((self._later[0][0] - self._clock.now_ms()) / 1000, 0.0)
            self._timer = asyncio.get_running_loop().call_later(min(seconds, 3600.0), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        now = self._clock.now_ms()
        due = []
        while self._later and self._later[0][0] <= now:
            due.append(heapq.heappop(self._later)[1])
        self._waiting.difference_update(due)
        for name in due:
            if name in self._outboxes:
                self._wake(name)
        self._arm()

    # -- sending ---------------------------------------------------------------------------------

    async def _serve(self, outbox: _Outbox) -> None:
        """Send a server all that it lacks, as far as it takes it."""
        try:
            while outbox.has_work and not self._is_left_alone(outbox.name) and not self._closing.is_set():
                if outbox.busy_with and not await self._is_done(outbox):
                    break
                await self._send_some(outbox)
        except OutgoingError as error:
            log.debug("%s was sent nothing: %s", outbox.name, error)
            self._postpone(outbox)
        except StorageError as error:
            log.warning("what is owed to %s cannot be read: %s", outbox.name, error)
            self._postpone(outbox)
        finally:
            del self._running[outbox.name]
            if not outbox.has_work:
                del self._outboxes[outbox.name]
            elif not self._closing.is_set():
                self._wake(outbox.name)
            self._run_ready()

    async def _is_done(self, outbox: _Outbox) -> bool:
        """Whether a server has dealt with what it was sent before, or is not waited for any longer."""
        path = path_of("_matrix", "federation", "v1", "event", outbox.busy_with)
        try:
            await self._client.get(outbox.name, path, timeout=ASK_TIMEOUT)
        except HttpError as error:
            if error.status == _NOT_FOUND and error.errcode in (None, "M_NOT_FOUND") and outbox.rests < MAX_RESTS:
                outbox.rests_until = self._clock.now_ms() + (FIRST_REST_MS << outbox.rests)
                outbox.rests += 1
                return False
        except (AnswerMalformed, AnswerTooLarge):
            pass  # it does not matter what it says
        outbox.busy_with, outbox.rests = "", 0
        return True

    async def _send_some(self, outbox: _Outbox) -> None:
        batch, portion = await self._next(outbox)
        edus = (portion.edus + as_edus(batch.edus))[:MAX_EDUS]
        if portion.pdus or edus or outbox.is_greeting:
            content = {
                "origin": self._server_name,
                "origin_server_ts": self._clock.now_ms(),
                "pdus": portion.pdus,
                "edus": edus,
            }
            outbox.batch = batch
            path = path_of("_matrix", "federation", "v1", "send", portion.txn_id)
            await self._client.put(outbox.name, path, content, timeout=TIMEOUT)
            self._unsaved[outbox.nid] = batch.end
            self._save()
        outbox.batch, outbox.is_greeting, outbox.refusals = None, False, 0
        outbox.sent = max(outbox.sent, batch.end)
        outbox.busy_with = portion.last_event

    async def _next(self, outbox: _Outbox) -> tuple[_Batch, Portion]:
        """What is sent next: what was tried before, or the oldest of what is owed together with other EDUs."""
        batch = outbox.batch
        start, until = outbox.sent, max(self._seen, outbox.sent)
        if batch is not None:
            start, until = batch.start, batch.end
        portion = Portion(until)
        if until > start:
            portion = await self._db.read(lambda tx: next_portion(tx, outbox.nid, outbox.name, start, until))
        if not portion.txn_id:
            self._counter += 1
            portion.txn_id = f"{self._bell.tag}.{self._counter}"
        if batch is None:
            batch = _Batch(start, portion.end, outbox.edus.take(MAX_EDUS - len(portion.edus)))
        batch.end = portion.end
        return batch, portion

    def _postpone(self, outbox: _Outbox) -> None:
        """A server did not take what it was sent: it is tried again when it is no longer left alone. An answer that
        says no does not make it count as failing; but it will say so again."""
        batch = outbox.batch
        outbox.is_greeting = False
        if batch is not None:
            kept: list[Pending] = [each for each in batch.edus if isinstance(each, Read)]
            outbox.batch = _Batch(batch.start, batch.end, kept) if kept or batch.end > batch.start else None
        if not self._is_left_alone(outbox.name):
            pause = min(self._first_pause_ms * 2 ** min(outbox.refusals, 10), LONGEST_PAUSE_MS)
            outbox.refusals += 1
            outbox.retry_at = self._clock.now_ms() + pause

    # -- keeping ---------------------------------------------------------------------------------

    def _save(self) -> None:
        if self._saving is None:
            self._saving = asyncio.ensure_future(self._save_soon())

    async def _save_soon(self) -> None:
        try:
            while self._unsaved:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), SAVE_DELAY)
                sent, self._unsaved = self._unsaved, {}
                self._saved += len(sent)
                now = self._clock.now_ms()

                def step(tx: WriteTransaction, sent: dict[int, int] = sent, now: int = now) -> None:
                    outgoing.put_cursors(tx, sent, now)

                await self._db.write(step)
                if self._saved >= TIDY_EVERY:
                    await self._tidy()
        except StorageError as error:
            log.warning("who was sent what could not be noted: %s", error)
        finally:
            self._saving = None

    async def _tidy(self) -> None:
        """Forget what everybody has."""
        self._saved = 0
        sent, self._unsaved = self._unsaved, {}
        floor = self._seen
        lagging = {outbox.nid: outbox.sent for outbox in self._outboxes.values() if outbox.owed_until > outbox.sent}
        now = self._clock.now_ms()

        def step(tx: WriteTransaction) -> None:
            outgoing.put_cursors(tx, sent, now)
            outgoing.tidy(tx, floor, lagging)

        await self._db.write(step)


def _concerned(change: Change) -> Callable[[ReadTransaction], dict[int, str]]:
    """How to find the servers (names by nid) that are owed something because of a change."""

    def step(tx: ReadTransaction) -> dict[int, str]:
        if change.topic is Topic.OUTGOING:
            return names.texts(tx, server_stays.at(tx, change.nid, change.position))
        if change.topic is Topic.OUTGOING_DEVICES:
            return names.texts(tx, server_stays.around(tx, change.nid))
        return names.texts(tx, [change.nid])

    return step
