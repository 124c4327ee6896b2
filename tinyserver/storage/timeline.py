"""The order of events within a room.

A `place` is an event's nid for what arrived live and a negative number for history fetched later, so the
position in a sync token is at the same time a point between two events of every room.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tinyserver.storage.transaction import ReadTransaction


def before(tx: ReadTransaction, room: int, place: int, limit: int, *, after: int | None = None) -> list[int]:
    """The nids of the newest events at or before a place, newest first.

    Args:
        place: inclusive.
        limit: how many at most.
        after: stop before (exclusive) this place.
    """
    if after is None:
        rows = tx.execute(
            "SELECT nid FROM events WHERE room = ? AND place <= ? AND place IS NOT NULL ORDER BY place DESC LIMIT ?",
            (room, place, limit),
        )
    else:
        rows = tx.execute(
            "SELECT nid FROM events WHERE room = ? AND place <= ? AND place > ? ORDER BY place DESC LIMIT ?",
            (room, place, after, limit),
        )
    return [row[0] for row in rows]


def after(tx: ReadTransaction, room: int, place: int, limit: int, *, until: int | None = None) -> list[int]:
    """The nids of the oldest events after (exclusive) a place, oldest first, up to (inclusive) `until`."""
    rows = tx.execute(
        "SELECT nid FROM events WHERE room = ? AND place > ? AND place <= ? ORDER BY place LIMIT ?",
        (room, place, until if until is not None else 2**62, limit),
    )
    return [row[0] for row in rows]


_EXAMINED = 5000


def free_below(tx: ReadTransaction, room: int, place: int, count: int) -> int:
    """The greatest place below another from which on downwards so many are free in the room.

    There are always such: below all events, but then not above 0, where events that arrive live have their places.
    """
    last = place
    rows = tx.execute(
        "SELECT place FROM events WHERE room = ? AND place < ? ORDER BY place DESC LIMIT ?", (room, place, _EXAMINED)
    )
    for (below,) in rows:
        if last - below > count:
            return last - 1
        last = below
    return bottom(tx, room)


def bottom(tx: ReadTransaction, room: int) -> int:
    """The greatest place below all events of a room that is not one of those for events that arrive live."""
    lowest = tx.value("SELECT place FROM events WHERE room = ? AND place IS NOT NULL ORDER BY place LIMIT 1", (room,))
    return min(lowest or 0, 0) - 1


def classes(
    tx: ReadTransaction, room: int, after_place: int, until: int, at_most: int, *, in_threads_only: bool = False
) -> list[tuple[int, int, int, int]]:
    """The events of a room after a place, up to another (inclusive), as unread counts see them.

    Args:
        at_most: how many of the newest events are looked at.
        in_threads_only: leave out the events of the main timeline.

    Returns:
        (place, notification class, thread, sender), oldest first; the thread is the nid of its root, or 0. Answered
        from an index alone.
    """
    threads_only = "AND thread IS NOT NULL " if in_threads_only else ""
    return tx.rows(
        "SELECT place, notify, coalesce(thread, 0), sender FROM events "
        "WHERE room = ?1 AND place > max(?2, coalesce((SELECT place FROM events WHERE room = ?1 AND place > ?2 "
        "AND place <= ?3 ORDER BY place DESC LIMIT 1 OFFSET ?4), ?2)) AND place <= ?3 "
        f"{threads_only}ORDER BY place",
        (room, after_place, until, at_most),
    )


def newest_of_types(
    tx: ReadTransaction, room: int, after_place: int, until: int, types: Collection[int], at_most: int
) -> int | None:
    """The place of a room's newest event of some types (nids) after a place, up to another (inclusive), or None.

    Args:
        at_most: how many of the newest events are looked at.
    """
    marks = ",".join("?" * len(types))
    place: int | None = tx.value(
        "SELECT place FROM (SELECT place, type FROM events WHERE room = ? AND place > ? AND place <= ? "
        f"ORDER BY place DESC LIMIT ?) WHERE type IN ({marks}) LIMIT 1",
        (room, after_place, until, at_most, *types),
    )
    return place


def newest_places(tx: ReadTransaction, rooms: Collection[int]) -> dict[int, int]:
    """The place of the newest event of each of some rooms; those without events are left out."""
    return {
        room: place
        for room, place in tx.execute(
            "SELECT wanted.value, (SELECT place FROM events WHERE room = wanted.value AND place IS NOT NULL "
            "ORDER BY place DESC LIMIT 1) FROM json_each(?) AS wanted",
            ("[" + ",".join(map(str, rooms)) + "]",),
        )
        if place is not None
    }


def newest_classes(
    tx: ReadTransaction, room: int, after_place: int, below: int, at_most: int
) -> Iterator[tuple[int, int, int, int]]:
    """As `classes`, the newest events first, of those before a place (exclusive); events without a class have 0."""
    yield from tx.execute(
        "SELECT place, notify, coalesce(thread, 0), sender FROM events WHERE room = ? AND place > ? AND place < ? "
        "ORDER BY place DESC LIMIT ?",
        (room, after_place, below, at_most),
    )
