"""Read receipts: up to where each user has read a room, publicly or for themselves, as a whole or by thread.

One row for each (room, user, kind, thread), which moves. There is no index by position: what moved lately is
remembered in memory (`rooms.receipts`), and a client that was away for longer costs a walk over the room's rows.

spec: client-server-api#receipts
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from tinyserver.storage import names, rooms
from tinyserver.storage.events import event_id_of_key
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


class ReceiptKind(IntEnum):
    """The receipt types of the specification as numbers."""

    READ = 1
    READ_PRIVATE = 2

    @property
    def receipt_type(self) -> str:
        """The name in the specification."""
        return "m.read" if self is ReceiptKind.READ else "m.read.private"


UNTHREADED = ""
"""The thread of a receipt that counts for all threads."""
MAIN = "main"
"""The thread of events that are in no thread."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One receipt as it stands: `user` (nid) has read up to an event in a thread (None: in all), said at `ts` (ms)."""

    room: int
    user: int
    user_id: str
    kind: ReceiptKind
    thread_id: str | None
    event_id: str
    ts: int
    position: int

    @property
    def receipt_type(self) -> str:
        """`m.read` or `m.read.private`."""
        return self.kind.receipt_type


@dataclass(frozen=True, slots=True)
class ReadUpTo:
    """How far a user has read: up to a place, in a thread (`UNTHREADED`, `MAIN` or the root's event ID)."""

    thread: str
    place: int


def place_of(tx: ReadTransaction, room: int, user: int, kind: ReceiptKind, thread: str) -> int | None:
    """The place up to which a user has read, as one of their receipts says; None without such a receipt."""
    place: int | None = tx.value(
        "SELECT e.place FROM receipts r JOIN events e ON e.nid = r.event "
        "WHERE r.room = ? AND r.user = ? AND r.kind = ? AND r.thread = ?",
        (room, user, int(kind), thread),
    )
    return place


def put(tx: WriteTransaction, *, room: int, user: int, kind: ReceiptKind, thread: str, event: int, ts: int) -> int:
    """Move a receipt to an event (nid); the bell rings for the room and the reader. Returns the change's position."""
    position = tx.changed(Topic.RECEIPT, room)
    tx.changed(Topic.READ, user, position)
    tx.execute(
        "INSERT INTO receipts (room, user, kind, thread, event, ts, position) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (room, user, kind, thread) DO UPDATE SET event = excluded.event, ts = excluded.ts, "
        "position = excluded.position",
        (room, user, int(kind), thread, event, ts, position),
    )
    return position


def version(tx: ReadTransaction, room: int, user: int) -> int:
    """The position of the newest change of a user's receipts in a room; 0 without receipts."""
    return int(tx.value("SELECT max(position) FROM receipts WHERE room = ? AND user = ?", (room, user)) or 0)


def read_up_to(tx: ReadTransaction, room: int, user: int) -> list[ReadUpTo]:
    """What a user's receipts of both kinds say."""
    return [
        ReadUpTo(row[0], row[1])
        for row in tx.execute(
            "SELECT r.thread, e.place FROM receipts r JOIN events e ON e.nid = r.event "
            "WHERE r.room = ? AND r.user = ? AND e.place IS NOT NULL",
            (room, user),
        )
    ]


_SELECT = (
    "SELECT r.user, r.kind, r.thread, e.event_id, r.ts, r.position FROM receipts r JOIN events e ON e.nid = r.event "
    "WHERE r.room = ? "
)


def moved(tx: ReadTransaction, room: int, since: int, until: int) -> list[Receipt]:
    """The receipts of a room that moved at a position in (since, until], in that order."""
    return _receipts(
        tx,
        room,
        tx.execute(_SELECT + "AND r.position > ? AND r.position <= ? ORDER BY r.position", (room, since, until)),
    )


def newest(tx: ReadTransaction, room: int, until: int, limit: int) -> list[Receipt]:
    """The public receipts of a room that moved last, up to a position; the newest come first."""
    return _receipts(
        tx,
        room,
        tx.execute(
            _SELECT + "AND r.kind = 1 AND r.position <= ? ORDER BY r.position DESC LIMIT ?", (room, until, limit)
        ),
    )


def of_user(tx: ReadTransaction, room: int, user: int, limit: int) -> list[Receipt]:
    """The receipts of one user in a room; the newest come first."""
    return _receipts(
        tx, room, tx.execute(_SELECT + "AND r.user = ? ORDER BY r.position DESC LIMIT ?", (room, user, limit))
    )


def _receipts(
    tx: ReadTransaction, room: int, rows: Iterable[tuple[int, int, str, bytes | str, int, int]]
) -> list[Receipt]:
    found = list(rows)
    if not found:
        return []
    room_version = rooms.get(tx, room).version
    return [
        Receipt(
            room,
            user,
            names.text(tx, user),
            ReceiptKind(kind),
            thread or None,
            event_id_of_key(key, room_version),
            ts,
            position,
        )
        for user, kind, thread, key, ts, position in found
    ]
