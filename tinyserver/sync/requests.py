"""What a client asks of sync, made ready for use."""

from __future__ import annotations

import msgspec

from tinyserver.protocol.filters import EventMatcher, Filter, Projection, RoomFilter
from tinyserver.rooms.tokens import Point

DEFAULT_TIMELINE_LIMIT = 20
MAX_TIMELINE_LIMIT = 100


class FilterSet:
    """A client's filter with all its parts made ready. Shared between the requests that use the same filter, so
    that it can be part of a key under which work is shared.

    Args:
        parsed: the filter as `parse_filter` gave it.
    """

    __slots__ = (
        "account_data",
        "counts_threads",
        "federation_format",
        "include_leave",
        "lazy_members",
        "presence",
        "profile_fields",
        "profile_key",
        "projection",
        "redundant_members",
        "room",
        "room_account_data",
        "room_ephemeral",
        "state",
        "timeline",
        "timeline_limit",
    )

    def __init__(self, parsed: Filter) -> None:
        room = parsed.room or RoomFilter()
        self.room = room
        self.timeline = EventMatcher(room.timeline)
        self.state = EventMatcher(room.state)
        self.room_ephemeral = EventMatcher(room.ephemeral)
        self.room_account_data = EventMatcher(room.account_data)
        self.account_data = EventMatcher(parsed.account_data)
        self.presence = EventMatcher(parsed.presence)
        limit = None if room.timeline is None else room.timeline.limit
        self.timeline_limit = DEFAULT_TIMELINE_LIMIT if limit is None else min(limit, MAX_TIMELINE_LIMIT)
        self.lazy_members = room.state is not None and room.state.lazy
        self.redundant_members = room.state is not None and room.state.include_redundant_members is True
        self.counts_threads = room.timeline is not None and room.timeline.counts_threads
        self.include_leave = room.include_leave is True
        fields = parsed.profile_fields or parsed.unstable_profile_fields
        self.profile_fields = frozenset(() if fields is None else fields.ids or ())
        # As the client has asked, so it is answered.
        self.profile_key = "org.matrix.msc4429.users" if parsed.profile_fields is None else "users"
        self.federation_format = parsed.wants_federation_format
        self.projection = None if parsed.event_fields is None else Projection(parsed.event_fields)

    def includes_room(self, room_id: str) -> bool:
        """Whether a room is wanted at all."""
        return self.room.includes_room(room_id)

    @property
    def whole_events(self) -> bool:
        """Whether events are wanted whole and in the client format, as their cached encoding has them."""
        return not self.federation_format and self.projection is None


NO_FILTER = FilterSet(Filter())


class Reader(msgspec.Struct, frozen=True):
    """Whose sync it is: the user and the device (None for what has none)."""

    user_id: str
    user: int
    device: int | None


class SyncRequest(msgspec.Struct, frozen=True):
    """One call of sync.

    `since` is None for the first one; `timeout` is in seconds; `state_after` says which state of a room is wanted: that
    at the end of its timeline (in the spellings that the client asked for) or, if empty, that at the start.
    """

    reader: Reader
    filters: FilterSet = NO_FILTER
    since: Point | None = None
    timeout: float = 0.0
    full_state: bool = False
    set_presence: str = "online"
    state_after: tuple[str, ...] = ()

    @property
    def at_end(self) -> bool:
        """Whether the state at the end of the timeline is wanted."""
        return bool(self.state_after)
