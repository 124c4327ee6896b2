"""Simplified sliding sync: what a client needs of the rooms that it looks at, and then what is new there.

Clients of today send the form of the unstable path; the accepted form is served beside it, and what the two differ in
is read here from either.

spec: MSC4186
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from tinyserver.accounts.profiles import MAX_KEY_BYTES
from tinyserver.api.calls import Call
from tinyserver.api.routing import Auth, Surface, endpoint
from tinyserver.api.timeouts import seconds
from tinyserver.protocol.errors import InvalidParam
from tinyserver.rooms.tokens import parse_token
from tinyserver.sync.requests import Reader
from tinyserver.sync.sliding.requests import (
    Extensions,
    ListFilters,
    ListSpec,
    ProfilesRequest,
    Scope,
    SlidingRequest,
    StickyRequest,
    ToDeviceRequest,
)
from tinyserver.sync.sliding.required_state import MEMBER, Pattern, RoomConfig, StatePart
from tinyserver.sync.sliding.service import SlidingSyncService

UNSTABLE_FEATURES = {"org.matrix.simplified_msc3575": True, "org.matrix.msc4262": True}

MAX_LISTS = 100
MAX_LIST_NAME = 64
MAX_RANGES = 20
MAX_SUBSCRIPTIONS = 1000
MAX_STATE_ENTRIES = 100
MAX_STATE_ENTRIES_OF_ALL = 2000
"""In all the different lists and subscriptions of a request together."""
MAX_TIMELINE_LIMIT = 1000
MAX_CONN_ID = 64
MAX_MESSAGES = 100
MAX_SUBSCRIPTION_CHANGES = 100
MAX_PROFILE_FIELDS = 50
MAX_STICKY = 200

Presence = Literal["online", "offline", "unavailable"]


class StateEntry(msgspec.Struct):
    """A kind of state events: an absent type or state key matches any."""

    type: str | None = None
    state_key: str | None = None


class StateRequest(msgspec.Struct):
    """`required_state` in the accepted form."""

    include: list[StateEntry] = []
    exclude: list[StateEntry] = []
    lazy_members: bool = False


class RoomRequest(msgspec.Struct):
    """What is wanted of rooms."""

    timeline_limit: int
    required_state: list[tuple[str, str]] | StateRequest = []


class FiltersRequest(msgspec.Struct):
    """`filters` of a list, in either form."""

    is_dm: bool | None = None
    is_encrypted: bool | None = None
    is_invite: bool | None = None
    is_invited: bool | None = None
    spaces: list[str] | None = None
    room_types: list[str | None] | None = None
    not_room_types: list[str | None] | None = None
    tags: list[str] | None = None
    not_tags: list[str] | None = None
    room_name_like: str | None = None


class ListRequest(RoomRequest):
    """A list, in either form."""

    ranges: list[tuple[int, int]] | None = None
    range: tuple[int, int] | None = None
    slow_get_all_rooms: bool = False
    filters: FiltersRequest | None = None


class Switch(msgspec.Struct):
    """An extension that is wanted or not."""

    enabled: bool | None = False


class ToDeviceSwitch(Switch):
    """The extension for messages to the device, or for sticky events."""

    limit: int | None = None
    since: str | None = None


class RoomSwitch(Switch):
    """An extension for certain rooms."""

    lists: list[str] | None = None
    rooms: list[str] | None = None


class ThreadSwitch(Switch):
    """The extension for thread subscriptions."""

    limit: int | None = None


class ProfilesSwitch(RoomSwitch):
    """The extension for profiles. Users of all rooms are told of, also where rooms or lists are named."""

    fields: list[str] | None = None


class ExtensionsRequest(msgspec.Struct):
    """All extensions that are known here."""

    to_device: ToDeviceSwitch | None = None
    e2ee: Switch | None = None
    account_data: RoomSwitch | None = None
    receipts: RoomSwitch | None = None
    typing: RoomSwitch | None = None
    thread_subscriptions: ThreadSwitch | None = None
    unstable_thread_subscriptions: ThreadSwitch | None = msgspec.field(
        name="io.element.msc4308.thread_subscriptions", default=None
    )
    profiles: ProfilesSwitch | None = None
    sticky_events: ToDeviceSwitch | None = None
    unstable_sticky_events: ToDeviceSwitch | None = msgspec.field(name="org.matrix.msc4354.sticky_events", default=None)
    unstable_profiles: ProfilesSwitch | None = msgspec.field(name="org.matrix.msc4262.profiles", default=None)


class SlidingBody(msgspec.Struct):
    """The body of a request; of `pos`, `timeout` and `set_presence` the unstable form has those in the query."""

    conn_id: str | None = None
    pos: str | None = None
    timeout: int | None = None
    set_presence: Presence | None = None
    lists: dict[str, ListRequest] | None = None
    room_subscriptions: dict[str, RoomRequest] | None = None
    extensions: ExtensionsRequest | None = None


class SlidingQuery(msgspec.Struct):
    """The parameters in the URL; `timeout` is in milliseconds."""

    pos: str | None = None
    timeout: int | None = None
    set_presence: Presence | None = None


class SlidingSyncApi:
    """The endpoints of sliding sync.

    :param sync: finds out what is new.
    """

    surface = Surface.CLIENT

    def __init__(self, sync: SlidingSyncService) -> None:
        self._sync = sync

    @endpoint(
        "POST",
        "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
        spec="MSC4186",
        auth=Auth.USER,
        body=SlidingBody,
        query=SlidingQuery,
        guests=True,
        long_poll=True,
    )
    async def sync(self, call: Call[SlidingBody, SlidingQuery]) -> bytes:
        """What is new, in the form that clients of today expect."""
        return await self._sync.sync(_request(call, stable=False))

    @endpoint(
        "POST",
        "/_matrix/client/v4/sync",
        spec="MSC4186",
        auth=Auth.USER,
        body=SlidingBody,
        query=SlidingQuery,
        guests=True,
        long_poll=True,
    )
    async def stable_sync(self, call: Call[SlidingBody, SlidingQuery]) -> bytes:
        """What is new, in the accepted form."""
        return await self._sync.sync(_request(call, stable=True))


def _request(call: Call[SlidingBody, SlidingQuery], *, stable: bool) -> SlidingRequest:
    """The request in the form of the service. Raises InvalidParam."""
    body, query, requester = call.body, call.query, call.requester
    lists, subscriptions = body.lists or {}, body.room_subscriptions or {}
    if len(lists) > MAX_LISTS or len(subscriptions) > (MAX_LISTS if stable else MAX_SUBSCRIPTIONS):
        raise InvalidParam("The request has too many lists or room subscriptions.")
    if any(len(name) > MAX_LIST_NAME for name in lists):
        raise InvalidParam(f"The name of a list has at most {MAX_LIST_NAME} characters.")
    conn_id = body.conn_id or ""
    if len(conn_id) > MAX_CONN_ID:
        raise InvalidParam(f"conn_id has at most {MAX_CONN_ID} characters.")
    configs = _Configs(requester.user_id)
    timeout = body.timeout if query.timeout is None else query.timeout
    return SlidingRequest(
        Reader(requester.user_id, requester.user_nid, requester.device_nid),
        conn_id,
        query.pos or body.pos or None,
        seconds(timeout or 0),
        query.set_presence or body.set_presence or "online",
        {name: _list(each, configs) for name, each in lists.items()},
        {room_id: configs.read(each) for room_id, each in subscriptions.items()},
        _extensions(body.extensions or ExtensionsRequest()),
        stable,
    )


def _list(asked: ListRequest, configs: _Configs) -> ListSpec:
    ranges: Sequence[tuple[int, int]] | None = asked.ranges
    if asked.range is not None:
        ranges = [asked.range, *(ranges or ())]
    if ranges is not None and (len(ranges) > MAX_RANGES or not all(0 <= first <= last for first, last in ranges)):
        raise InvalidParam("A range of a list is a first and a last index, from 0 on.")
    return ListSpec(
        configs.read(asked),
        None if asked.slow_get_all_rooms else ranges,
        _filters(asked.filters or FiltersRequest()),
    )


def _filters(asked: FiltersRequest) -> ListFilters:
    return ListFilters(
        asked.is_dm,
        asked.is_encrypted,
        asked.is_invite if asked.is_invited is None else asked.is_invited,
        None if asked.spaces is None else frozenset(asked.spaces),
        None if asked.room_types is None else frozenset(asked.room_types),
        None if asked.not_room_types is None else frozenset(asked.not_room_types),
        None if asked.tags is None else frozenset(asked.tags),
        None if asked.not_tags is None else frozenset(asked.not_tags),
        asked.room_name_like.casefold() if asked.room_name_like else None,
    )


class _Configs:
    """What is wanted of rooms in one request. Equal wishes are one object: most rooms have the same."""

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id
        self._known: dict[RoomConfig, RoomConfig] = {}
        self._entries = 0

    def read(self, asked: RoomRequest) -> RoomConfig:
        """The wish in the form of the service. Raises InvalidParam."""
        limit, state = asked.timeline_limit, asked.required_state
        if not 0 <= limit <= MAX_TIMELINE_LIMIT:
            raise InvalidParam(f"timeline_limit is from 0 to {MAX_TIMELINE_LIMIT}.")
        entries = len(state) if isinstance(state, list) else len(state.include) + len(state.exclude)
        if entries > MAX_STATE_ENTRIES:
            raise InvalidParam(f"required_state has at most {MAX_STATE_ENTRIES} entries.")
        if isinstance(state, list):
            config = _config_from_pairs(limit, tuple(state), self._user_id)
        else:
            part = StatePart(_patterns(state.include), _patterns(state.exclude))
            config = RoomConfig(limit, frozenset((part,)) if part.include else frozenset(), state.lazy_members)
        if config not in self._known:
            self._known[config] = config
            self._entries += entries
            if self._entries > MAX_STATE_ENTRIES_OF_ALL:
                raise InvalidParam("The request asks for too many different kinds of state.")
        return self._known[config]


@lru_cache(maxsize=64)
def _config_from_pairs(limit: int, pairs: tuple[tuple[str, str], ...], user_id: str) -> RoomConfig:
    """The meaning of pairs of a type and a state key. Beside the pair that means everything, others restrict their
    type; `$LAZY` stands for the members that the timeline needs, `$ME` for the user."""
    everything, lazy, patterns = False, False, set[Pattern]()
    restricted: set[Pattern] = set()
    for event_type, state_key in pairs:
        if event_type == "*" and state_key == "*":
            everything = True
            continue
        if event_type != "*":
            restricted.add((event_type, None))
        if event_type == MEMBER and state_key == "$LAZY":
            lazy = True
            continue
        key = user_id if state_key == "$ME" else state_key
        patterns.add((None if event_type == "*" else event_type, None if key == "*" else key))
    parts = []
    if everything:
        parts.append(StatePart(frozenset(((None, None),)), frozenset(restricted)))
    if patterns:
        parts.append(StatePart(frozenset(patterns)))
    return RoomConfig(limit, frozenset(parts), lazy)


def _patterns(entries: Sequence[StateEntry]) -> frozenset[Pattern]:
    return frozenset((entry.type, entry.state_key) for entry in entries)


def _extensions(asked: ExtensionsRequest) -> Extensions:
    to_device = asked.to_device
    threads = asked.thread_subscriptions or asked.unstable_thread_subscriptions
    return Extensions(
        ToDeviceRequest(_messages_since(to_device.since), _limit(to_device.limit, MAX_MESSAGES))
        if to_device is not None and to_device.enabled
        else None,
        bool(asked.e2ee is not None and asked.e2ee.enabled),
        _scope(asked.account_data),
        _scope(asked.receipts),
        _scope(asked.typing),
        _limit(threads.limit, MAX_SUBSCRIPTION_CHANGES) if threads is not None and threads.enabled else None,
        _profiles(asked.profiles or asked.unstable_profiles),
        _sticky(asked.sticky_events or asked.unstable_sticky_events),
    )


def _sticky(asked: ToDeviceSwitch | None) -> StickyRequest | None:
    if asked is None or not asked.enabled:
        return None
    return StickyRequest(_messages_since(asked.since), _limit(asked.limit, MAX_STICKY))


def _profiles(asked: ProfilesSwitch | None) -> ProfilesRequest | None:
    if asked is None or not asked.enabled:
        return None
    if asked.fields is not None and len(asked.fields) > MAX_PROFILE_FIELDS:
        raise InvalidParam(f"At most {MAX_PROFILE_FIELDS} fields of profiles can be named.")
    return ProfilesRequest(None if asked.fields is None else frozenset(name[:MAX_KEY_BYTES] for name in asked.fields))


def _messages_since(since: str | None) -> int:
    """The position up to which the client has its messages: a token of this extension, or one of `/sync`."""
    if not since:
        return 0
    if since.isascii() and since.isdigit() and len(since) <= 18:
        return int(since)
    point = parse_token(since, "since")
    return point.position if point.messages is None else point.messages


def _limit(asked: int | None, most: int) -> int:
    return most if asked is None else min(max(asked, 1), most)


def _scope(asked: RoomSwitch | None) -> Scope | None:
    if asked is None or not asked.enabled:
        return None
    return Scope(_names(asked.lists), _names(asked.rooms))


def _names(asked: Sequence[str] | None) -> frozenset[str] | None:
    return None if asked is None or "*" in asked else frozenset(asked)
