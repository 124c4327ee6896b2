"""Filters: which events, and which parts of them, a client wants from ``/sync``, ``/messages`` and others.

:func:`parse_filter` and :func:`parse_room_event_filter` check what a client sent and give structs. Asking a filter
about many events is the job of :class:`EventMatcher`, made once per request from one of the structs:

    matcher = EventMatcher(parsed.room.timeline)
    if matcher.matches(event.type, event.sender, event.content) ...

In ``types`` and ``not_types`` a ``*`` stands for any run of characters; everything else compares exactly.

spec: client-server-api#filtering
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

import msgspec

from tinyserver.protocol.errors import BadJson
from tinyserver.protocol.glob import Matcher, compile_glob
from tinyserver.protocol.property_paths import MISSING, split_path
from tinyserver.protocol.relations import relation_of

_MAX_PATH_DEPTH = 64

Strings = list[str] | None


class EventFilter(msgspec.Struct, frozen=True):
    """Conditions on the type and the sender of events. A list that is None does not restrict anything.

    ``limit`` is how many events the client wants at most; None if it does not say. The specification wants it greater
    than 0; clients do send 0 for "none, please".
    """

    limit: int | None = None
    senders: Strings = None
    not_senders: Strings = None
    types: Strings = None
    not_types: Strings = None


class RoomEventFilter(EventFilter, frozen=True):
    """An :class:`EventFilter` for events in rooms. ``rel_types`` and ``not_rel_types`` are those of MSC3874."""

    rooms: Strings = None
    not_rooms: Strings = None
    contains_url: bool | None = None
    lazy_load_members: bool | None = None
    include_redundant_members: bool | None = None
    unread_thread_notifications: bool | None = None
    related_by_senders: Strings = None
    related_by_rel_types: Strings = None
    rel_types: Strings = msgspec.field(name="org.matrix.msc3874.rel_types", default=None)
    not_rel_types: Strings = msgspec.field(name="org.matrix.msc3874.not_rel_types", default=None)

    @property
    def lazy(self) -> bool:
        """Whether only the membership events of the senders in the answer are wanted."""
        return self.lazy_load_members is True

    @property
    def counts_threads(self) -> bool:
        """Whether unread counts are wanted per thread."""
        return self.unread_thread_notifications is True


StateFilter = RoomEventFilter
"""The filter for the state of rooms has the same keys as the one for their timeline."""


class RoomFilter(msgspec.Struct, frozen=True):
    """What to include of rooms; its lists of rooms are applied before the parts' own."""

    rooms: Strings = None
    not_rooms: Strings = None
    include_leave: bool | None = None
    state: RoomEventFilter | None = None
    timeline: RoomEventFilter | None = None
    ephemeral: RoomEventFilter | None = None
    account_data: RoomEventFilter | None = None

    def includes_room(self, room_id: str) -> bool:
        """Whether the room is wanted at all."""
        return _in_lists(room_id, self.rooms, self.not_rooms)


class ProfileFieldsFilter(msgspec.Struct, frozen=True):
    """Which fields of the profiles of others are wanted. spec: MSC4429"""

    ids: Strings = None


class Filter(msgspec.Struct, frozen=True):
    """A whole filter for ``/sync``."""

    event_fields: Strings = None
    event_format: Literal["client", "federation"] | None = None
    presence: EventFilter | None = None
    account_data: EventFilter | None = None
    room: RoomFilter | None = None
    profile_fields: ProfileFieldsFilter | None = None
    unstable_profile_fields: ProfileFieldsFilter | None = msgspec.field(
        name="org.matrix.msc4429.profile_fields", default=None
    )

    @property
    def wants_federation_format(self) -> bool:
        """Whether events are wanted as they came over federation."""
        return self.event_format == "federation"


_FilterType = TypeVar("_FilterType", bound=msgspec.Struct)


def parse_filter(value: object) -> Filter:
    """Check a filter that a client sent (parsed JSON). Keys that nobody knows are passed over.

    :raises BadJson: it is no object, or a key has a value of the wrong type.
    """
    parsed = _convert(value, Filter)
    room = parsed.room or RoomFilter()
    parts = (parsed.presence, parsed.account_data, room.state, room.timeline, room.ephemeral, room.account_data)
    for part in parts:
        _check_limit(part)
    if parsed.event_fields is not None:
        Projection(parsed.event_fields)
    return parsed


def parse_room_event_filter(value: object) -> RoomEventFilter:
    """Check a filter as ``/messages``, ``/context`` and search take it (parsed JSON).

    :raises BadJson: it is no object, or a key has a value of the wrong type.
    """
    parsed = _convert(value, RoomEventFilter)
    _check_limit(parsed)
    return parsed


