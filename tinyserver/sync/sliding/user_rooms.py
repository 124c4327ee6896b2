"""The rooms that a user has to do with, and what the user's account data says of them, as lists need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from tinyserver.bell import Bell
from tinyserver.rooms.member_checks import wants_invites
from tinyserver.rooms.visibility import end_of_stay
from tinyserver.storage import account_data, events, memberships, rooms
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.memberships import Membership, MembershipRow
from tinyserver.storage.transaction import ReadTransaction, Topic
from tinyserver.sync.engine import as_of

_BYTES = 2_000_000
_ROW_BYTES = 400
_MARK_BYTES = 150
OVER = (Membership.LEAVE, Membership.BAN)


@dataclass(frozen=True, slots=True)
class UserRoom:
    """A room that a user is in or has to do with otherwise.

    `sender` is whose event says so ("" where the user is joined); `was_in` says of somebody who is not whether they
    were.
    """

    row: MembershipRow
    room_id: str
    sender: str = ""
    was_in: bool = True

    @property
    def membership(self) -> Membership:
        """What the user is in the room."""
        return self.row.membership

    @property
    def is_over(self) -> bool:
        """Whether the user left it or was thrown out."""
        return self.row.membership in OVER

    def is_listed_for(self, user_id: str) -> bool:
        """Whether lists show it to a client that does not know it: not if the user left by themselves."""
        return not self.is_over or (self.was_in and self.sender != user_id)


@dataclass(frozen=True, slots=True)
class UserRooms:
    """All rooms of a user, by number and by ID, as of a position."""

    read_at: int
    by_room: Mapping[int, UserRoom]
    by_id: Mapping[str, UserRoom]


@dataclass(frozen=True, slots=True)
class Marks:
    """What a user's account data says of rooms, by room ID: which are direct chats, and the tags of each; and whether
    invites are to be kept from the user."""

    read_at: int
    direct: frozenset[str] = frozenset()
    direct_changed: int = 0
    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    hides_invites: bool = False

    def says_the_same_as(self, other: Marks) -> bool:
        """Whether nothing that filters ask for is different."""
        return self is other or (self.direct == other.direct and self.tags == other.tags)


class UserRoomsCache:
    """Remembers what nothing has changed. Lives on the event loop."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._rooms: BoundedCache[int, UserRooms] = BoundedCache(
            _BYTES, lambda rooms: _ROW_BYTES * (len(rooms.by_room) + 2)
        )
        self._marks: BoundedCache[tuple[int, bool], Marks] = BoundedCache(
            _BYTES, lambda marks: _MARK_BYTES * (len(marks.direct) + len(marks.tags) + 5)
        )

    def rooms(self, user: int) -> UserRooms | None:
        """The rooms of a user, if they are remembered as they are now."""
        found = self._rooms.get(user)
        if found is None or self._bell.changes[Topic.MEMBERSHIP].changed(user, found.read_at):
            return None
        return found

    def marks(self, user: int, *, tags: bool) -> Marks | None:
        """The marks of a user, if they are remembered as they are now."""
        found = self._marks.get((user, tags))
        if found is None or self._bell.changes[Topic.USER].changed(user, found.read_at):
            return None
        return found

    def learn(self, user: int, rooms: UserRooms, marks: Marks, *, tags: bool) -> None:
        """Remember what was read."""
        self._rooms.put(user, rooms)
        self._marks.put((user, tags), marks)


def read_rooms(tx: ReadTransaction, user: int, position: int) -> UserRooms:
    """The rooms of a local user at a position, which may be behind what the transaction sees."""
    now = [as_of(tx, row, position) for row in memberships.of_local_user(tx, user, tuple(Membership))]
    rows = [row for row in now if row is not None and not (row.forgotten and row.membership in OVER)]
    ids = rooms.ids(tx, [row.room for row in rows])
    found = {}
    for row in rows:
        if row.membership is Membership.JOIN:
            found[row.room] = UserRoom(row, ids[row.room])
            continue
        member = events.get_many(tx, [row.event], keep=False)[row.event]
        was_in = row.membership in OVER and end_of_stay(tx, row) is not None
        found[row.room] = UserRoom(row, ids[row.room], member.event.sender, was_in)
    return UserRooms(position, found, {each.room_id: each for each in found.values()})


def read_marks(tx: ReadTransaction, user: int, position: int, *, tags: bool) -> Marks:
    """What a user's account data says of rooms now.

    Args:
        tags: whether the tags are wanted: then all of it is read.
    """
    direct: set[str] = set()
    changed = 0
    row = account_data.get_row(tx, user, "m.direct")
    if row is not None:
        changed = row.position
        content = orjson.loads(row.content)
        for room_ids in content.values() if isinstance(content, dict) else ():
            direct.update(each for each in room_ids if isinstance(each, str)) if isinstance(room_ids, list) else None
    by_room = {}
    if tags:
        for each in account_data.changed_since(tx, user, 0, position):
            if each.type == "m.tag" and each.room_id is not None:
                found = orjson.loads(each.content).get("tags")
                by_room[each.room_id] = frozenset(found) if isinstance(found, dict) else frozenset()
    return Marks(position, frozenset(direct), changed, by_room, not wants_invites(tx, user))
