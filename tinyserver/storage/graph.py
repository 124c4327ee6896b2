"""The edges of a room's graph that are not in the events themselves: missing parents, early redactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.storage.events import event_id_of_key, event_key, has_state
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_EXAMINED = 1000
"""How many of the newest missing parents of a room are looked at."""


class Gap(NamedTuple):
    """An event of the timeline that follows one that is missing."""

    child: int
    place: int
    parent: str


def connect(tx: WriteTransaction, stored: StoredEvent, parents: Mapping[str, int]) -> None:
    """Note which parents of a new event are missing; those who missed this very event have found it. A parent that is
    known as an outlier only is missing: what came before it is.

    Args:
        parents: those of its parents that are stored, by ID.
    """
    tx.execute("DELETE FROM missing_parents WHERE room = ? AND parent = ?", (stored.room, event_key(stored.event_id)))
    for parent in stored.event.prev_event_ids:
        if parent not in parents or not has_state(tx, parents[parent]):
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


def gaps(
    tx: ReadTransaction, room: int, version: RoomVersion, oldest: int, newest: int, limit: int, since: int = 0
) -> list[Gap]:
    """Events in a part of the timeline whose parents are missing, the newest first.

    Args:
        oldest, newest: places, both inclusive.
        since: only events stored from this position on.
    """
    rows = tx.execute(
        "SELECT child, (SELECT place FROM events WHERE nid = child), parent FROM missing_parents "
        "INDEXED BY missing_parents_by_child WHERE room = ? AND child >= ? ORDER BY child DESC LIMIT ?",
        (room, since, _EXAMINED),
    )
    found = [row for row in rows if row[1] is not None and oldest <= row[1] <= newest]
    found.sort(key=lambda row: -row[1])
    return [Gap(child, place, event_id_of_key(parent, version)) for child, place, parent in found[:limit]]


def newest_gap(tx: ReadTransaction, room: int, after: int, until: int) -> int | None:
    """The place of the newest event whose parents are missing, of those that came after a position up to another."""
    place = tx.value(
        "SELECT max((SELECT place FROM events WHERE nid = child AND place > ?2 AND place <= ?3)) FROM missing_parents "
        "INDEXED BY missing_parents_by_child WHERE room = ?1 AND child > ?2",
        (room, after, until),
    )
    return None if place is None else int(place)


def follow_instead(tx: WriteTransaction, room: int, unseen: int, child: int) -> None:
    """Let another event stand for one that is not in the timeline, as what the missing parents are needed for."""
    tx.execute("UPDATE OR IGNORE missing_parents SET child = ? WHERE room = ? AND child = ?", (child, room, unseen))


def give_up(tx: WriteTransaction, room: int, parent: str) -> None:
    """A missing event is not looked for any longer."""
    tx.execute("DELETE FROM missing_parents WHERE room = ? AND parent = ?", (room, event_key(parent)))
