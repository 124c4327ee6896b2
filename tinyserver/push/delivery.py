"""Tells push gateways of events: a consumer of the one order with a cursor on disk for each pusher.

Nothing is copied: what a pusher lacks follows from the store (`tinyserver.push.due`). In memory there is something
only for pushers that are being served or wait for their next try. The cursor is stored with every push, so an event is
told twice only if the process dies between a gateway's answer and that commit; gateways know such repetitions by the
event's ID.

spec: client-server-api#push-notifications
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.outgoing.errors import AnswerMalformed, HttpError, OutgoingError
from tinyserver.outgoing.http import HttpClient
from tinyserver.push.due import Due, DueEvent, DueReader
from tinyserver.storage import pushers
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.pushers import PusherRow
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction

log = logging.getLogger(__name__)

MAX_AT_ONCE = 20
"""How many gateways are waited for at the same time."""
MAX_UNSAVED = 500
TIMEOUT = 30.0
GRACE = 2.0
"""Seconds that the end of the process waits for answers."""
FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 2_000, 15 * 60_000
_MAX_ANSWER = 64 * 1024
_NO_BADGE = ("org.matrix.msc4076.disable_badge_count", "disable_badge_count")

OwnGateway = Callable[[dict[str, Any]], Awaitable[list[str]]]


class PushDelivery:
    """Lives on the event loop.

    Args:
        bell: tells of new events and of what was read.
        http: reaches gateways, with the policy for private addresses that holds for them.
        due: what is to be told.
        own_url, own_gateway: the gateway of this server itself, which is asked without a connection.
        on_news: called with the number of a pusher that sends mails, when there may be something new for it.
    """

    def __init__(
        self,
        db: Database,
        bell: Bell,
        clock: Clock,
        http: HttpClient,
        due: DueReader,
        own_url: str,
        own_gateway: OwnGateway,
        on_news: Callable[[int], None],
    ) -> None:
        self._db, self._bell, self._clock, self._http, self._due = db, bell, clock, http, due
        self._own_url, self._own_gateway, self._on_news = own_url, own_gateway, on_news
        self._has_pushers = False
        self._rooms: set[int] = set()
        self._users: set[int] = set()
        self._looking: asyncio.Task[None] | None = None
        self._ready: OrderedDict[int, None] = OrderedDict()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._again: set[int] = set()
        """Who is being served and has something new."""
        self._later: list[tuple[int, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._seen: dict[int, int] = {}
        """Up to where there was nothing to tell; stored with the next push."""
        self._closing = False

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Go on with what was not told when the server stopped."""
        self._bell.subscribe(self._on_commit)
        self._has_pushers = self._db.glance(pushers.any_at_all)
        for nid, kind, retry_at in self._db.glance(pushers.active):
            if kind == pushers.HTTP:
                self._wake(nid, retry_at)

    async def close(self) -> None:
        """Stop telling; what is under way for too long is broken off, and told after the next start."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = [*self._running.values(), *([] if self._looking is None else [self._looking])]
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._seen:
            with contextlib.suppress(StorageError):
                await self._db.write(self._save_seen)

    def refresh(self, nid: int, kind: str) -> None:
        """A pusher was set."""
        self._has_pushers = True
        self._news(nid, kind)

    def _news(self, nid: int, kind: str) -> None:
        if kind == pushers.HTTP:
            self._wake(nid, 0)
        elif not self._closing:
            self._on_news(nid)

    # -- who has something new -------------------------------------------------------------------

    def _on_commit(self, commit: Commit) -> None:
        if not self._has_pushers or self._closing:
            return
        for change in commit.changes:
            if change.topic is Topic.TIMELINE:
                self._rooms.add(change.nid)
            elif change.topic is Topic.READ or change.topic is Topic.MEMBERSHIP:
                self._users.add(change.nid)
        if (self._rooms or self._users) and self._looking is None:
            self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        try:
            while self._rooms or self._users:
                changed, users = self._rooms, self._users
                self._rooms, self._users = set(), set()

                def step(
                    tx: ReadTransaction, changed: set[int] = changed, users: set[int] = users
                ) -> set[tuple[int, str]]:
                    of_rooms = {each for room in changed for each in pushers.in_room(tx, room)}
                    return of_rooms | set(pushers.of_users(tx, users))

                for nid, kind in await self._db.read(step):
                    self._news(nid, kind)
        except StorageError as error:
            log.warning("who is to be notified cannot be read: %s", error)
        finally:
            self._looking = None

    def _wake(self, nid: int, not_before: int) -> None:
        if self._closing:
            return
        if not_before > self._clock.now_ms():
            self._wake_at(not_before, nid)
        elif nid in self._running:
            self._again.add(nid)
        else:
            self._ready[nid] = None
            self._run_ready()

    def _run_ready(self) -> None:
        while self._ready and len(self._running) < MAX_AT_ONCE and not self._closing:
            nid, _ = self._ready.popitem(last=False)
            self._running[nid] = asyncio.ensure_future(self._serve(nid))

    def _wake_at(self, when: int, nid: int) -> None:
        if (when, nid) not in self._later:
            heapq.heappush(self._later, (when, nid))
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._later and not self._closing:
            seconds = max((self._later[0][0] - self._clock.now_ms()) / 1000, 0.0)
            self._timer = asyncio.get_running_loop().call_later(min(seconds, 3600.0), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        now = self._clock.now_ms()
        while self._later and self._later[0][0] <= now:
            self._wake(heapq.heappop(self._later)[1], 0)
        self._arm()

    # -- telling ---------------------------------------------------------------------------------

    async def _serve(self, nid: int) -> None:
        try:
            while True:
                self._again.discard(nid)
                await self._tell(nid)
                if nid not in self._again or self._closing:
                    break
        except StorageError as error:
            log.warning("what a pusher is to be told cannot be read or noted: %s", error)
        except Exception:
            log.exception("a pusher could not be told")
        finally:
            self._running.pop(nid, None)
            if nid in self._again:
                self._again.discard(nid)
                self._wake(nid, 0)
            self._run_ready()

    async def _tell(self, nid: int) -> None:
        """Tell a pusher all that it lacks, as far as its gateway takes it."""
        until, now = self._bell.position, self._clock.now_ms()

        def step(tx: ReadTransaction) -> tuple[PusherRow, Due] | None:
            row = pushers.get(tx, nid)
            if row is None or not row.settings.enabled or row.retry_at > now:
                return None if row is None or not row.settings.enabled else (row, Due([], None))
            return row, self._due.read(tx, row, max(row.sent, self._seen.get(nid, 0)), until, now)

        found = await self._db.read(step)
        if found is None:
            self._seen.pop(nid, None)
            return
        row, due = found
        if due.unread is None:
            self._wake_at(row.retry_at, nid)
            return
        try:
            for event in due.events:
                await self._push(row, notification_of(row, event, due.unread), event.place, due.unread)
            with_badge = not any(row.settings.data.get(key) is True for key in _NO_BADGE)
            if not due.events and due.unread != row.badge and with_badge:
                await self._push(row, notification_of(row, None, due.unread), until, due.unread)
        except _Gone:
            return
        except OutgoingError as error:
            await self._failed(row, error)
            return
        self._seen[nid] = until
        if len(self._seen) > MAX_UNSAVED:
            await self._db.write(self._save_seen)

    async def _push(self, row: PusherRow, notification: dict[str, Any], sent: int, unread: int) -> None:
        """Tell a gateway, and note that. Raises OutgoingError, _Gone."""
        url = str(row.settings.data.get("url"))
        content = {"notification": notification}
        if url == self._own_url:
            rejected = await self._own_gateway(content)
        else:
            rejected = await self._ask(url, content)
        if row.settings.pushkey in rejected:
            await self._db.write(lambda tx: _remove_unless_set(tx, row))
            raise _Gone

        def step(tx: WriteTransaction) -> None:
            pushers.note_sent(tx, row.nid, sent, unread)
            self._save_seen(tx)

        await self._db.write(step)

    async def _ask(self, url: str, content: dict[str, Any]) -> list[str]:
        answer = await self._http.fetch(
            url,
            method="POST",
            headers={"Content-Type": "application/json"},
            content=json.dumps(content).encode(),
            timeout=TIMEOUT,
            max_bytes=_MAX_ANSWER,
        )
        if answer.status != 200:
            pause = answer.headers.get("retry-after", "")
            raise HttpError(answer.status, None, "", float(pause[:6]) if pause.isdecimal() else None)
        try:
            return msgspec.json.decode(answer.body, type=_Answer).rejected
        except msgspec.MsgspecError as error:
            raise AnswerMalformed(f"this is no answer of a push gateway: {error}") from error

    async def _failed(self, row: PusherRow, error: OutgoingError) -> None:
        now = self._clock.now_ms()
        pause = min(max(FIRST_PAUSE_MS, row.pause * 2), LONGEST_PAUSE_MS)
        if isinstance(error, HttpError) and error.retry_after is not None:
            pause = min(max(pause, int(error.retry_after * 1000)), LONGEST_PAUSE_MS)
        since = now if row.failing_since is None else row.failing_since
        log.debug("a push gateway did not take a notification: %s", error)
        await self._db.write(lambda tx: pushers.note_failure(tx, row.nid, since, now + pause, pause))
        self._wake_at(now + pause, row.nid)

    def _save_seen(self, tx: WriteTransaction) -> None:
        seen = dict(self._seen)
        pushers.note_seen(tx, seen.items())
        tx.on_commit(lambda: self._forget_seen(seen))

    def _forget_seen(self, seen: dict[int, int]) -> None:
        for nid, position in seen.items():
            if self._seen.get(nid) == position:
                del self._seen[nid]


class _Gone(Exception):
    """The gateway says that the pushkey is not valid any more."""


class _Answer(msgspec.Struct):
    rejected: list[str] = []  # a gateway that says nothing of it has taken the notification: it rings no second time


def _remove_unless_set(tx: WriteTransaction, row: PusherRow) -> None:
    """Delete a pusher, unless a client has set it anew meanwhile."""
    now = pushers.get(tx, row.nid)
    if now is not None and now.set_ts == row.set_ts:
        pushers.remove(tx, row.nid)


def notification_of(row: PusherRow, event: DueEvent | None, unread: int) -> dict[str, Any]:
    """The `notification` for a gateway.

    Args:
        event: None where only the unread count is told; then it is told also if it is 0, so that gateways take the
            number away.
    """
    data = {key: value for key, value in row.settings.data.items() if key != "url"}
    device: dict[str, Any] = {
        "app_id": row.settings.app_id,
        "pushkey": row.settings.pushkey,
        "pushkey_ts": row.set_ts // 1000,
        "data": data,
    }
    notification: dict[str, Any] = {}
    if event is not None:
        notification |= event.minimal
        device["tweaks"] = event.tweaks
        if data.get("format") != "event_id_only":
            notification |= event.rest
    with_badge = not any(data.get(key) is True for key in _NO_BADGE)
    notification["counts"] = {"unread": unread} if with_badge and (unread or event is None) else {}
    notification["devices"] = [device]
    return notification
