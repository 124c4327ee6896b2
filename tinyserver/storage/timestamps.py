"""The timestamps of a room's events in the room's order.

There is no index by time: the order of a timeline is almost that of its timestamps, so that a search by halves leads
close to where a moment is.
"""

from __future__ import annotations

from tinyserver.storage.timeline_entries import Entry
from tinyserver.storage.transaction import ReadTransaction

TimedEntry = tuple[int, Entry]
"""(`origin_server_ts` in ms, the entry of the timeline)."""

_COLUMNS = "ts, nid, place, type, sender, state_key, state"


def before(tx: ReadTransaction, room: int, place: int, limit: int, *, after: int) -> list[TimedEntry]:
    """The newest events at or before a place (inclusive), newest first, none at or before `after`."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM events WHERE room = ? AND place <= ? AND place > ? ORDER BY place DESC LIMIT ?",
        (room, place, after, limit),
    )
    return [(row[0], Entry(*row[1:])) for row in rows]


def after(tx: ReadTransaction, room: int, place: int, limit: int, *, until: int) -> list[TimedEntry]:
    """The oldest events after a place (exclusive), oldest first, up to (inclusive) `until`."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM events WHERE room = ? AND place > ? AND place <= ? ORDER BY place LIMIT ?",
        (room, place, until, limit),
    )
    return [(row[0], Entry(*row[1:])) for row in rows]
