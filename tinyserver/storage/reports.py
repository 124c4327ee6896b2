"""What users have reported to the administrators."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage import names
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A report: `subject` is the ID of what is reported (an event, a room or a user), `room_id` that of the room for
    events and rooms, `ts` in ms since 1970. Later ones have greater numbers."""

    nid: int
    reporter: str
    subject: str
    room_id: str | None
    reason: str | None
    ts: int


def add(tx: WriteTransaction, reporter: int, subject: str, room_id: str | None, reason: str | None, ts: int) -> None:
    """Keep a report; it takes the place of an earlier one of the same reporter (a nid) about the same."""
    tx.execute(
        "INSERT OR REPLACE INTO reports (reporter, subject, room, reason, ts) VALUES (?, ?, ?, ?, ?)",
        (reporter, subject, room_id, reason, ts),
    )
    tx.changed(Topic.ADMINISTRATION, 0)


def newest(tx: ReadTransaction, before: int, limit: int) -> list[ReportRow]:
    """The newest reports with numbers below `before`, newest first."""
    rows = tx.rows(
        "SELECT nid, reporter, subject, room, reason, ts FROM reports WHERE nid < ? ORDER BY nid DESC LIMIT ?",
        (before, limit),
    )
    return [ReportRow(row[0], names.text(tx, row[1]), *row[2:]) for row in rows]


def get(tx: ReadTransaction, nid: int) -> ReportRow | None:
    """A report, or None where it was never made or has been dismissed."""
    row = tx.row("SELECT nid, reporter, subject, room, reason, ts FROM reports WHERE nid = ?", (nid,))
    return None if row is None else ReportRow(row[0], names.text(tx, row[1]), *row[2:])


def after(tx: ReadTransaction, nid: int, limit: int) -> list[ReportRow]:
    """The oldest reports with numbers above another, oldest first."""
    rows = tx.rows(
        "SELECT nid, reporter, subject, room, reason, ts FROM reports WHERE nid > ? ORDER BY nid LIMIT ?", (nid, limit)
    )
    return [ReportRow(row[0], names.text(tx, row[1]), *row[2:]) for row in rows]


def count_after(tx: ReadTransaction, nid: int) -> tuple[int, int]:
    """How many reports have numbers above another, and the greatest of them (that other number if there is none)."""
    count, last = tx.row("SELECT count(*), max(nid) FROM reports WHERE nid > ?", (nid,))
    return count, nid if last is None else last


def remove(tx: WriteTransaction, nid: int) -> bool:
    """Forget a report; False where there was none."""
    return tx.execute("DELETE FROM reports WHERE nid = ?", (nid,)).rowcount > 0
