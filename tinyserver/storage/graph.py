"""The edges of a room's graph that are not in the events themselves: missing parents, early redactions."""

from __future__ import annotations

from collections.abc import Mapping

from tinyserver.storage.events import event_key
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def connect(tx: WriteTransaction, stored: StoredEvent, parents: Mapping[str, int]) -> None:
    """Note which parents of a new event are missing; those who missed this very event have found it.

    Args:
        parents: those of its parents that are stored, by ID.
    """
    tx.execute("DELETE FROM missing_parents WHERE room = ? AND parent = ?", (stored.room, event_key(stored.event_id)))
    for parent in stored.event.prev_event_ids:
        if parent not in parents:
            tx.execute(
                "INSERT OR IGNORE INTO missing_parents (room, parent, child) VALUES (?, ?, ?)",
                (stored.room, event_key(parent), stored.nid),
            )


def await_target(tx: WriteTransaction, redaction: StoredEvent, target: str) -> None:
    """Keep a redaction in mind until the event that it redacts arrives."""
    tx.execute(
        "INSERT OR IGNORE INTO pending_redactions (room, target, redaction) VALUES (?, ?, ?)",
        (redaction.room, event_key(target), redaction.nid),
    )


def awaiting(tx: ReadTransaction, room: int, event_id: str) -> list[int]:
    """The nids of the redactions that came before the event."""
    return [
        row[0]
        for row in tx.execute(
            "SELECT redaction FROM pending_redactions WHERE room = ? AND target = ?", (room, event_key(event_id))
        )
    ]


def stop_awaiting(tx: WriteTransaction, room: int, event_id: str) -> None:
    """The event has arrived."""
    tx.execute("DELETE FROM pending_redactions WHERE room = ? AND target = ?", (room, event_key(event_id)))


def has_missing_parents(tx: ReadTransaction, room: int) -> bool:
    """Whether the room has history that is not here."""
    return bool(tx.value("SELECT EXISTS (SELECT 1 FROM missing_parents WHERE room = ?)", (room,)))
