"""Events that mean something else to one local user than their class says: a mention, a keyword."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_NOTIFY, _HIGHLIGHT = 1, 2


@dataclass(frozen=True, slots=True)
class HighlightRow:
    """`event` (nid), in `thread` (nid of its root or None), of notification class `event_class`: what it is to the user."""

    event: int
    place: int
    thread: int | None
    event_class: int
    sender: int
    notify: bool
    highlight: bool


def add(tx: WriteTransaction, user: int, stored: StoredEvent, *, notify: bool, highlight: bool) -> None:
    """Remember what an event is to a user."""
    tx.execute(
        "INSERT OR REPLACE INTO highlights (user, room, event, thread, kind) VALUES (?, ?, ?, ?, ?)",
        (user, stored.room, stored.nid, stored.thread, _NOTIFY * notify + _HIGHLIGHT * highlight),
    )


def after(tx: ReadTransaction, user: int, room: int, place: int, until: int) -> list[HighlightRow]:
    """The exceptions for a user among a room's events after a place, up to `until`."""
    return [
        HighlightRow(row[0], row[1], row[2], row[3], row[4], bool(row[5] & _NOTIFY), bool(row[5] & _HIGHLIGHT))
        for row in tx.execute(
            "SELECT h.event, e.place, h.thread, e.notify, e.sender, h.kind FROM highlights h "
            "JOIN events e ON e.nid = h.event WHERE h.user = ? AND h.room = ? AND e.place > ? AND e.place <= ?",
            (user, room, place, until),
        )
    ]
