"""The edges of a room's graph that are not in the events themselves: missing parents, relations, early redactions."""

from __future__ import annotations

from collections.abc import Mapping

from tinyserver.protocol.relations import relation_of
from tinyserver.storage import events, names
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


def relate(tx: WriteTransaction, stored: StoredEvent) -> None:
    """Make an event findable from the event that it relates to."""
    relation = relation_of(stored.event.content)
    if relation.rel_type is None or relation.parent_id is None:
        return
    tx.execute(
        "INSERT OR IGNORE INTO relations (room, target, child, rel_type) VALUES (?, ?, ?, ?)",
        (stored.room, event_key(relation.parent_id), stored.nid, names.intern(tx, relation.rel_type)),
    )


def related_by(
    tx: ReadTransaction, room: int, target: str, rel_type: str, event_type: str, sender: str
) -> list[StoredEvent]:
    """What one user has sent of one type that relates to an event in one way, and was not redacted."""
    wanted = [names.find(tx, name) for name in (rel_type, event_type, sender)]
    rows = tx.execute(
        "SELECT child FROM relations JOIN events ON events.nid = child "
        "WHERE relations.room = ? AND target = ? AND rel_type = ? AND type = ? AND sender = ?",
        (room, event_key(target), *wanted),
    )
    return [events.get(tx, row[0]) for row in rows.fetchall()]


def unrelate(tx: WriteTransaction, stored: StoredEvent) -> None:
    """A redacted event relates to nothing any more."""
    relation = relation_of(stored.event.content)
    if relation.parent_id is not None:
        tx.execute(
            "DELETE FROM relations WHERE room = ? AND target = ? AND child = ?",
            (stored.room, event_key(relation.parent_id), stored.nid),
        )


def children(tx: ReadTransaction, room: int, event_id: str) -> list[tuple[str, str]]:
    """(relation type, sender) of events that relate to an event, of the first thousand."""
    rows = tx.execute(
        "SELECT relations.rel_type, events.sender FROM relations JOIN events ON events.nid = relations.child "
        "WHERE relations.room = ? AND relations.target = ? LIMIT 1000",
        (room, event_key(event_id)),
    )
    return [(names.text(tx, rel_type), names.text(tx, sender)) for rel_type, sender in rows]


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
