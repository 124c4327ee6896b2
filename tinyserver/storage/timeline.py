"""The order of events within a room.

A `place` is an event's nid for what arrived live and a negative number for history fetched later, so the
position in a sync token is at the same time a point between two events of every room.
"""

from __future__ import annotations

from tinyserver.storage.transaction import ReadTransaction


def before(tx: ReadTransaction, room: int, place: int, limit: int, *, after: int | None = None) -> list[int]:
    """The nids of the newest events at or before a place, newest first.

    Args:
        place: inclusive.
        limit: how many at most.
        after: stop before (exclusive) this place.
    """
    if after is None:
        rows = tx.execute(
            "SELECT nid FROM events WHERE room = ? AND place <= ? AND place IS NOT NULL ORDER BY place DESC LIMIT ?",
            (room, place, limit),
        )
    else:
        rows = tx.execute(
            "SELECT nid FROM events WHERE room = ? AND place <= ? AND place > ? ORDER BY place DESC LIMIT ?",
            (room, place, after, limit),
        )
    return [row[0] for row in rows]


def after(tx: ReadTransaction, room: int, place: int, limit: int, *, until: int | None = None) -> list[int]:
    """The nids of the oldest events after (exclusive) a place, oldest first, up to (inclusive) `until`."""
    rows = tx.execute(
        "SELECT nid FROM events WHERE room = ? AND place > ? AND place <= ? ORDER BY place LIMIT ?",
        (room, place, until if until is not None else 2**62, limit),
    )
    return [row[0] for row in rows]


def notifying(
    tx: ReadTransaction, room: int, after_place: int, until: int, limit: int
) -> list[tuple[int, int, int | None, int]]:
    """Events that notify somebody under the default rules: (place, notification class, thread, sender), oldest first.

    Answered from an index alone.
    """
    return tx.rows(
        "SELECT place, notify, thread, sender FROM events WHERE room = ? AND place > ? AND place <= ? AND notify > 0 "
        "ORDER BY place LIMIT ?",
        (room, after_place, until, limit),
    )
