"""Lists: which rooms are in them, in which order, and which of them the client looks at.

spec: MSC4186 (lists, filters)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tinyserver.storage.memberships import Membership
from tinyserver.sync.sliding.catalogue import RoomFacts
from tinyserver.sync.sliding.requests import ListFilters
from tinyserver.sync.sliding.user_rooms import Marks, UserRoom, UserRooms

Window = tuple[tuple[int, int], Sequence[UserRoom]]
"""A range of a list, and the rooms in it."""


@dataclass(frozen=True, slots=True)
class ArrangedList:
    """A list as it is now: how many rooms are in it, and those in the ranges that the client looks at."""

    count: int
    windows: Sequence[Window]

    @property
    def shown(self) -> Iterable[UserRoom]:
        """The rooms that the client looks at; perhaps twice, where ranges overlap."""
        return (room for _, rooms in self.windows for room in rooms)


def matching(filters: ListFilters, rooms: UserRooms, facts: Mapping[int, RoomFacts], marks: Marks) -> frozenset[int]:
    """Those of a user's rooms that a filter lets through, by number.

    Args:
        facts: those of the rooms, as far as any are known.
    """
    children: frozenset[str] = frozenset()
    if filters.spaces is not None:
        spaces = (rooms.by_id.get(room_id) for room_id in filters.spaces)
        joined = [each.row.room for each in spaces if each is not None and each.membership is Membership.JOIN]
        children = frozenset().union(*(facts[room].children for room in joined if room in facts))
    return frozenset(
        number for number, room in rooms.by_room.items() if _matches(filters, room, facts.get(number), marks, children)
    )


def arrange(ranges: Sequence[tuple[int, int]] | None, chosen: Sequence[UserRoom]) -> ArrangedList:
    """Cut the ranges of a list (None: all of it) out of its rooms, which are in order."""
    if ranges is None:
        return ArrangedList(len(chosen), [((0, max(len(chosen) - 1, 0)), chosen)])
    return ArrangedList(len(chosen), [((first, last), chosen[first : last + 1]) for first, last in ranges])


def _matches(
    filters: ListFilters, room: UserRoom, facts: RoomFacts | None, marks: Marks, children: frozenset[str]
) -> bool:
    room_id = room.room_id
    if filters.is_dm is not None and filters.is_dm != (room_id in marks.direct):
        return False
    if filters.is_invite is not None and filters.is_invite != (room.membership is Membership.INVITE):
        return False
    if filters.spaces is not None and room_id not in children:
        return False
    if filters.asks_for_tags:
        tags = marks.tags.get(room_id, frozenset())
        if filters.not_tags is not None and tags & filters.not_tags:
            return False
        if filters.tags is not None and not tags & filters.tags:
            return False
    return not filters.asks_for_facts or _matches_facts(filters, facts)


def _matches_facts(filters: ListFilters, facts: RoomFacts | None) -> bool:
    """A room of which nothing is known has no type, no name, and is not known to be encrypted or not."""
    room_type = None if facts is None else facts.room_type
    if filters.is_encrypted is not None and (facts is None or filters.is_encrypted != facts.is_encrypted):
        return False
    if filters.not_room_types is not None and room_type in filters.not_room_types:
        return False
    if filters.room_types is not None and room_type not in filters.room_types:
        return False
    return filters.room_name_like is None or (facts is not None and filters.room_name_like in facts.name)
