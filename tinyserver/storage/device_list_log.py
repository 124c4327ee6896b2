"""What other servers are told of the devices of local users: one log for all of them.

The changes of one user's devices make a chain (`stream_id` and `prev_id` of `m.device_list_update`). What is told of a
device is how it is when it is told, so of several changes only the newest is sent, and names what the server was told
before. Where a link is missing, the other server fetches the whole list.

spec: server-server-api#device-management
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction

SIGNING_KEYS = ""
"""In the place of a device ID: the user's cross-signing keys."""
MAX_OF_USER = 200
"""How many changes of a user are kept before those that newer ones replace are dropped."""
_LOOK_EVERY = 16


@dataclass(frozen=True, slots=True)
class ListUpdate:
    """A change that a server is told of: `device` is the ID of the device, or `SIGNING_KEYS`; `prev` the stream ID of
    what it was told before (None: nothing). `position` is the place in the log, up to which that is all."""

    position: int
    user: int
    device: str
    stream_id: int
    prev: int | None


def append(tx: WriteTransaction, user: int, devices: Iterable[str]) -> None:
    """Note that devices of a local user (or the `SIGNING_KEYS`) changed."""
    prev = stream_id(tx, user)
    position = 0
    for device in devices:
        position = tx.changed(Topic.OUTGOING_DEVICES, user)
        tx.execute("INSERT INTO device_list_log VALUES (?, ?, ?, ?, NULL)", (position, user, device, prev))
        if device != SIGNING_KEYS:
            prev = position
    if position % _LOOK_EVERY == 0:
        _drop_replaced(tx, user)


def _drop_replaced(tx: WriteTransaction, user: int) -> None:
    count = tx.value("SELECT count(*) FROM device_list_log WHERE user = ?", (user,))
    if count > MAX_OF_USER:
        tx.execute(
            "DELETE FROM device_list_log WHERE user = ?1 AND EXISTS (SELECT 1 FROM device_list_log newer "
            "WHERE newer.user = ?1 AND newer.position > device_list_log.position "
            "AND newer.device = device_list_log.device AND newer.room IS device_list_log.room)",
            (user,),
        )


def joined(tx: WriteTransaction, user: int, room: int, position: int) -> None:
    """A local user joined a room by an event with a position: servers there that do not follow the user are told."""
    if stream_id(tx, user) is not None:
        tx.execute("INSERT INTO device_list_log VALUES (?, ?, ?, NULL, ?)", (position, user, SIGNING_KEYS, room))
        tx.changed(Topic.OUTGOING_DEVICES, user, position)


def stream_id(tx: ReadTransaction, user: int) -> int | None:
    """The stream ID of a local user's device list as it is now, or None when no device ever had keys."""
    newest: int | None = tx.value(
        "SELECT position FROM device_list_log WHERE user = ? AND room IS NULL AND device <> '' "
        "ORDER BY position DESC LIMIT 1",
        (user,),
    )
    return newest


_SHARES = (
    "EXISTS (SELECT 1 FROM memberships m CROSS JOIN server_stays s INDEXED BY server_stays_now "
    "ON s.server = ?1 AND s.room = m.room AND s.until IS NULL "
    "WHERE m.user = log.user AND m.is_local = 1 AND m.membership = 4{})"
)


_ELSEWHERE = " AND m.room <> log.room AND m.position < log.position AND s.since < log.position"
"""A room in which the server saw the user before."""


def updates_for(tx: ReadTransaction, server: int, after: int, until: int, limit: int) -> list[ListUpdate]:
    """What a server (by number) is owed of changes at a position in (after, until], the oldest first: those of users
    with whom it shares a room now."""
    rows = tx.rows(
        "SELECT position, user, device, room FROM device_list_log log WHERE position > ?2 AND position <= ?3 "
        f"AND {_SHARES.format(' AND (log.room IS NULL OR m.room = log.room)')} "
        "AND NOT EXISTS (SELECT 1 FROM device_list_log newer WHERE newer.user = log.user AND newer.position <= ?3 "
        "AND newer.position > log.position AND newer.device = log.device AND newer.room IS log.room) "
        f"AND NOT (log.room IS NOT NULL AND {_SHARES.format(_ELSEWHERE)}) ORDER BY position LIMIT ?4",
        (server, after, until, limit),
    )
    updates: list[ListUpdate] = []
    told: dict[int, int | None] = {}
    for position, user, device, room in rows:
        if room is not None:
            newest = tx.row(
                "SELECT position, device, prev FROM device_list_log WHERE user = ? AND room IS NULL AND device <> '' "
                "ORDER BY position DESC LIMIT 1",
                (user,),
            )
            updates.append(ListUpdate(position, user, newest[1], newest[0], newest[2]))
            continue
        if device == SIGNING_KEYS:
            updates.append(ListUpdate(position, user, device, position, None))
            continue
        prev = told[user] if user in told else _told_before(tx, user, after)
        updates.append(ListUpdate(position, user, device, position, prev))
        told[user] = position
    return updates


def _told_before(tx: ReadTransaction, user: int, after: int) -> int | None:
    """The newest change of a user's devices up to a position: the first one after it says which."""
    prev: int | None = tx.value(
        "SELECT prev FROM device_list_log WHERE user = ? AND position > ? AND room IS NULL AND device <> '' "
        "ORDER BY position LIMIT 1",
        (user, after),
    )
    return prev


def changed_after(tx: ReadTransaction, position: int) -> dict[int, int]:
    """The local users with changes after a position, each with that of the newest."""
    return dict(
        tx.rows("SELECT user, max(position) FROM device_list_log WHERE position > ? GROUP BY user", (position,))
    )


def tidy(tx: WriteTransaction, until: int) -> None:
    """All servers know everything up to a position: forget what nobody needs any more."""
    tx.execute(
        "DELETE FROM device_list_log WHERE position <= ? AND (device = '' OR EXISTS "
        "(SELECT 1 FROM device_list_log newer WHERE newer.user = device_list_log.user "
        "AND newer.position > device_list_log.position AND newer.device <> '' AND newer.room IS NULL))",
        (until,),
    )
