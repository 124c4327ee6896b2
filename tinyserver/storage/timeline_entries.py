"""The rows of a room's timeline without the events' bodies, for those who choose among many."""

from __future__ import annotations

from typing import NamedTuple

from tinyserver.storage.transaction import ReadTransaction


class Entry(NamedTuple):
    """What the timeline says of an event without its body: numbers as in `StoredEvent`."""

    nid: int
    place: int
    type: int
    sender: int
    state_key: int | None
    state: int | None


def before(tx: ReadTransaction, room: int, place: int, limit: int, *, after: int) -> list[Entry]:
    """The newest events at or before a place (inclusive), newest first, none at or before `after`."""
    rows = tx.execute(
        "SELECT nid, place, type, sender, state_key, state FROM events WHERE room = ? AND place <= ? AND place > ? "
        "ORDER BY place DESC LIMIT ?",
        (room, place, after, limit),
    )
    return [Entry(*row) for row in rows]


def after(tx: ReadTransaction, room: int, place: int, limit: int, *, until: int) -> list[Entry]:
    """The oldest events after a place (exclusive), oldest first, up to (inclusive) `until`."""
    rows = tx.execute(
        "SELECT nid, place, type, sender, state_key, state FROM events WHERE room = ? AND place > ? AND place <= ? "
        "ORDER BY place LIMIT ?",
        (room, place, until, limit),
    )
    return [Entry(*row) for row in rows]
