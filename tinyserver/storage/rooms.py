"""Rooms: their version, current state and forward extremities."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from tinyserver.protocol.room_versions import RoomVersion, get_room_version
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


class RoomRow(msgspec.Struct, frozen=True):
    """A room as it stands: `state` is the root of its current state, `extremities` the nids of its forward
    extremities, `last_event` the place of its newest event, `joined`/`invited` the number of such members. Of a room
    that `is_partial` not all members are known yet (see `tinyserver.rooms.partial_state`)."""

    nid: int
    room_id: str
    version: RoomVersion
    state: int
    extremities: tuple[int, ...]
    last_event: int
    first_place: int
    joined: int
    invited: int
    is_public: bool
    is_partial: bool


# A room's newest event is the end of an index; a room whose only forward extremity it is says no more: a message
# then does not write the room's row.
_NEWEST = "SELECT {} FROM events WHERE room = rooms.nid AND place IS NOT NULL ORDER BY place DESC LIMIT 1"
_COLUMNS = (
    f"nid, room_id, version, state, ifnull(extremities, '[' || ({_NEWEST.format('nid')}) || ']'), "
    f"({_NEWEST.format('place')}), first_place, joined, invited, is_public, "
    "EXISTS (SELECT 1 FROM partial_rooms WHERE room = rooms.nid AND whole_at IS NULL)"
)


def _from_row(row: Any) -> RoomRow:
    return RoomRow(
        row[0],
        row[1],
        get_room_version(row[2]),
        row[3],
        tuple(json.loads(row[4] or "[]")),
        row[5] or 0,
        row[6],
        row[7],
        row[8],
        bool(row[9]),
        bool(row[10]),
    )


def create(tx: WriteTransaction, room_id: str, version: RoomVersion) -> RoomRow:
    """Add a room without any event yet."""
    nid = tx.execute("INSERT INTO rooms (room_id, version) VALUES (?, ?)", (room_id, version.identifier)).lastrowid
    assert nid is not None
    return RoomRow(nid, room_id, version, 0, (), 0, 0, 0, 0, is_public=False, is_partial=False)


def discard(tx: WriteTransaction, nid: int) -> None:
    """Take away a room of which nothing is known after all: it has no state, and nobody has to do with it."""
    tx.execute(
        "DELETE FROM rooms WHERE nid = ?1 AND state = 0 AND NOT EXISTS (SELECT 1 FROM memberships WHERE room = ?1)",
        (nid,),
    )


def find(tx: ReadTransaction, room_id: str) -> RoomRow | None:
    """A room by its ID, or None when nothing of it is known."""
    row = tx.row(f"SELECT {_COLUMNS} FROM rooms WHERE room_id = ?", (room_id,))
    return None if row is None else _from_row(row)


def get(tx: ReadTransaction, nid: int) -> RoomRow:
    """A room by its number, which exists."""
    return _from_row(tx.row(f"SELECT {_COLUMNS} FROM rooms WHERE nid = ?", (nid,)))


def known_after(tx: ReadTransaction, nid: int, limit: int) -> list[RoomRow]:
    """The next rooms behind a number of which more is known than an invite."""
    sql = f"SELECT {_COLUMNS} FROM rooms WHERE nid > ? AND state != 0 ORDER BY nid LIMIT ?"
    return [_from_row(row) for row in tx.execute(sql, (nid, limit))]


def inhabited_after(tx: ReadTransaction, nid: int, limit: int) -> list[RoomRow]:
    """The next rooms behind a number that local users are in."""
    sql = (
        f"SELECT {_COLUMNS} FROM rooms WHERE nid > ? AND EXISTS (SELECT 1 FROM memberships INDEXED BY "
        "memberships_local_in_room WHERE room = rooms.nid AND is_local = 1 AND membership = 4) ORDER BY nid LIMIT ?"
    )
    return [_from_row(row) for row in tx.execute(sql, (nid, limit))]


def count(tx: ReadTransaction) -> int:
    """How many rooms are known, also those that everybody here has left."""
    return int(tx.value("SELECT count(*) FROM rooms"))


def room_id(tx: ReadTransaction, nid: int) -> str:
    """The ID of a room by its number, which exists."""
    return str(tx.value("SELECT room_id FROM rooms WHERE nid = ?", (nid,)))


def current_state(tx: ReadTransaction, nid: int) -> int:
    """The root of the current state of a room by its number, which exists."""
    return int(tx.value("SELECT state FROM rooms WHERE nid = ?", (nid,)))


def ids(tx: ReadTransaction, nids: Collection[int]) -> dict[int, str]:
    """The IDs of rooms by their numbers."""
    return dict(
        tx.execute(
            "SELECT r.nid, r.room_id FROM json_each(?) AS wanted CROSS JOIN rooms r ON r.nid = wanted.value",
            ("[" + ",".join(map(str, nids)) + "]",),
        )
    )


def get_many(tx: ReadTransaction, nids: Iterable[int]) -> dict[int, RoomRow]:
    """Rooms by their numbers."""
    return {nid: get(tx, nid) for nid in nids}


def advance(tx: WriteTransaction, room: int, extremities: Collection[int], newest: int) -> None:
    """Note the forward extremities that follow from a new event.

    Args:
        newest: the nid of the new event, which is the newest of the timeline.
    """
    if set(extremities) == {newest}:
        tx.execute("UPDATE rooms SET extremities = NULL WHERE nid = ? AND extremities IS NOT NULL", (room,))
        return
    stored = json.dumps(sorted(extremities), separators=(",", ":"))
    tx.execute("UPDATE rooms SET extremities = ? WHERE nid = ?", (stored, room))


def set_extremities(tx: WriteTransaction, room: int, extremities: Collection[int]) -> None:
    """Note the forward extremities after some of the newest events turned out not to belong to the room."""
    stored = json.dumps(sorted(extremities), separators=(",", ":"))
    tx.execute("UPDATE rooms SET extremities = ? WHERE nid = ?", (stored, room))


def set_state(tx: WriteTransaction, nid: int, state: int, position: int, joined: int, invited: int) -> None:
    """Change the current state, remembering from which position on it holds; the bell rings for the room."""
    tx.execute("UPDATE rooms SET state = ?, joined = ?, invited = ? WHERE nid = ?", (state, joined, invited, nid))
    tx.execute("INSERT OR REPLACE INTO room_states (room, position, state) VALUES (?, ?, ?)", (nid, position, state))
    tx.changed(Topic.STATE, nid, position)


def set_counts(tx: WriteTransaction, nid: int, joined: int, invited: int) -> None:
    """Correct the numbers of members."""
    tx.execute("UPDATE rooms SET joined = ?, invited = ? WHERE nid = ?", (joined, invited, nid))


def set_first_place(tx: WriteTransaction, nid: int, place: int) -> None:
    """Note the place of an event that was fetched from history, if it is the oldest."""
    tx.execute("UPDATE rooms SET first_place = ?1 WHERE nid = ?2 AND first_place > ?1", (place, nid))


def state_at(tx: ReadTransaction, nid: int, position: int) -> int:
    """The root of what was the current state at a position of the one order; 0 (empty) before the room was known."""
    value = tx.value(
        "SELECT state FROM room_states WHERE room = ? AND position <= ? ORDER BY position DESC LIMIT 1",
        (nid, position),
    )
    return int(value or 0)


def state_now(tx: ReadTransaction, nid: int) -> int:
    """The root of a room's current state; 0 (empty) for a room of which only an invite or the like is known."""
    return int(tx.value("SELECT state FROM rooms WHERE nid = ?", (nid,)) or 0)


def set_public(tx: WriteTransaction, nid: int, is_public: bool) -> None:
    """List the room in the room directory, or take it out."""
    tx.execute("UPDATE rooms SET is_public = ? WHERE nid = ?", (int(is_public), nid))


def set_alias(tx: WriteTransaction, alias: str, room: int, creator: int) -> None:
    """Point an alias to a room; the alias is free."""
    tx.execute("INSERT INTO aliases (alias, room, creator) VALUES (?, ?, ?)", (alias, room, creator))


def remove_alias(tx: WriteTransaction, alias: str) -> None:
    """Take an alias away."""
    tx.execute("DELETE FROM aliases WHERE alias = ?", (alias,))


def of_alias(tx: ReadTransaction, alias: str) -> tuple[int, int] | None:
    """(room nid, creator nid) of a local alias, or None."""
    row = tx.row("SELECT room, creator FROM aliases WHERE alias = ?", (alias,))
    return None if row is None else (row[0], row[1])


def aliases(tx: ReadTransaction, room: int) -> list[str]:
    """The local aliases of a room."""
    return [row[0] for row in tx.execute("SELECT alias FROM aliases WHERE room = ? ORDER BY alias", (room,))]
