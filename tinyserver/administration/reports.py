"""Commands about what users have reported."""

from __future__ import annotations

from tinyserver.administration.commands import (
    LIMIT,
    Argument,
    Caller,
    Column,
    Kind,
    Reply,
    Unit,
    command,
    option,
    page_size,
)
from tinyserver.administration.rendering import listed, moment
from tinyserver.rooms.reports import Reports
from tinyserver.storage import events
from tinyserver.storage.database import Database
from tinyserver.storage.reports import ReportRow

_NUMBER = Argument("number", "which: its number in the list", Kind.NUMBER)
_SHORT = 80


class ReportCommands:
    """Reports: showing and dismissing them.

    Args:
        db: where reported messages are.
        reports: keeps them.
    """

    def __init__(self, db: Database, reports: Reports) -> None:
        self._db = db
        self._reports = reports

    @command(
        "report list",
        "show what users have reported, the newest first",
        option("before", "go on behind the report with this number", Kind.NUMBER),
        LIMIT,
    )
    async def list_reports(self, caller: Caller, before: float | None = None, limit: float | None = None) -> Reply:
        """A page of reports."""
        count = page_size(limit)
        first = None if before is None else int(before)
        rows = await self._reports.newest(first, count + 1)
        more = f"report list --before {rows[count - 1].nid} --limit {count}" if len(rows) > count else ""
        columns = (Column("number"), Column("made", Unit.TIME), Column("by"), Column("about"), Column("reason"))
        shown = tuple((row.nid, row.ts, row.reporter, row.subject, _short(row.reason)) for row in rows[:count])
        return Reply("" if shown else "There are none.", columns, shown, more)

    @command("report show", "show a report and the message that it is about", _NUMBER)
    async def show(self, caller: Caller, number: float) -> Reply:
        """All about a report."""
        row = await self._reports.get(int(number))
        facts: dict[str, object] = {
            "number": row.nid,
            "made": moment(row.ts),
            "by": row.reporter,
            "about": row.subject,
            "in the room": row.room_id if row.room_id != row.subject else None,
            "reason": row.reason,
        }
        return Reply(listed(facts | self._message(row)))

    def _message(self, row: ReportRow) -> dict[str, object]:
        """The message that was reported, as far as it can be read."""
        if not row.subject.startswith("$"):
            return {}
        stored = self._db.glance(lambda tx: events.by_id(tx, row.subject))
        if stored is None:
            return {}
        body = stored.event.content.get("body")
        said = body if isinstance(body, str) else None
        return {"sent by": stored.event.sender, "type": stored.event.type, "text": said}

    @command("report dismiss", "forget a report", _NUMBER)
    async def dismiss(self, caller: Caller, number: float) -> Reply:
        """Forget a report."""
        await self._reports.dismiss(int(number))
        return Reply(f"Dismissed report {int(number)}")


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= _SHORT else text[: _SHORT - 1] + "…"
