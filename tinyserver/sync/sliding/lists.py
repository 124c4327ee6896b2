"""Lists: which rooms are in them, in which order, and which of them the client looks at.

spec: MSC4186 (lists, filters)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tinyserver.storage.memberships import Membership
from tinyserver.sync.sliding.catalogue import RoomFacts
from tinyserver.sync.sliding.requests import ListFilters, ListSpec
from tinyserver.sync.sliding.user_rooms import Marks, UserRoom

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


def arrange(
    spec: ListSpec, in_order: Sequence[UserRoom], facts: Mapping[int, RoomFacts], marks: Marks, joined: Iterable[int]
) -> ArrangedList:
    """Apply a list's filter and ranges to rooms that are in order.

    Args:
        facts: those of the rooms, as far as any are known.
        joined: the rooms that the user is in: only of those among them are spaces looked into.
    """
    filters = spec.filters
    children: frozenset[str] = frozenset()
    if filters.spaces is not None:
        wanted = {each.room_id: each.row.room for each in in_order if each.room_id in filters.spaces}
        is_joined = set(joined)
        spaces = (facts[room] for room in wanted.values() if room in facts and room in is_joined)
        children = frozenset().union(*(space.children for space in spaces))
    chosen = [each for each in in_order if _matches(filters, each, facts.get(each.row.room), marks, children)]
    if spec.ranges is None:
        return ArrangedList(len(chosen), [((0, max(len(chosen) - 1, 0)), chosen)])
    windows = [((first, last), chosen[first : last + 1]) for first, last in spec.ranges]
    return ArrangedList(len(chosen), windows)


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
