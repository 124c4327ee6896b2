"""Reporting what is inappropriate to the administrators of the server.

spec: client-server-api#reporting-content
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyserver.accounts.requester import Requester
from tinyserver.clock import Clock
from tinyserver.protocol.errors import Forbidden, InvalidParam, NotFound
from tinyserver.rooms.event_access import no_event, visible_event
from tinyserver.rooms.visibility import open_view
from tinyserver.storage import names, reports, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.reports import ReportRow
from tinyserver.storage.transaction import WriteTransaction

MAX_REASON = 5_000
"""How many characters of a reason are kept."""
MAX_REPORTS = 500
"""How many reports are read at once."""


class Reports:
    """Keeps reports until somebody reads them.

    Args:
        db: where they are stored.
        clock: for their time.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def event(self, reporter: Requester, room_id: str, event_id: str, reason: str | None) -> None:
        """Report an event.

        Raises:
            NotFound: there is no such event that the user sees, or they are not in the room.
        """

        def step(tx: WriteTransaction) -> None:
            try:
                view = open_view(tx, room_id, reporter)
            except Forbidden as error:
                raise no_event(event_id) from error
            if not view.is_member:
                raise no_event(event_id)
            visible_event(tx, view, event_id)
            self._add(tx, reporter, event_id, room_id, reason)

        await self._db.write(step)

    async def room(self, reporter: Requester, room_id: str, reason: str) -> None:
        """Report a room, whether or not one is in it.

        Raises:
            NotFound: this server knows no such room.
        """

        def step(tx: WriteTransaction) -> None:
            if rooms.find(tx, room_id) is None:
                raise NotFound(f"There is no room {room_id[:255]} on this server")
            self._add(tx, reporter, room_id, room_id, reason)

        await self._db.write(step)

    async def user(self, reporter: Requester, user_id: str, reason: str) -> None:
        """Report a user.

        Raises:
            NotFound: this server has never heard of them.
        """

        def step(tx: WriteTransaction) -> None:
            if not user_id.startswith("@") or names.find(tx, user_id) is None:
                raise NotFound(f"This server knows no user {user_id[:255]}")
            self._add(tx, reporter, user_id, None, reason)

        await self._db.write(step)

    async def newest(self, before: int | None, limit: int) -> Sequence[ReportRow]:
        """The newest reports, those with numbers below `before` only.

        Raises:
            InvalidParam: the limit is not positive.
        """
        if limit < 1:
            raise InvalidParam("The limit must be greater than zero.")
        first = 2**62 if before is None else max(min(before, 2**62), 0)
        return await self._db.read(lambda tx: reports.newest(tx, first, min(limit, MAX_REPORTS)))

    async def get(self, number: int) -> ReportRow:
        """A report. Raises NotFound."""
        row = self._db.glance(lambda tx: reports.get(tx, number))
        if row is None:
            raise NotFound("There is no such report.")
        return row

    async def dismiss(self, number: int) -> None:
        """Forget a report. Raises NotFound."""
        if not await self._db.write(lambda tx: reports.remove(tx, number)):
            raise NotFound("There is no such report.")

    def _add(
        self, tx: WriteTransaction, reporter: Requester, subject: str, room_id: str | None, reason: str | None
    ) -> None:
        kept = None if reason is None else reason[:MAX_REASON].encode("utf-8", "replace").decode()
        reports.add(tx, reporter.user_nid, subject, room_id, kept, self._clock.now_ms())
