"""The summary of a room: what a client needs to name it without knowing its members.

spec: client-server-api#syncing (RoomSummary)
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage import membership_changes, names, room_state
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

MAX_HEROES = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """`heroes` (nids of users; None where the room has a name) stand for a room in its name; the counts include the
    reader."""

    joined: int
    invited: int
    heroes: tuple[int, ...] | None


def summarise(tx: ReadTransaction, room: RoomRow, root: int, reader: int) -> Summary:
    """The summary of a room for one user.

    Args:
        root: the state that tells whether the room has a name.
        reader: the user, who is never a hero.
    """
    if _has_name(tx, root):
        return Summary(room.joined, room.invited, None)
    heroes = _first_but(tx, room.nid, (Membership.JOIN, Membership.INVITE), reader)
    if not heroes:
        heroes = _first_but(tx, room.nid, (Membership.LEAVE, Membership.BAN), reader)
    return Summary(room.joined, room.invited, tuple(heroes))


def concerns_summary(tx: ReadTransaction, types: set[int]) -> bool:
    """Whether a change of state of these types (nids) can change a summary."""
    return any(names.find(tx, name) in types for name in _TYPES)


_TYPES = ("m.room.member", "m.room.name", "m.room.canonical_alias")


def _has_name(tx: ReadTransaction, root: int) -> bool:
    return bool(
        room_state.content_at(tx, root, "m.room.name").get("name")
        or room_state.content_at(tx, root, "m.room.canonical_alias").get("alias")
    )


def _first_but(tx: ReadTransaction, room: int, kinds: tuple[Membership, ...], reader: int) -> list[int]:
    found = membership_changes.first_members(tx, room, kinds, MAX_HEROES + 1)
    return [user for user in found if user != reader][:MAX_HEROES]
