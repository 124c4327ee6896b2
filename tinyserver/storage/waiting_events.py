"""Events of other servers that wait on disk for what they refer to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.storage import event_codec, names
from tinyserver.storage.events import event_id_of_key, event_key
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """An event that waits: its number, the server that sent it, and how often it was tried in vain."""

    nid: int
    event: Event
    origin: str
    tries: int


def put(tx: WriteTransaction, room: int, event: Event, origin: str, lacks: str) -> None:
    """Keep an event that lacks another one, unless it waits already."""
    tx.execute(
        "INSERT OR IGNORE INTO waiting_events (room, event_id, lacks, origin, body) VALUES (?, ?, ?, ?, ?)",
        (
            room,
            event_key(event.event_id),
            event_key(lacks),
            names.intern(tx, origin),
            event_codec.encode(event.pdu),
        ),
    )


def count(tx: ReadTransaction, room: int) -> int:
    """How many events wait for something in a room."""
    return int(tx.value("SELECT count(*) FROM waiting_events WHERE room = ?", (room,)))


def is_waiting(tx: ReadTransaction, room: int, event_id: str) -> bool:
    """Whether an event waits."""
    return bool(
        tx.value(
            "SELECT EXISTS (SELECT 1 FROM waiting_events WHERE room = ? AND event_id = ?)", (room, event_key(event_id))
        )
    )


def any_in(tx: ReadTransaction, room: int) -> bool:
    """Whether anything waits in a room."""
    return bool(tx.value("SELECT EXISTS (SELECT 1 FROM waiting_events WHERE room = ?)", (room,)))


def total(tx: ReadTransaction, limit: int) -> int:
    """How many events wait in all rooms, counted up to a limit."""
    return int(tx.value("SELECT count(*) FROM (SELECT 1 FROM waiting_events LIMIT ?)", (limit,)))


def rooms(tx: ReadTransaction) -> list[int]:
    """The rooms in which events wait."""
    return [row[0] for row in tx.execute("SELECT DISTINCT room FROM waiting_events")]


def first_due(
    tx: ReadTransaction, room: int, version: RoomVersion, now_ms: int, tried: Collection[int]
) -> WaitingEvent | None:
    """The oldest of a room's waiting events that may be tried now and is not among those tried already."""
    numbers = tx.rows("SELECT nid FROM waiting_events WHERE room = ? AND due <= ? ORDER BY nid", (room, now_ms))
    nid = next((nid for (nid,) in numbers if nid not in tried), None)
    if nid is None:
        return None
    key, origin, tries, body = tx.row("SELECT event_id, origin, tries, body FROM waiting_events WHERE nid = ?", (nid,))
    event = Event.from_trusted(event_codec.decode(body), version, event_id_of_key(key, version))
    return WaitingEvent(nid, event, names.text(tx, origin), tries)


def tried(tx: WriteTransaction, nid: int, lacks: str | None, due: int) -> None:
    """An event was tried in vain; not to be tried again before a time (ms), unless what it lacks comes earlier."""
    key = None if lacks is None else event_key(lacks)
    tx.execute("UPDATE waiting_events SET tries = tries + 1, lacks = ?, due = ? WHERE nid = ?", (key, due, nid))


def release(tx: WriteTransaction, room: int) -> None:
    """Let those events of a room be tried at once that lacked what is here by now."""
    tx.execute(
        "UPDATE waiting_events SET due = 0 WHERE room = ? AND due > 0 AND EXISTS (SELECT 1 FROM events INDEXED BY "
        "events_by_id WHERE substr(events.event_id, 1, 7) = substr(lacks, 1, 7) AND events.event_id = lacks "
        "AND state IS NOT NULL)",
        (room,),
    )


def release_from(tx: WriteTransaction, room: int, server: str) -> None:
    """Let those events of a room be tried at once that a server has sent."""
    tx.execute("UPDATE waiting_events SET due = 0 WHERE room = ? AND origin = ?", (room, names.intern(tx, server)))


def next_due(tx: ReadTransaction, room: int) -> int | None:
    """When something that waits in a room may be tried (ms), or None if nothing does."""
    due: int | None = tx.value("SELECT min(due) FROM waiting_events WHERE room = ?", (room,))
    return due


def remove(tx: WriteTransaction, nid: int) -> None:
    """An event waits no longer."""
    tx.execute("DELETE FROM waiting_events WHERE nid = ?", (nid,))
