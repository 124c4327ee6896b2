"""When other servers took part in rooms: exactly those that were there are sent an event.

A stay begins after the event by which the first user of a server joins, and ends with the one by which the last leaves
(which they are still told of).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tinyserver.storage import names
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def change(tx: WriteTransaction, room: int, joined: Mapping[str, int], position: int) -> None:
    """The numbers of joined users have changed by an event.

    Args:
        joined: by how many, by the name of the server. This server is none of them.
        position: that of the event.
    """
    for server_name, difference in joined.items():
        if difference == 0:
            continue
        server = names.intern(tx, server_name)
        row = tx.row(
            "SELECT since, members FROM server_stays WHERE room = ? AND server = ? AND until IS NULL", (room, server)
        )
        if row is None:
            if difference > 0:
                tx.execute(
                    "INSERT INTO server_stays (room, server, since, until, members) VALUES (?1, ?2, ?3, NULL, ?4) "
                    # A server that is told of a single event by `tell_of` may come in with that very event.
                    "ON CONFLICT (room, server, since) DO UPDATE SET until = NULL, members = ?4",
                    (room, server, position, difference),
                )
            continue
        since, members = row
        left = members + difference
        tx.execute(
            "UPDATE server_stays SET members = ?, until = ? WHERE room = ? AND server = ? AND since = ?",
            (max(left, 0), None if left > 0 else position, room, server, since),
        )


_UNCOUNTED = 1 << 32


def be_told(tx: WriteTransaction, room: int, servers: Iterable[str], position: int) -> None:
    """These servers are in the room, with nobody knows how many users: until `recount`, none of them goes."""
    for server_name in servers:
        tx.execute(
            "INSERT INTO server_stays (room, server, since, until, members) SELECT ?1, ?2, ?3, NULL, 0 "
            "WHERE NOT EXISTS (SELECT 1 FROM server_stays WHERE room = ?1 AND server = ?2 AND until IS NULL)",
            (room, names.intern(tx, server_name), position),
        )
    tx.execute("UPDATE server_stays SET members = members + ? WHERE room = ? AND until IS NULL", (_UNCOUNTED, room))


def recount(tx: WriteTransaction, room: int, joined: Mapping[str, int], position: int) -> None:
    """All users are known now: how many are joined, by server. This server is none of them."""
    stays = dict(tx.rows("SELECT server, since FROM server_stays WHERE room = ? AND until IS NULL", (room,)))
    for server_name, count in joined.items():
        server = names.intern(tx, server_name)
        since = stays.pop(server, None)
        if since is None:
            change(tx, room, {server_name: count}, position)
        else:
            tx.execute(
                "UPDATE server_stays SET members = ? WHERE room = ? AND server = ? AND since = ?",
                (count, room, server, since),
            )
    for server, since in stays.items():
        tx.execute(
            "UPDATE server_stays SET members = 0, until = ? WHERE room = ? AND server = ? AND since = ?",
            (position, room, server, since),
        )


def tell_of(tx: WriteTransaction, room: int, server_name: str, position: int) -> None:
    """A server that may not be in the room is told of one event in it."""
    tx.execute(
        "INSERT OR IGNORE INTO server_stays (room, server, since, until, members) VALUES (?, ?, ?, ?, 0)",
        (room, names.intern(tx, server_name), position - 1, position),
    )


_AT = "SELECT {} FROM server_stays WHERE room = ?1 AND since < ?2 AND (until IS NULL OR until >= ?2)"


def any_at(tx: ReadTransaction, room: int, position: int) -> bool:
    """Whether another server gets an event with this position."""
    return bool(tx.value(f"SELECT EXISTS ({_AT.format(1)})", (room, position)))


def at(tx: ReadTransaction, room: int, position: int) -> set[int]:
    """The servers (nids) that get an event with this position."""
    return {row[0] for row in tx.execute(_AT.format("server"), (room, position))}


def now(tx: ReadTransaction, room: int) -> list[int]:
    """The servers (nids) with users in the room."""
    return [row[0] for row in tx.execute("SELECT server FROM server_stays WHERE room = ? AND until IS NULL", (room,))]


def largest(tx: ReadTransaction, room: int, limit: int) -> list[int]:
    """The servers (nids) with the most users in the room."""
    rows = tx.execute(
        "SELECT server FROM server_stays WHERE room = ? AND until IS NULL ORDER BY members DESC, server LIMIT ?",
        (room, limit),
    )
    return [row[0] for row in rows]


def is_in_room(tx: ReadTransaction, room: int, server_name: str) -> bool:
    """Whether a user of the server is in the room now."""
    server = names.find(tx, server_name)
    return server is not None and bool(
        tx.value(
            "SELECT EXISTS (SELECT 1 FROM server_stays INDEXED BY server_stays_now "
            "WHERE server = ? AND room = ? AND until IS NULL)",
            (server, room),
        )
    )


def came_at(tx: ReadTransaction, room: int, server_name: str, position: int) -> bool:
    """Whether the stay of a server that is in the room now began with the event at a position."""
    server = names.find(tx, server_name)
    return server is not None and bool(
        tx.value(
            "SELECT EXISTS (SELECT 1 FROM server_stays WHERE room = ? AND server = ? AND since = ? AND until IS NULL)",
            (room, server, position),
        )
    )


def around(tx: ReadTransaction, user: int) -> set[int]:
    """The servers (nids) that share a room with a local user."""
    return {
        row[0]
        for row in tx.execute(
            "SELECT DISTINCT s.server FROM memberships m JOIN server_stays s ON s.room = m.room AND s.until IS NULL "
            "WHERE m.user = ? AND m.is_local = 1 AND m.membership = 4",
            (user,),
        )
    }


def rooms_with(tx: ReadTransaction, server_name: str, user: int) -> list[int]:
    """The rooms that a user (by number) of a server is in now."""
    server = names.find(tx, server_name)
    return [
        row[0]
        for row in tx.execute(
            "SELECT s.room FROM server_stays s INDEXED BY server_stays_now CROSS JOIN memberships m "
            "ON m.room = s.room AND m.user = ?2 WHERE s.server = ?1 AND s.until IS NULL AND m.membership = 4",
            (server, user),
        )
    ]


def everywhere(tx: ReadTransaction) -> list[int]:
    """The servers (nids) that share a room with any local user."""
    return [
        row[0]
        for row in tx.execute(
            "SELECT DISTINCT server FROM server_stays s INDEXED BY server_stays_now WHERE until IS NULL AND EXISTS "
            "(SELECT 1 FROM memberships INDEXED BY memberships_local_in_room "
            "WHERE room = s.room AND is_local = 1 AND membership = 4)"
        )
    ]


def shared_rooms(tx: ReadTransaction, limit: int) -> list[int]:
    """The rooms in which local users are together with those of other servers, that with the newest event first."""
    rows = tx.execute(
        "SELECT DISTINCT s.room FROM server_stays s INDEXED BY server_stays_now WHERE until IS NULL AND EXISTS "
        "(SELECT 1 FROM memberships INDEXED BY memberships_local_in_room "
        "WHERE room = s.room AND is_local = 1 AND membership = 4) "
        "ORDER BY (SELECT max(place) FROM events WHERE events.room = s.room AND place IS NOT NULL) DESC LIMIT ?",
        (limit,),
    )
    return [row[0] for row in rows]
