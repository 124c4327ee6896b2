"""Events that clients have scheduled, and for some days what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_COLUMNS = (
    "delay_id, user, device, txn_id, room_id, type, state_key, content, delay, scheduled, ts, sticky, restarted,"
    " finalised, event_id, error"
)


@dataclass(frozen=True, slots=True)
class DelayedRow:
    """One of them. Times are ms since 1970, `delay` and `sticky` are ms, `content` and `error` are JSON."""

    delay_id: str
    user: int
    device: int | None
    txn_id: str | None
    room_id: str
    type: str
    state_key: str | None
    content: bytes
    delay: int
    scheduled: int
    ts: int | None = None
    sticky: int | None = None
    restarted: bool = False
    finalised: int | None = None
    event_id: str | None = None
    error: bytes | None = None


def add(tx: WriteTransaction, row: DelayedRow) -> None:
    """Keep a scheduled event."""
    tx.execute(
        "INSERT INTO delayed_events (delay_id, user, device, txn_id, room_id, type, state_key, content, delay,"
        " scheduled, ts, sticky) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(row.delay_id, row.user, row.device, row.txn_id, row.room_id, row.type, row.state_key, row.content),
            *(row.delay, row.scheduled, row.ts, row.sticky),
        ),
    )


def get(tx: ReadTransaction, delay_id: str) -> DelayedRow | None:
    """The one with an ID."""
    row = tx.row(f"SELECT {_COLUMNS} FROM delayed_events WHERE delay_id = ?", (delay_id,))
    return None if row is None else DelayedRow(*row)


def of_transaction(tx: ReadTransaction, device: int, txn_id: str) -> list[DelayedRow]:
    """Those that a device scheduled with a transaction ID: one, unless it used it for several rooms or types."""
    rows = tx.rows(f"SELECT {_COLUMNS} FROM delayed_events WHERE device = ? AND txn_id = ?", (device, txn_id))
    return [DelayedRow(*row) for row in rows]


def scheduled(tx: ReadTransaction) -> Iterator[DelayedRow]:
    """All that are still to be sent, the first scheduled first."""
    for row in tx.execute(f"SELECT {_COLUMNS} FROM delayed_events WHERE finalised IS NULL ORDER BY scheduled"):
        yield DelayedRow(*row)


def scheduled_by(tx: ReadTransaction, user: int) -> list[DelayedRow]:
    """Those of a user (a nid) that are still to be sent; their number is bounded where they are added."""
    rows = tx.rows(f"SELECT {_COLUMNS} FROM delayed_events WHERE user = ? AND finalised IS NULL", (user,))
    return [DelayedRow(*row) for row in rows]


def count(tx: ReadTransaction, user: int) -> int:
    """How many of a user's (a nid) are still to be sent."""
    found: int = tx.value("SELECT count(*) FROM delayed_events WHERE user = ? AND finalised IS NULL", (user,))
    return found


def mark_restarted(tx: WriteTransaction, delay_id: str) -> None:
    """Note that the delay has begun anew."""
    tx.execute("UPDATE delayed_events SET restarted = 1 WHERE delay_id = ?", (delay_id,))


def finalise(
    tx: WriteTransaction, delay_id: str, now: int, *, event_id: str | None = None, error: bytes | None = None
) -> None:
    """Note what became of one: sent as an event, not sent for an error (JSON), or cancelled."""
    tx.execute(
        "UPDATE delayed_events SET finalised = ?, event_id = ?, error = ? WHERE delay_id = ?",
        (now, event_id, error, delay_id),
    )


def forget(tx: WriteTransaction, user: int, before: int, keep: int) -> None:
    """Forget what became of those that were finalised before a time, and of all but the last `keep` of a user's."""
    tx.execute("DELETE FROM delayed_events WHERE finalised < ?", (before,))
    tx.execute(
        "DELETE FROM delayed_events WHERE user = ?1 AND finalised <="
        " (SELECT finalised FROM delayed_events WHERE user = ?1 AND finalised IS NOT NULL"
        " ORDER BY finalised DESC LIMIT 1 OFFSET ?2)",
        (user, keep),
    )
