"""Mails that tell of missed messages: a digest, some minutes after something came that was not read meanwhile.

The next mail comes after a pause, which doubles as long as nothing is read; reading ends it. What a mail has told of
is noted when the mail server has taken it, so it is told twice only if the process dies in between.

One timer serves all pushers. In memory there is a number for those only for which something may be due.
"""

from __future__ import annotations

import asyncio
import heapq
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.mail.mailer import Mailer, MailFailed
from tinyserver.mail.message import Mail, Section
from tinyserver.mail.texts import mail_text
from tinyserver.push.due import Digest, DueReader, Missed
from tinyserver.storage import accounts, names, pushers
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.pushers import PusherRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

log = logging.getLogger(__name__)

MAX_ROOMS = 20
"""Of so many rooms a mail tells."""
MESSAGES = 3
"""So many of each room's newest messages stand in a mail."""
FIRST_RETRY_MS, LONGEST_RETRY_MS = 5 * 60_000, 24 * 3600_000
_MAX_TEXT, _MAX_NAME = 300, 100


@dataclass(frozen=True, slots=True)
class MailTimes:
    """Milliseconds: how long something must be unread, how long until the next mail at first and at most."""

    delay: int
    pause: int
    longest_pause: int


class UnsubscribeKeys:
    """Makes the secret part of the links by which somebody who reads a mail wants no more of them.

    Args:
        secret: known to this server only.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def key(self, pusher: int) -> str:
        """The secret part for a pusher (by number, which no other one will ever have)."""
        return hmac.digest(self._secret, f"tinyserver unsubscribe {pusher}".encode(), "sha256").hex()

    def fits(self, pusher: int, key: str) -> bool:
        """Whether somebody has such a link."""
        return hmac.compare_digest(self.key(pusher).encode(), key.encode("utf-8", "replace"))


class EmailDelivery:
    """Lives on the event loop.

    Args:
        due: what is to be told.
        times: when.
        unsubscribe: the URL of the page on which a pusher (by number) is ended.
        with_texts: whether what people wrote stands in mails.
    """

    def __init__(
        self,
        db: Database,
        bell: Bell,
        clock: Clock,
        mailer: Mailer,
        due: DueReader,
        server_name: str,
        times: MailTimes,
        unsubscribe: Callable[[int], str],
        *,
        with_texts: bool,
    ) -> None:
        self._db, self._bell, self._clock, self._mailer, self._due = db, bell, clock, mailer, due
        self._server_name = server_name
        self._times = times
        self._unsubscribe = unsubscribe
        self._with_texts = with_texts
        self._read: dict[int, int] = {}
        """Up to where everything was read; not stored: after a start it is looked at again."""
        self._when: dict[int, int] = {}
        self._queue: list[tuple[int, int]] = []
        """By time; what `_when` does not say any more counts no more."""
        self._timer: asyncio.TimerHandle | None = None
        self._working: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Go on with what was not told when the server stopped."""
        if self._mailer.is_configured:
            for nid, kind, _ in self._db.glance(pushers.active):
                if kind == pushers.EMAIL:
                    self._at(self._clock.now_ms(), nid)

    async def close(self) -> None:
        """Send no more; a mail that is on its way is given up, and sent after the next start."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)

    def news(self, nid: int) -> None:
        """There may be something new for a pusher, or its user has read something."""
        if self._mailer.is_configured:
            self._at(self._clock.now_ms() + self._times.delay, nid)

    def _at(self, when: int, nid: int) -> None:
        """Look at a pusher at a time, or before."""
        known = self._when.get(nid)
        if known is None or when < known:
            self._when[nid] = when
            heapq.heappush(self._queue, (when, nid))
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._queue and self._working is None and not self._closing:
            seconds = max((self._queue[0][0] - self._clock.now_ms()) / 1000, 0.0)
            self._timer = asyncio.get_running_loop().call_later(min(seconds, 3600.0), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._working = asyncio.ensure_future(self._work())

    async def _work(self) -> None:
        """Serve those whose time has come, one after the other."""
        try:
            while self._queue and self._queue[0][0] <= self._clock.now_ms():
                when, nid = heapq.heappop(self._queue)
                if self._when.get(nid) != when:
                    continue
                del self._when[nid]
                try:
                    again = await self._serve(nid)
                except StorageError as error:
                    log.warning("what is to be mailed cannot be read or noted: %s", error)
                    again = self._clock.now_ms() + FIRST_RETRY_MS
                except Exception:
                    log.exception("a digest could not be made")
                    again = None
                if again is not None:
                    self._at(again, nid)
        finally:
            self._working = None
            self._arm()

    async def _serve(self, nid: int) -> int | None:
        """Tell a pusher what is due; when it is to be looked at again (ms), if at all."""
        until, now = self._bell.position, self._clock.now_ms()

        def step(tx: ReadTransaction) -> tuple[PusherRow, str, Digest] | None:
            row = pushers.get(tx, nid)
            account = None if row is None else accounts.get(tx, row.user)
            if row is None or not row.settings.enabled or account is None or account.is_locked:
                return None
            since = max(row.sent, self._read.get(nid, 0))
            return row, names.text(tx, row.user), self._due.digest(tx, row, since, until, MESSAGES)

        found = await self._db.read(step)
        self._read.pop(nid, None)
        if found is None:
            return None
        if not found[2].rooms:
            self._read[nid] = until
            return None
        row, user_id, digest = found
        ready = self._ready(row, digest, now)
        if ready > now:
            return ready
        mail = self._mail(row, user_id, digest)
        try:
            await self._mailer.send(mail)
        except MailFailed as error:
            return await self._failed(row, error)
        doubled = min(max(row.pause * 2, self._times.pause), self._times.longest_pause)
        pause = doubled if digest.has_older else self._times.pause
        await self._db.write(lambda tx: pushers.note_mailed(tx, nid, until, now + pause, pause))
        return None

    def _ready(self, row: PusherRow, digest: Digest, now: int) -> int:
        """When the mail may be sent."""
        sent = min(each.since_ts for each in digest.rooms)
        # Other servers say when something was sent; who says that it is still to come does not put the mail off.
        ready = sent + self._times.delay if sent <= now else now
        # The user has read what the last mail told of: no reason to wait longer.
        waits = digest.has_older or row.failing_since is not None
        return max(ready, row.retry_at) if waits else ready

    async def _failed(self, row: PusherRow, error: MailFailed) -> int | None:
        now = self._clock.now_ms()
        if error.is_lasting:
            log.info("mails to an address are refused for good; no more are sent there")
            await self._db.write(lambda tx: pushers.remove(tx, row.nid))
            return None
        pause = min(max(FIRST_RETRY_MS, row.pause * 2), LONGEST_RETRY_MS)
        since = now if row.failing_since is None else row.failing_since
        await self._db.write(lambda tx: pushers.note_failure(tx, row.nid, since, now + pause, pause))
        return now + pause

    def _mail(self, row: PusherRow, user_id: str, digest: Digest) -> Mail:
        language = row.settings.lang.lower().partition("-")[0]
        shown = digest.rooms[-MAX_ROOMS:]
        total = sum(each.count for each in digest.rooms)

        def text(key: str, **values: object) -> str:
            return mail_text(language, key, **values)

        # The newest room stands first.
        sections = [self._section(language, each) for each in reversed(shown)]
        subject = text("missed_subject", count=total, room=sections[0].title, server=self._server_name)
        closing = [text("missed_more", count=len(digest.rooms) - len(shown))] if len(digest.rooms) > len(shown) else []
        url = self._unsubscribe(row.nid)
        return Mail(
            row.settings.pushkey,
            language,
            subject,
            [text("missed", user=user_id, count=total)],
            (text("unsubscribe"), url),
            closing=closing,
            sections=sections,
            headers={"List-Unsubscribe": f"<{url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
        )

    def _section(self, language: str, missed: Missed) -> Section:
        senders = [_short(sender, _MAX_NAME) for sender, _ in missed.newest]
        title = _short(missed.name or ", ".join(dict.fromkeys(senders)), _MAX_NAME)
        first = missed.newest[0][1].event
        room_id = missed.room.room_id
        url = f"https://matrix.to/#/{quote(room_id, safe='!:')}"
        if first.type == "m.room.member":  # an invite
            return Section(title, url, [mail_text(language, "missed_invite", sender=senders[-1])])
        url += f"/{quote(first.event_id, safe='$:')}?via={quote(self._server_name, safe=':')}"
        events = [stored for _, stored in missed.newest]
        lines = [f"{name}: {self._line(language, stored)}" for name, stored in zip(senders, events, strict=True)]
        earlier = missed.count - len(missed.newest)
        if earlier:
            lines.insert(0, mail_text(language, "missed_earlier", count=earlier))
        return Section(title, url, lines)

    def _line(self, language: str, stored: StoredEvent) -> str:
        event = stored.event
        body = event.content.get("body") if event.type == "m.room.message" else None
        if not self._with_texts or not isinstance(body, str) or not body.strip():
            return mail_text(language, "missed_message")
        return _short(body, _MAX_TEXT)


def _short(text: str, most: int) -> str:
    """Text from anywhere as one line of so many characters, with nothing in it that is none."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text[: 2 * most]).split())
    return line if len(line) <= most else line[:most] + "…"


class Subscriptions:
    """Ends pushers for those who read their mails."""

    def __init__(self, db: Database, keys: UnsubscribeKeys) -> None:
        self._db = db
        self._keys = keys

    def address_of(self, pusher: int, key: str) -> str | None:
        """To where a pusher (by number) sends mails, for somebody with its key; None: there is no such pusher (any
        more), or the key is wrong."""
        if not self._keys.fits(pusher, key):
            return None
        row = self._db.glance(lambda tx: pushers.get(tx, pusher))
        return None if row is None or row.settings.kind != pushers.EMAIL else row.settings.pushkey

    async def end(self, pusher: int, key: str) -> bool:
        """Send no more mails; False where there is nothing to be ended."""
        if self.address_of(pusher, key) is None:
            return False

        def step(tx: WriteTransaction) -> None:
            pushers.remove(tx, pusher)

        await self._db.write(step)
        return True
