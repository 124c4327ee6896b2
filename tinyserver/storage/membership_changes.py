"""Memberships in the order in which they changed, as following the one order needs them.

The rows of `memberships` hold the present only; what was the case at a position in the past is read from the state of
that time.
"""

from __future__ import annotations

from collections.abc import Collection

from tinyserver.storage import names, rooms, state_trie
from tinyserver.storage.memberships import Membership, MembershipRow
from tinyserver.storage.transaction import ReadTransaction

_COLUMNS = "room, user, membership, event, position, forgotten"


def changed_since(tx: ReadTransaction, user: int, since: int) -> list[MembershipRow]:
    """The memberships of a local user whose member event changed after a position."""
    return [
        MembershipRow(row[0], row[1], Membership(row[2]), row[3], row[4], bool(row[5]))
        for row in tx.execute(
            f"SELECT {_COLUMNS} FROM memberships WHERE user = ? AND is_local = 1 AND position > ? ORDER BY position",
            (user, since),
        )
    ]


def member_event_at(tx: ReadTransaction, room: int, user: int, position: int) -> int | None:
    """The nid of the member event that was in force for a user at a position, or None."""
    member_type = names.find(tx, "m.room.member")
    if member_type is None:
        return None
    return state_trie.get(tx, rooms.state_at(tx, room, position), (member_type, user))


def first_members(tx: ReadTransaction, room: int, kinds: Collection[Membership], limit: int) -> list[int]:
    """The nids of those users with one of the memberships whose member events are the oldest, oldest first."""
    marks = ",".join("?" * len(kinds))
    rows = tx.execute(
        f"SELECT user FROM memberships WHERE room = ? AND membership IN ({marks}) ORDER BY event LIMIT ?",
        (room, *(int(kind) for kind in kinds), limit),
    )
    return [row[0] for row in rows]
