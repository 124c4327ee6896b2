"""Events that mean something else to one local user than their class says: a mention, a keyword."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_NOTIFY, _HIGHLIGHT = 1, 2


@dataclass(frozen=True, slots=True)
class HighlightRow:
    """What the event at a place of the room is to the user; `thread` is the nid of its thread's root or 0,
    `event_class` its notification class, `sender` who sent it."""

    place: int
    thread: int
    event_class: int
    sender: int
    notify: bool
    highlight: bool


def add(tx: WriteTransaction, user: int, stored: StoredEvent, *, notify: bool, highlight: bool) -> None:
    """Remember what an event of the timeline is to a user."""
    tx.execute(
        "INSERT OR REPLACE INTO highlights (user, room, place, kind) VALUES (?, ?, ?, ?)",
        (user, stored.room, stored.place, _NOTIFY * notify + _HIGHLIGHT * highlight),
    )


def after(tx: ReadTransaction, user: int, room: int, place: int, until: int, limit: int) -> list[HighlightRow]:
    """The exceptions for a user among a room's events after a place, up to `until`; the newest `limit` of them, without
    redacted events."""
    return [
        HighlightRow(row[0], row[1], row[2], row[3], bool(row[4] & _NOTIFY), bool(row[4] & _HIGHLIGHT))
        for row in tx.execute(
            "SELECT h.place, coalesce(e.thread, 0), e.notify, e.sender, h.kind FROM highlights h "
            "JOIN events e ON e.room = h.room AND e.place = h.place "
            "WHERE h.user = ? AND h.room = ? AND h.place > ? AND h.place <= ? AND e.notify > 0 "
            "ORDER BY h.place DESC LIMIT ?",
            (user, room, place, until, limit),
        )
    ]
