"""The devices of users of other servers, as their servers told us.

A list that is kept here is right as long as its server tells us of every change, which it does while it shares a room
with us in which its user is: a list is good if there is such a room that has been one since before it was fetched.

spec: server-server-api#device-management
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tinyserver.storage.device_keys import DeviceKeysRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_LISTS = 20_000
"""How many lists are kept; those fetched longest ago are forgotten first."""
_LOOK_EVERY = 64


@dataclass(frozen=True, slots=True)
class KeptList:
    """A list that was fetched at `position`; `stream` is the stream ID of its newest change (None: unknown). A stale
    one has to be fetched again."""

    position: int
    stream: int | None
    is_stale: bool


@dataclass(frozen=True, slots=True)
class RemoteDevice:
    """A device: `keys` is the JSON object of its keys."""

    device_id: str
    display_name: str | None
    keys: bytes


def get(tx: ReadTransaction, user: int) -> KeptList | None:
    """What is kept of a user's list, or None."""
    row = tx.row("SELECT position, stream, stale FROM remote_device_lists WHERE user = ?", (user,))
    return None if row is None else KeptList(row[0], row[1], bool(row[2]))


def devices_of(tx: ReadTransaction, users: Iterable[int]) -> list[DeviceKeysRow]:
    """The kept devices of some users."""
    return [
        DeviceKeysRow(*row)
        for row in tx.execute(
            "SELECT d.user, d.device_id, d.display_name, d.keys FROM json_each(?) AS wanted "
            "CROSS JOIN remote_devices d ON d.user = wanted.value",
            (_array(users),),
        )
    ]


def is_followed(tx: ReadTransaction, server: int, user: int) -> bool:
    """Whether a user of a server shares a room with a local user now."""
    return bool(
        tx.value(
            "SELECT EXISTS (SELECT 1 FROM server_stays s INDEXED BY server_stays_now CROSS JOIN memberships m "
            "ON m.room = s.room AND m.user = ?2 WHERE s.server = ?1 AND s.until IS NULL AND m.membership = 4 "
            "AND EXISTS (SELECT 1 FROM memberships INDEXED BY memberships_local_in_room "
            "WHERE room = s.room AND is_local = 1 AND membership = 4))",
            (server, user),
        )
    )


def good_ones(tx: ReadTransaction, server: int, users: Collection[int]) -> set[int]:
    """Those of some users of a server whose kept lists are right."""
    return {
        row[0]
        for row in tx.execute(
            # The rooms, each with the position since when both servers are in it.
            "WITH wanted_rooms (room, since) AS MATERIALIZED (SELECT s.room, max(s.since, (SELECT min(position) "
            "FROM memberships INDEXED BY memberships_local_in_room "
            "WHERE room = s.room AND is_local = 1 AND membership = 4)) "
            "FROM server_stays s INDEXED BY server_stays_now WHERE s.server = ?1 AND s.until IS NULL) "
            "SELECT l.user FROM json_each(?2) AS wanted CROSS JOIN remote_device_lists l ON l.user = wanted.value "
            "WHERE l.stale = 0 AND EXISTS (SELECT 1 FROM wanted_rooms CROSS JOIN memberships m "
            "ON m.room = wanted_rooms.room AND m.user = l.user "
            "WHERE m.membership = 4 AND m.position <= l.position AND wanted_rooms.since <= l.position)",
            (server, _array(users)),
        )
    }


def put_list(
    tx: WriteTransaction,
    user: int,
    server: int,
    devices: Sequence[RemoteDevice],
    *,
    position: int,
    stream: int | None,
    is_stale: bool = False,
) -> bool:
    """Keep a list that was fetched at a position in the place of the one before; whether its devices differ."""
    before = {
        RemoteDevice(*row)
        for row in tx.execute("SELECT device_id, display_name, keys FROM remote_devices WHERE user = ?", (user,))
    }
    tx.execute(
        "INSERT OR REPLACE INTO remote_device_lists (user, server, position, stream, stale) VALUES (?, ?, ?, ?, ?)",
        (user, server, position, stream, int(is_stale)),
    )
    if user % _LOOK_EVERY == 0:
        _forget_oldest(tx)
    if before == set(devices):
        return False
    tx.execute("DELETE FROM remote_devices WHERE user = ?", (user,))
    tx.executemany(
        "INSERT OR REPLACE INTO remote_devices (user, device_id, display_name, keys) VALUES (?, ?, ?, ?)",
        [(user, device.device_id, device.display_name, device.keys) for device in devices],
    )
    return True


def _forget_oldest(tx: WriteTransaction) -> None:
    old = tx.rows("SELECT user FROM remote_device_lists ORDER BY position DESC LIMIT -1 OFFSET ?", (MAX_LISTS,))
    for (user,) in old:
        forget(tx, user)


def put_device(tx: WriteTransaction, user: int, device_id: str, device: RemoteDevice | None, stream: int) -> None:
    """Apply a change to a kept list: a device is like this from now on, or (None) there no longer."""
    if device is None:
        tx.execute("DELETE FROM remote_devices WHERE user = ? AND device_id = ?", (user, device_id))
    else:
        tx.execute(
            "INSERT OR REPLACE INTO remote_devices (user, device_id, display_name, keys) VALUES (?, ?, ?, ?)",
            (user, device_id, device.display_name, device.keys),
        )
    tx.execute("UPDATE remote_device_lists SET stream = ? WHERE user = ?", (stream, user))


def mark_stale(tx: WriteTransaction, user: int) -> None:
    """Changes of a kept list were missed."""
    tx.execute("UPDATE remote_device_lists SET stale = 1 WHERE user = ?", (user,))


def stale_users(tx: ReadTransaction, server: int, after: int, limit: int) -> list[int]:
    """The users of a server with stale lists, in the order of their numbers, from those after one on."""
    return [
        row[0]
        for row in tx.execute(
            "SELECT user FROM remote_device_lists WHERE server = ? AND stale = 1 AND user > ? ORDER BY user LIMIT ?",
            (server, after, limit),
        )
    ]


def stale_servers(tx: ReadTransaction) -> list[int]:
    """The servers of users with stale lists."""
    return [row[0] for row in tx.execute("SELECT DISTINCT server FROM remote_device_lists WHERE stale = 1")]


def forget(tx: WriteTransaction, user: int) -> None:
    """Keep nothing of a user's devices any more."""
    tx.execute("DELETE FROM remote_device_lists WHERE user = ?", (user,))
    tx.execute("DELETE FROM remote_devices WHERE user = ?", (user,))


def _array(numbers: Iterable[int]) -> str:
    return "[" + ",".join(map(str, numbers)) + "]"