class EventMatcher:
    """An event filter made ready for many events. ``None`` for the filter lets everything through."""

    __slots__ = (
        "_contains_url",
        "_filter",
        "_not_rel_types",
        "_not_senders",
        "_rel_types",
        "_senders",
        "_types",
        "_unwanted_types",
        "lets_all_through",
    )

    def __init__(self, event_filter: EventFilter | None) -> None:
        self._filter = event_filter if isinstance(event_filter, RoomEventFilter) else None
        given = event_filter or EventFilter()
        self._types = None if given.types is None else _type_matcher(given.types)
        self._unwanted_types = _type_matcher(given.not_types) if given.not_types else None
        self._senders = None if given.senders is None else frozenset(given.senders)
        self._not_senders = frozenset(given.not_senders) if given.not_senders else None
        self._contains_url = None if self._filter is None else self._filter.contains_url
        self._rel_types = None if self._filter is None else self._filter.rel_types
        self._not_rel_types = None if self._filter is None else self._filter.not_rel_types
        conditions = (self._types, self._unwanted_types, self._senders, self._not_senders)
        self.lets_all_through = all(condition is None for condition in conditions) and not self.needs_content
        """Whether :meth:`matches` is true for whatever event (rooms and relations aside)."""

    def matches(self, event_type: str, sender: str, content: dict[str, Any] | None = None) -> bool:
        """Whether an event of this type, sender and content is wanted; see :attr:`needs_content`.

        Rooms and relations are asked about separately, since they are known before or after the single event.
        """
        if self.lets_all_through:
            return True
        return self.matches_origin(event_type, sender) and (
            not self.needs_content or self._matches_content({} if content is None else content)
        )

    def _matches_content(self, content: dict[str, Any]) -> bool:
        if self._contains_url is not None and self._contains_url != ("url" in content):
            return False
        if self._rel_types is None and self._not_rel_types is None:
            return True
        rel_type = relation_of(content).rel_type
        if self._rel_types is not None and rel_type not in self._rel_types:
            return False
        return self._not_rel_types is None or rel_type not in self._not_rel_types

    def matches_origin(self, event_type: str, sender: str) -> bool:
        """Whether events of this type and sender may be wanted, whatever is in them."""
        return (
            self.matches_type(event_type)
            and (self._senders is None or sender in self._senders)
            and (self._not_senders is None or sender not in self._not_senders)
        )

    @property
    def needs_content(self) -> bool:
        """Whether the content of an event matters to :meth:`matches`."""
        return not (self._contains_url is None and self._rel_types is None and self._not_rel_types is None)

    def matches_type(self, event_type: str) -> bool:
        """Whether events of this type may be wanted."""
        return (self._types is None or self._types(event_type)) and not (
            self._unwanted_types is not None and self._unwanted_types(event_type)
        )

    def includes_room(self, room_id: str) -> bool:
        """Whether events of this room may be wanted."""
        return self._filter is None or _in_lists(room_id, self._filter.rooms, self._filter.not_rooms)

    @property
    def asks_for_relations(self) -> bool:
        """Whether only events with certain child events are wanted: then ask :meth:`matches_relations` too."""
        wanted = self._filter
        return wanted is not None and (wanted.related_by_senders is not None or wanted.related_by_rel_types is not None)

    def matches_relations(self, children: Iterable[tuple[str, str]]) -> bool:
        """Whether an event with these child events, each a (relation type, sender), is wanted."""
        if self._filter is None:
            return True
        senders, rel_types = self._filter.related_by_senders, self._filter.related_by_rel_types
        if senders is None and rel_types is None:
            return True
        return any(
            (senders is None or sender in senders) and (rel_types is None or rel_type in rel_types)
            for rel_type, sender in children
        )


_Branch = dict[str, "_Branch | None"]


class Projection:
    """The parts of an event that ``event_fields`` asks for.

    :raises BadJson: a path has more than 64 parts.
    """

    __slots__ = ("_wanted",)

    def __init__(self, event_fields: Iterable[str]) -> None:
        # A tree of names; None below a name means all of it.
        self._wanted: _Branch = {}
        for path in sorted(map(split_path, event_fields), key=len):
            if len(path) > _MAX_PATH_DEPTH:
                raise BadJson(f"A path in event_fields has more than {_MAX_PATH_DEPTH} parts.")
            branch = self._wanted
            for name in path[:-1]:
                below = branch.setdefault(name, {})
                if below is None:
                    break
                branch = below
            else:
                branch.setdefault(path[-1], None)

    def apply(self, event: dict[str, Any]) -> dict[str, Any]:
        """A new event object with only the wanted parts; parts that are not there are left out."""
        return _project(event, self._wanted)


def _project(value: dict[str, Any], wanted: _Branch) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, below in wanted.items():
        part = value.get(name, MISSING)
        if part is MISSING:
            continue
        if below is None:
            result[name] = part
        elif isinstance(part, dict):
            inner = _project(part, below)
            if inner:
                result[name] = inner
    return result


def _convert(value: object, kind: type[_FilterType]) -> _FilterType:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError, OverflowError, UnicodeError) as error:
        raise BadJson(f"The filter is not valid: {error}") from None


def _check_limit(event_filter: EventFilter | None) -> None:
    if event_filter is not None and event_filter.limit is not None and event_filter.limit < 0:
        raise BadJson("The limit of a filter must not be negative.")


def _in_lists(value: str, wanted: Strings, unwanted: Strings) -> bool:
    return (wanted is None or value in wanted) and (unwanted is None or value not in unwanted)


def _type_matcher(patterns: list[str]) -> Callable[[str], bool]:
    literals = frozenset(pattern for pattern in patterns if "*" not in pattern)
    globs: list[Matcher] = [
        compile_glob(pattern, ignore_case=False, question_mark=False) for pattern in patterns if "*" in pattern
    ]
    if not globs:
        return literals.__contains__
    return lambda event_type: event_type in literals or any(matches(event_type) for matches in globs)
