"""Sticky events, until some time after they are it no more.

spec: MSC4354
"""

from __future__ import annotations

from typing import NamedTuple

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

HELD_BACK = 0
"""In place of a position: the event was soft-failed."""


class StickyRow(NamedTuple):
    """An event (nid) that is to be told from a position on (`HELD_BACK`: not yet), until a time (ms since 1970)."""

    event: int
    room: int
    position: int
    until: int


def add(tx: WriteTransaction, row: StickyRow, now_ms: int) -> None:
    """Keep a sticky event; those whose time is over are forgotten."""
    tx.execute("DELETE FROM sticky_events WHERE until <= ?", (now_ms,))
    tx.execute("INSERT OR IGNORE INTO sticky_events (event, room, position, until) VALUES (?, ?, ?, ?)", row)


def in_room(tx: ReadTransaction, room: int, since: int, until: int, limit: int) -> list[StickyRow]:
    """The newest of a room at a position in (since, until], oldest first."""
    rows = tx.rows(
        "SELECT event, room, position, until FROM sticky_events WHERE room = ? AND position > ? AND position <= ? "
        "ORDER BY position DESC LIMIT ?",
        (room, since, until, limit),
    )
    return [StickyRow(*row) for row in reversed(rows)]


def held_back(tx: ReadTransaction, room: int, limit: int) -> list[StickyRow]:
    """Those of a room that are not to be told yet."""
    rows = tx.rows(
        "SELECT event, room, position, until FROM sticky_events WHERE room = ? AND position = ? LIMIT ?",
        (room, HELD_BACK, limit),
    )
    return [StickyRow(*row) for row in rows]


def release(tx: WriteTransaction, event: int, position: int) -> None:
    """An event is to be told from a position on."""
    tx.execute("UPDATE sticky_events SET position = ? WHERE event = ?", (position, event))


def anywhere(tx: ReadTransaction, since: int, until: int, limit: int) -> list[StickyRow]:
    """The first of all rooms at a position in (since, until], oldest first."""
    rows = tx.rows(
        "SELECT event, room, position, until FROM sticky_events WHERE position > ? AND position <= ? "
        "ORDER BY position LIMIT ?",
        (since, until, limit),
    )
    return [StickyRow(*row) for row in rows]
