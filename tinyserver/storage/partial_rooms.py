"""Rooms of which the members are not all known yet: what is known of them, and the events that came meanwhile.

What that means for whom is the business of `tinyserver.rooms.partial_state`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tinyserver.storage import events
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class PartialRoom:
    """A room whose members are not all known: `join` is the nid of the join before which they are not, `base` the root
    of the state before it as far as it was told, `told` that of all of it as far as it has been put together,
    `servers` whom to ask."""

    room: int
    join: int
    base: int
    told: int
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartialEvent:
    """An event that came meanwhile: `told` is the root of the state before it where it was asked for, `state` the root
    of the state after it as it really was (None: not looked at), `replaces` and `rejected` what follows from that."""

    nid: int
    told: int
    state: int | None
    replaces: int | None
    rejected: bool


def begin(tx: WriteTransaction, room: int, join: int, base: int, servers: Sequence[str]) -> None:
    """From now on the room is partial; what was noted of an earlier time when it was is forgotten."""
    tx.execute("DELETE FROM partial_events WHERE room = ?", (room,))
    tx.execute(
        "INSERT OR REPLACE INTO partial_rooms (room, join_nid, base, servers) VALUES (?, ?, ?, ?)",
        (room, join, base, json.dumps(list(servers), separators=(",", ":"))),
    )


def finish(tx: WriteTransaction, room: int, position: int) -> None:
    """Everything is known from this position on."""
    tx.execute("DELETE FROM partial_events WHERE room = ?", (room,))
    tx.execute("UPDATE partial_rooms SET whole_at = ?, base = 0, told = 0 WHERE room = ?", (position, room))


def give_up(tx: WriteTransaction, room: int) -> None:
    """Nobody needs the members any more: nobody on this server is in the room."""
    tx.execute("DELETE FROM partial_events WHERE room = ?", (room,))
    tx.execute("DELETE FROM partial_rooms WHERE room = ? AND whole_at IS NULL", (room,))


_COLUMNS = "room, join_nid, base, told, servers"


def get(tx: ReadTransaction, room: int) -> PartialRoom | None:
    """A room that is partial now, or None."""
    row = tx.row(f"SELECT {_COLUMNS} FROM partial_rooms WHERE room = ? AND whole_at IS NULL", (room,))
    return None if row is None else PartialRoom(row[0], row[1], row[2], row[3], tuple(json.loads(row[4])))


def all_partial(tx: ReadTransaction) -> list[int]:
    """The rooms (nids) that are partial now."""
    return [row[0] for row in tx.execute("SELECT room FROM partial_rooms WHERE whole_at IS NULL")]


def newest_completion(tx: ReadTransaction) -> int:
    """The position at which a room became whole last; 0: none did."""
    return int(
        tx.value("SELECT max(whole_at) FROM partial_rooms INDEXED BY partial_rooms_whole WHERE whole_at IS NOT NULL")
        or 0
    )


def completed_between(tx: ReadTransaction, since: int, until: int) -> list[int]:
    """The rooms that became whole at a position in (since, until]."""
    return [
        row[0]
        for row in tx.execute("SELECT room FROM partial_rooms WHERE whole_at > ? AND whole_at <= ?", (since, until))
    ]


def became_whole(tx: ReadTransaction, room: int, since: int, until: int) -> bool:
    """Whether a room became whole at a position in (since, until]."""
    return bool(
        tx.value(
            "SELECT EXISTS (SELECT 1 FROM partial_rooms WHERE room = ? AND whole_at > ? AND whole_at <= ?)",
            (room, since, until),
        )
    )


def set_told(tx: WriteTransaction, room: int, root: int) -> None:
    """So much of the state before the join has been put together."""
    tx.execute("UPDATE partial_rooms SET told = ? WHERE room = ?", (root, room))


def note_event(tx: WriteTransaction, room: int, event: int, position: int) -> None:
    """An event was stored at a position, and the state at it is not known whole."""
    tx.execute("INSERT OR IGNORE INTO partial_events (room, event, position) VALUES (?, ?, ?)", (room, event, position))


_EVENT = "event, told, state, replaces, rejected"


def events_left(tx: ReadTransaction, room: int, limit: int) -> list[PartialEvent]:
    """Those events that have not been looked at again, the oldest first."""
    rows = tx.rows(
        f"SELECT {_EVENT} FROM partial_events INDEXED BY partial_events_left "
        "WHERE room = ? AND state IS NULL ORDER BY position LIMIT ?",
        (room, limit),
    )
    return [PartialEvent(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows]


def all_events(tx: ReadTransaction, room: int) -> list[PartialEvent]:
    """All events that came meanwhile."""
    rows = tx.rows(f"SELECT {_EVENT} FROM partial_events WHERE room = ?", (room,))
    return [PartialEvent(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows]


def states_of(tx: ReadTransaction, room: int, nids: Iterable[int]) -> dict[int, int]:
    """The states after those of some events that have been looked at."""
    found = {}
    for nid in nids:
        state = tx.value("SELECT state FROM partial_events WHERE room = ? AND event = ?", (room, nid))
        if state is not None:
            found[nid] = int(state)
    return found


def among(tx: ReadTransaction, room: int, nids: Iterable[int]) -> set[int]:
    """Those of some events that came meanwhile."""
    return {nid for nid in nids if tx.value("SELECT 1 FROM partial_events WHERE room = ? AND event = ?", (room, nid))}


def open_ends(tx: ReadTransaction, room: int, limit: int) -> list[int]:
    """Those events that follow others which are not here, and the state before which nobody was asked for."""
    return [
        row[0]
        for row in tx.execute(
            "SELECT DISTINCT event FROM missing_parents m CROSS JOIN partial_events p ON p.room = m.room "
            "AND p.event = m.child WHERE m.room = ?1 AND p.told = 0 AND p.state IS NULL "
            "AND event <> (SELECT join_nid FROM partial_rooms WHERE room = ?1) LIMIT ?2",
            (room, limit),
        )
    ]


def set_told_before(tx: WriteTransaction, room: int, event: int, root: int) -> None:
    """What the state before an event was, as another server tells it."""
    tx.execute("UPDATE partial_events SET told = ? WHERE room = ? AND event = ?", (root, room, event))


def look_again(tx: WriteTransaction, room: int) -> None:
    """Forget what was found out about the events that came meanwhile."""
    tx.execute("UPDATE partial_events SET state = NULL, rejected = 0 WHERE room = ?", (room,))


def set_outcome(
    tx: WriteTransaction, room: int, event: int, state: int, replaces: int | None, *, rejected: bool
) -> None:
    """What becomes of an event when everything is known."""
    tx.execute(
        "UPDATE partial_events SET state = ?, replaces = ?, rejected = ? WHERE room = ? AND event = ?",
        (state, replaces, int(rejected), room, event),
    )


def apply_outcomes(tx: WriteTransaction, outcomes: Iterable[PartialEvent]) -> None:
    """Let the events be what they really are."""
    for outcome in outcomes:
        events.set_state(tx, outcome.nid, outcome.state, outcome.replaces, rejected=outcome.rejected)


def rewrite_room_states(tx: WriteTransaction, room: int, since: int, roots: dict[int, int]) -> None:
    """What was the current state since a position was not whole: put the whole ones in its place.

    Args:
        roots: which whole state each partial one stands for. Where none is known, the one before goes on.
    """
    rows = tx.rows("SELECT position, state FROM room_states WHERE room = ? AND position >= ?", (room, since))
    for position, state in rows:
        if state in roots:
            tx.execute(
                "UPDATE room_states SET state = ? WHERE room = ? AND position = ?", (roots[state], room, position)
            )
        else:
            tx.execute("DELETE FROM room_states WHERE room = ? AND position = ?", (room, position))
