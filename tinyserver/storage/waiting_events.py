"""Events of other servers that wait on disk for what they refer to.

Of those that are too many only the names are kept: enough to ask for them later.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.storage import event_codec, names
from tinyserver.storage.events import event_id_of_key, event_key
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_COLUMNS = "nid, event_id, origin, tries, due, body"
_IS_HERE = (
    "EXISTS (SELECT 1 FROM events INDEXED BY events_by_id WHERE substr(events.event_id, 1, 7) = substr({0}, 1, 7) "
    "AND events.event_id = {0} AND events.state IS NOT NULL AND events.room = {1}.room)"
)


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """An event that waits: its number, the server that sent it, and how often it was tried in vain. `event` is None
    where only its name was kept; `is_released` says that it is tried before its time."""

    nid: int
    event_id: str
    event: Event | None
    origin: str
    tries: int
    is_released: bool


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


def put_name(tx: WriteTransaction, room: int, event_id: str, origin: str) -> None:
    """Keep the name of an event that is to be asked for later, unless it waits already."""
    tx.execute(
        "INSERT OR IGNORE INTO waiting_events (room, event_id, origin) VALUES (?, ?, ?)",
        (room, event_key(event_id), names.intern(tx, origin)),
    )


def forget_a_name(tx: WriteTransaction, room: int, origin: str) -> bool:
    """Make room for a newer name: the oldest of those that a server sent in a room goes, or else the oldest of all
    in it. Returns whether there was any."""
    found = "SELECT nid FROM waiting_events INDEXED BY waiting_events_named WHERE room = ? AND body IS NULL"
    nid = tx.value(f"{found} AND origin = ? ORDER BY nid LIMIT 1", (room, names.intern(tx, origin)))
    nid = tx.value(f"{found} ORDER BY nid LIMIT 1", (room,)) if nid is None else nid
    if nid is not None:
        remove(tx, nid)
    return nid is not None


def count(tx: ReadTransaction, room: int) -> int:
    """How many events wait for something in a room, without those of which only the name is known."""
    return int(
        tx.value(
            "SELECT count(*) FROM waiting_events INDEXED BY waiting_events_kept WHERE room = ? AND body IS NOT NULL",
            (room,),
        )
    )


def count_names(tx: ReadTransaction, room: int) -> int:
    """How many events wait in a room of which only the name is known."""
    return int(
        tx.value(
            "SELECT count(*) FROM waiting_events INDEXED BY waiting_events_named WHERE room = ? AND body IS NULL",
            (room,),
        )
    )


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
    """How many events wait in all rooms, counted up to a limit; without those of which only the name is known."""
    return int(
        tx.value(
            "SELECT count(*) FROM (SELECT 1 FROM waiting_events INDEXED BY waiting_events_kept "
            "WHERE body IS NOT NULL LIMIT ?)",
            (limit,),
        )
    )


def total_names(tx: ReadTransaction, limit: int) -> int:
    """How many events wait in all rooms of which only the name is known, counted up to a limit."""
    return int(
        tx.value(
            "SELECT count(*) FROM (SELECT 1 FROM waiting_events INDEXED BY waiting_events_named "
            "WHERE body IS NULL LIMIT ?)",
            (limit,),
        )
    )


def rooms(tx: ReadTransaction) -> list[int]:
    """The rooms in which events wait."""
    return [row[0] for row in tx.execute("SELECT DISTINCT room FROM waiting_events")]


def first_due(tx: ReadTransaction, room: int, version: RoomVersion, now_ms: int) -> WaitingEvent | None:
    """The event of a room that is to be tried now: the oldest that was kept, or of those that were only named the
    newest, for it may well lead to the others."""
    row = tx.row(
        f"SELECT {_COLUMNS} FROM waiting_events INDEXED BY waiting_events_kept "
        "WHERE room = ? AND body IS NOT NULL AND due <= ? ORDER BY due, nid LIMIT 1",
        (room, now_ms),
    ) or tx.row(
        f"SELECT {_COLUMNS} FROM waiting_events INDEXED BY waiting_events_named "
        "WHERE room = ? AND body IS NULL AND due <= ? ORDER BY nid DESC LIMIT 1",
        (room, now_ms),
    )
    if row is None:
        return None
    nid, key, origin, tries, due, body = row
    event_id = event_id_of_key(key, version)
    event = None if body is None else Event.from_trusted(event_codec.decode(body), version, event_id)
    return WaitingEvent(nid, event_id, event, names.text(tx, origin), tries, is_released=due == 0 and tries > 0)


def forget_stored(tx: WriteTransaction, room: int) -> None:
    """Names of a room's events need not be kept that are here by now."""
    tx.execute(
        "DELETE FROM waiting_events WHERE nid IN (SELECT w.nid FROM waiting_events w INDEXED BY waiting_events_named "
        f"WHERE w.room = ? AND w.body IS NULL AND {_IS_HERE.format('w.event_id', 'w')})",
        (room,),
    )


def tried(tx: WriteTransaction, waiting: WaitingEvent, lacks: str | None, due: int) -> None:
    """An event was tried in vain; not to be tried again before a time (ms), unless what it lacks comes earlier. What
    was tried before its time does not count."""
    key = None if lacks is None else event_key(lacks)
    tx.execute(
        "UPDATE waiting_events SET tries = tries + ?, lacks = ?, due = ? WHERE nid = ?",
        (0 if waiting.is_released else 1, key, due, waiting.nid),
    )


def release(tx: WriteTransaction, room: int) -> None:
    """Let those events of a room be tried at once that lacked what is here by now."""
    lacked = _IS_HERE.format("lacks", "waiting_events")
    tx.execute(f"UPDATE waiting_events SET due = 0 WHERE room = ? AND due > 0 AND {lacked}", (room,))


def release_all(tx: WriteTransaction, room: int) -> None:
    """Let all events of a room be tried at once."""
    tx.execute("UPDATE waiting_events SET due = 0 WHERE room = ? AND due > 0", (room,))


def next_due(tx: ReadTransaction, room: int) -> int | None:
    """When something that waits in a room may be tried (ms), or None if nothing does."""
    due: int | None = tx.value("SELECT min(due) FROM waiting_events WHERE room = ?", (room,))
    return due


def remove(tx: WriteTransaction, nid: int) -> None:
    """An event waits no longer."""
    tx.execute("DELETE FROM waiting_events WHERE nid = ?", (nid,))
