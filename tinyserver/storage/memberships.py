"""Who is in which room now: kept with the current state, found from the room's side and from a local user's."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import IntEnum

import msgspec

from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


class Membership(IntEnum):
    """The membership values of the specification as numbers."""

    LEAVE = 0
    BAN = 1
    KNOCK = 2
    INVITE = 3
    JOIN = 4


class MembershipRow(msgspec.Struct, frozen=True, gc=False):
    """One user's membership of one room; `event` is the nid of the member event, `position` when it became so."""

    room: int
    user: int
    membership: Membership
    event: int
    position: int
    forgotten: bool


_COLUMNS = "room, user, membership, event, position, forgotten"


def set_membership(
    tx: WriteTransaction, *, room: int, user: int, membership: Membership, event: int, position: int, is_local: bool
) -> None:
    """Record what the current state says of a user; the bell rings for a local one."""
    tx.execute(
        "INSERT INTO memberships (room, user, membership, event, position, is_local, forgotten) "
        "VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (room, user) DO UPDATE SET membership = excluded.membership, "
        "event = excluded.event, position = excluded.position, "
        # A forgotten room stays so while nobody wants the user there: bans and their end do not bring it back.
        "forgotten = forgotten AND excluded.membership <= 1",
        (room, user, int(membership), event, position, int(is_local)),
    )
    if is_local:
        tx.changed(Topic.MEMBERSHIP, user, position)


def fill_in(
    tx: WriteTransaction, room: int, member_events: Iterable[tuple[int, Membership, int]], position: int
) -> None:
    """Record (user, membership, nid of the member event) of users of other servers of whom nothing is known yet."""
    tx.executemany(
        "INSERT INTO memberships (room, user, membership, event, position, is_local, forgotten) "
        "VALUES (?, ?, ?, ?, ?, 0, 0) ON CONFLICT (room, user) DO NOTHING",
        [(room, user, int(membership), event, position) for user, membership, event in member_events],
    )


def remove(tx: WriteTransaction, room: int, user: int, position: int, *, is_local: bool) -> None:
    """The current state no longer names the user. A local one has left then: devices must be told."""
    if not is_local:
        tx.execute("DELETE FROM memberships WHERE room = ? AND user = ?", (room, user))
        return
    tx.execute(
        "UPDATE memberships SET membership = ?, position = ? WHERE room = ? AND user = ?",
        (int(Membership.LEAVE), position, room, user),
    )
    tx.changed(Topic.MEMBERSHIP, user, position)


def get(tx: ReadTransaction, room: int, user: int) -> MembershipRow | None:
    """A user's membership of a room, or None when the state does not name the user."""
    row = tx.row(f"SELECT {_COLUMNS} FROM memberships WHERE room = ? AND user = ?", (room, user))
    return None if row is None else MembershipRow(row[0], row[1], Membership(row[2]), row[3], row[4], bool(row[5]))


def is_joined(tx: ReadTransaction, room: int, user: int) -> bool:
    """Whether the user is in the room now."""
    value = tx.value("SELECT membership FROM memberships WHERE room = ? AND user = ?", (room, user))
    return bool(value == Membership.JOIN)


def of_local_user(tx: ReadTransaction, user: int, kinds: Collection[Membership]) -> list[MembershipRow]:
    """All rooms in which a local user has one of the memberships."""
    marks = ",".join("?" * len(kinds))
    return [
        MembershipRow(row[0], row[1], Membership(row[2]), row[3], row[4], bool(row[5]))
        for row in tx.execute(
            f"SELECT {_COLUMNS} FROM memberships WHERE user = ? AND is_local = 1 AND membership IN ({marks})",
            (user, *(int(kind) for kind in kinds)),
        )
    ]


def joined_rooms(tx: ReadTransaction, user: int) -> list[int]:
    """The rooms that a local user is in."""
    return [
        row[0]
        for row in tx.execute(
            "SELECT room FROM memberships WHERE user = ? AND is_local = 1 AND membership = 4", (user,)
        )
    ]


def local_members(tx: ReadTransaction, room: int, kind: Membership = Membership.JOIN) -> list[int]:
    """The local users with a membership of a room."""
    return [
        row[0]
        for row in tx.execute(
            "SELECT user FROM memberships INDEXED BY memberships_local_in_room "
            "WHERE room = ? AND is_local = 1 AND membership = ?",
            (room, int(kind)),
        )
    ]


def any_local_member(tx: ReadTransaction, room: int) -> bool:
    """Whether a local user is in the room now."""
    return bool(
        tx.value(
            "SELECT EXISTS (SELECT 1 FROM memberships INDEXED BY memberships_local_in_room "
            "WHERE room = ? AND is_local = 1 AND membership = 4)",
            (room,),
        )
    )


def members(tx: ReadTransaction, room: int, kind: Membership, limit: int = -1) -> list[tuple[int, int]]:
    """(user, nid of the member event) of those with a membership, by the order of their numbers."""
    return tx.rows(
        "SELECT user, event FROM memberships WHERE room = ? AND membership = ? ORDER BY user LIMIT ?",
        (room, int(kind), limit),
    )


def members_after(tx: ReadTransaction, room: int, kind: Membership, user: int, limit: int) -> list[int]:
    """The next users behind a number with a membership of a room."""
    return [
        row[0]
        for row in tx.execute(
            "SELECT user FROM memberships WHERE room = ? AND user > ? AND membership = ? ORDER BY user LIMIT ?",
            (room, user, int(kind), limit),
        )
    ]


def left_after(tx: ReadTransaction, room: int, position: int, user: int, limit: int) -> list[int]:
    """The next local users behind a number who have left a room after a position."""
    return [
        row[0]
        for row in tx.execute(
            "SELECT user FROM memberships INDEXED BY memberships_local_in_room WHERE room = ? AND is_local = 1 "
            "AND membership = 0 AND position > ? AND user > ? ORDER BY user LIMIT ?",
            (room, position, user, limit),
        )
    ]


def counts(tx: ReadTransaction, room: int) -> dict[Membership, int]:
    """How many users have each membership of a room: all of its rows are read."""
    rows = tx.execute("SELECT membership, count(*) FROM memberships WHERE room = ? GROUP BY membership", (room,))
    return {Membership(membership): count for membership, count in rows}


def share_a_room(tx: ReadTransaction, user: int, other: int) -> bool:
    """Whether a local user and another user are in some room together."""
    return bool(
        tx.value(
            "SELECT EXISTS (SELECT 1 FROM memberships a JOIN memberships b ON b.room = a.room AND b.user = ? "
            "AND b.membership = 4 WHERE a.user = ? AND a.is_local = 1 AND a.membership = 4)",
            (other, user),
        )
    )


def forget(tx: WriteTransaction, room: int, user: int) -> None:
    """A local user who left wants to see nothing of the room any more."""
    tx.execute("UPDATE memberships SET forgotten = 1 WHERE room = ? AND user = ?", (room, user))
    tx.changed(Topic.MEMBERSHIP, user)
