"""When the device lists of users changed, and in which rooms they can be seen.

spec: client-server-api#tracking-the-device-list-for-a-user
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tinyserver.storage import device_list_log
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


def note_change(tx: WriteTransaction, user: int, devices: Iterable[str]) -> int:
    """Devices (IDs, or `SIGNING_KEYS`) of a local user changed; the position of that. Other servers are told."""
    device_list_log.append(tx, user, devices)
    return note_news(tx, user)


def note_news(tx: WriteTransaction, user: int) -> int:
    """There is something new about the devices of a user of whichever server; the position of that."""
    position = tx.changed(Topic.DEVICE_LIST, user)
    tx.execute("INSERT OR REPLACE INTO device_list_changes (user, position) VALUES (?, ?)", (user, position))
    return position


def last_change(tx: ReadTransaction, user: int) -> int:
    """The position where the devices of a user changed last, as far as is known here; 0: never."""
    return int(tx.value("SELECT position FROM device_list_changes WHERE user = ?", (user,)) or 0)


def changed_between(tx: ReadTransaction, since: int, until: int) -> set[int]:
    """The users whose devices changed last at a position in (since, until]."""
    return {
        row[0]
        for row in tx.execute(
            "SELECT user FROM device_list_changes WHERE position > ? AND position <= ?", (since, until)
        )
    }


def rooms_changed_after(tx: ReadTransaction, rooms: Iterable[int], position: int) -> list[int]:
    """Those of some rooms whose state changed after a position."""
    return [
        row[0]
        for row in tx.execute(
            "SELECT value FROM json_each(?) WHERE EXISTS "
            "(SELECT 1 FROM room_states WHERE room = value AND position > ?)",
            (_array(rooms), position),
        )
    ]


def members_among(tx: ReadTransaction, rooms: Collection[int], users: Collection[int]) -> dict[int, set[int]]:
    """Those of some users who are joined to any of some rooms now, with those of the rooms that they are in."""
    found: dict[int, set[int]] = {}
    for user, room in tx.execute(
        "WITH wanted (room) AS MATERIALIZED (SELECT value FROM json_each(?)) "
        "SELECT m.user, m.room FROM json_each(?) AS u CROSS JOIN wanted CROSS JOIN memberships m "
        "ON m.room = wanted.room AND m.user = u.value WHERE m.membership = 4",
        (_array(rooms), _array(users)),
    ):
        found.setdefault(user, set()).add(room)
    return found


def members_of(tx: ReadTransaction, room: int) -> set[int]:
    """Who is joined to a room now."""
    return {row[0] for row in tx.execute("SELECT user FROM memberships WHERE room = ? AND membership = 4", (room,))}


def _array(numbers: Iterable[int]) -> str:
    return "[" + ",".join(map(str, numbers)) + "]"
