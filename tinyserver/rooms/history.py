"""Reading a room's history: pages of its timeline, single events, and what happened around an event.

spec: client-server-api#getting-events-for-a-room, client-server-api#get_matrixclientv3roomsroomidmessages
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.accounts.requester import Requester
from tinyserver.clock import Clock
from tinyserver.protocol.errors import Forbidden, InvalidParam
from tinyserver.protocol.filters import EventMatcher, RoomEventFilter
from tinyserver.rooms.aggregations import Aggregations
from tinyserver.rooms.event_access import aggregations_for, no_event, visible_event
from tinyserver.rooms.long_list import LongList
from tinyserver.rooms.rendering import EventRenderer
from tinyserver.rooms.timeline_scan import Found, TimelineScan
from tinyserver.rooms.tokens import pagination_token, parse_token
from tinyserver.rooms.visibility import RoomView, open_view, open_view_of_events
from tinyserver.storage import events, graph, names, rooms, state_trie
from tinyserver.storage.database import Database
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction

Result = TypeVar("Result")

DEFAULT_LIMIT = 10
MAX_MESSAGES = 500
"""How many events a page holds at most."""
MAX_CONTEXT = 100
"""How many events are given around one at most."""


MAX_FETCHES = 5
"""How often other servers are asked for history on behalf of one page."""


class OlderEvents(Protocol):
    """Gets history that is not here from other servers (implemented by federation)."""

    async def fill(self, room_nid: int, oldest: int, newest: int) -> bool:
        """Fetch some of what is missing before events with places from `oldest` to `newest`, within some seconds.

        Returns:
            Whether there is more now.
        """


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """What a client asks of the timeline: `start` and `stop` are tokens (None: the end of the room on that side),
    `limit` and `filter` None where the client does not say."""

    backwards: bool
    start: str | None = None
    stop: str | None = None
    limit: int | None = None
    filter: RoomEventFilter | None = None


@dataclass(frozen=True, slots=True)
class MessagesPage:
    """A page of the timeline: events in JSON in the order asked for, tokens for its two ends (`end` is None where
    there is nothing more), and the member events of the senders if they are to be lazily loaded."""

    start: str
    end: str | None
    chunk: Sequence[bytes]
    state: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class EventContext:
    """An event in JSON with its surroundings: what was before it (newest first) and after it (oldest first), tokens for
    the two ends, and the state at the last event."""

    event: bytes
    before: Sequence[bytes]
    after: Sequence[bytes]
    start: str
    end: str
    state: LongList


class RoomHistory:
    """Reads timelines.

    Args:
        db: where rooms are stored.
        clock: for the age of events.
        ignored: whose messages a user does not want to see.
        older: gets what is not here; None: nobody does.
    """

    def __init__(self, db: Database, clock: Clock, ignored: IgnoredUsers, older: OlderEvents | None = None) -> None:
        self._db = db
        self._clock = clock
        self._ignored = ignored
        self._older = older

    async def messages(self, requester: Requester, room_id: str, request: MessagesRequest) -> MessagesPage:
        """A page of a room's timeline.

        Raises:
            Forbidden: the user may not read the room.
            InvalidParam: a token or the limit is wrong.

        spec: client-server-api#get_matrixclientv3roomsroomidmessages
        """
        limit = _limit(request.limit, request.filter, MAX_MESSAGES)
        start = None if request.start is None else parse_token(request.start, "from").position
        stop = None if request.stop is None else parse_token(request.stop, "to").position
        now_ms = self._clock.now_ms()

        def step(tx: ReadTransaction) -> tuple[MessagesPage, _Missing | None]:
            view = open_view(tx, room_id, requester)
            matcher = EventMatcher(request.filter)
            ignored = self._ignored.of_user(tx, requester.user_nid)
            scan = TimelineScan(tx, view, matcher, ignored)
            oldest = view.room.first_place - 1
            if request.backwards:
                begin = view.newest if start is None else min(start, view.newest)
                found = scan.backwards(begin, oldest if stop is None else stop, limit)
            else:
                begin = oldest if start is None else start
                found = scan.forwards(begin, view.newest if stop is None else min(stop, view.newest), limit)
            missing = None
            if request.backwards and (stop is None or stop < found.point):
                missing = _missing(tx, view, found, begin, is_full=len(found.events) >= limit)
            end = found.point if missing is not None else found.end
            renderer = EventRenderer(tx, now_ms, requester.device_nid, room_id=room_id)
            page = MessagesPage(
                pagination_token(begin) if request.start is None else request.start,
                None if end is None else pagination_token(end),
                _timeline(renderer, aggregations_for(tx, view, requester, ignored), found.events),
                _senders(tx, renderer, found.events) if request.filter is not None and request.filter.lazy else (),
            )
            return page, missing

        return await self._filled(step)

    async def _filled(self, step: Callable[[ReadTransaction], tuple[Result, _Missing | None]]) -> Result:
        """What a step reads, once what it finds missing has been fetched as far as that can be done soon."""
        result, missing = await self._db.read(step)
        for _ in range(MAX_FETCHES):
            if missing is None or self._older is None:
                break
            filled = await self._older.fill(missing.room, missing.oldest, missing.newest)
            if not filled:
                break
            result, missing = await self._db.read(step)
        return result

    async def context(
        self,
        requester: Requester,
        room_id: str,
        event_id: str,
        limit: int | None = None,
        event_filter: RoomEventFilter | None = None,
    ) -> EventContext:
        """What happened around an event.

        Args:
            limit: how many events at most besides the event itself.
            event_filter: for these and for the state.

        Raises:
            Forbidden: the user may not read the room.
            NotFound: there is no such event in the room, or the user may not see it.

        spec: client-server-api#get_matrixclientv3roomsroomidcontexteventid
        """
        wanted = _limit(limit, event_filter, MAX_CONTEXT)
        now_ms = self._clock.now_ms()

        def step(tx: ReadTransaction) -> tuple[EventContext, _Missing | None]:
            view = open_view(tx, room_id, requester)
            ignored = self._ignored.of_user(tx, requester.user_nid)
            stored, place = visible_event(tx, view, event_id, ignored)
            matcher = EventMatcher(event_filter)
            aggregations = aggregations_for(tx, view, requester, ignored)
            scan = TimelineScan(tx, view, matcher, ignored)
            before = scan.backwards(place - 1, view.room.first_place - 1, wanted // 2)
            after = scan.forwards(place, view.newest, wanted - wanted // 2)
            renderer = EventRenderer(tx, now_ms, requester.device_nid, room_id=room_id)
            last = after.events[-1] if after.events else stored
            lazily_for = None
            if event_filter is not None and event_filter.lazy:
                lazily_for = {shown.sender_nid for shown in (stored, *before.events, *after.events)}
            missing = _missing(tx, view, before, place - 1, is_full=len(before.events) >= wanted // 2)
            context = EventContext(
                renderer.bundled_event(stored, aggregations),
                _timeline(renderer, aggregations, before.events),
                _timeline(renderer, aggregations, after.events),
                pagination_token(before.point),
                pagination_token(after.point),
                self._state(tx, requester, room_id, last.state or 0, matcher, lazily_for),
            )
            return context, missing

        return await self._filled(step)

    async def event(self, requester: Requester, room_id: str, event_id: str) -> bytes:
        """One event of a room in JSON.

        Raises:
            NotFound: there is no such event in the room, or the user may not see it.

        spec: client-server-api#get_matrixclientv3roomsroomideventeventid
        """
        now_ms = self._clock.now_ms()

        def step(tx: ReadTransaction) -> bytes:
            try:
                view = open_view_of_events(tx, room_id, requester)
            except Forbidden as error:
                raise no_event(event_id) from error
            ignored = self._ignored.of_user(tx, requester.user_nid)
            stored, _ = visible_event(tx, view, event_id, ignored)
            renderer = EventRenderer(tx, now_ms, requester.device_nid, room_id=room_id)
            return renderer.bundled_event(stored, aggregations_for(tx, view, requester, ignored))

        return self._db.glance(step)

    async def event_by_id(self, requester: Requester, event_id: str) -> bytes:
        """One event in JSON, from whatever room.

        Raises:
            NotFound: there is no such event, or the user may not see it.

        spec: client-server-api#get_matrixclientv3eventseventid
        """

        def step(tx: ReadTransaction) -> str:
            stored = events.by_id(tx, event_id)
            if stored is None:
                raise no_event(event_id)
            return rooms.get(tx, stored.room).room_id

        return await self.event(requester, self._db.glance(step), event_id)

    def _state(
        self,
        tx: ReadTransaction,
        requester: Requester,
        room_id: str,
        root: int,
        matcher: EventMatcher,
        lazily_for: set[int] | None,
    ) -> LongList:
        """The wanted part of a state; `lazily_for` names the only members (nids) that are wanted."""
        member_type = names.find(tx, "m.room.member")
        if lazily_for is None or member_type is None:
            nids = sorted(nid for _, nid in state_trie.items(tx, root))
        else:
            others = [nid for _, nid in state_trie.items_except_type(tx, root, member_type)]
            members = state_trie.get_many(tx, root, [(member_type, user) for user in lazily_for])
            nids = sorted([*others, *members.values()])
        now_ms = self._clock.now_ms()

        def render(tx: ReadTransaction, batch: Sequence[int]) -> list[bytes]:
            renderer = EventRenderer(tx, now_ms, requester.device_nid, room_id=room_id)
            return [
                renderer.state_event(stored)
                for stored in events.get_many(tx, batch, keep=False).values()
                if matcher.matches(stored.event.type, stored.event.sender, stored.event.content)
            ]

        return LongList(tx, self._db, nids, render)


@dataclass(frozen=True, slots=True)
class _Missing:
    """There is history that is not here before events of a room (nid) with places from `oldest` to `newest`."""

    room: int
    oldest: int
    newest: int


def _missing(tx: ReadTransaction, view: RoomView, found: Found, begin: int, *, is_full: bool) -> _Missing | None:
    """What is missing in the part of a timeline that a page covers, if the reader could see it.

    Args:
        found: what was found going back from the point `begin`.
        is_full: nothing is needed beyond the last event that was found.
    """
    oldest, newest = found.point + 1 + is_full, begin + 1
    gaps = graph.gaps(tx, view.room.nid, view.room.version, oldest, newest, 1)
    if not gaps:
        return None
    child = events.get(tx, gaps[0].child)
    if not view.sight.sees_before(child):
        return None
    return _Missing(view.room.nid, oldest, newest)


def _limit(limit: int | None, event_filter: RoomEventFilter | None, most: int) -> int:
    if limit is None:
        limit = DEFAULT_LIMIT if event_filter is None or event_filter.limit is None else event_filter.limit
    elif event_filter is not None and event_filter.limit is not None:
        limit = min(limit, event_filter.limit)
    if limit < 0:
        raise InvalidParam("The limit must not be negative.")
    return min(limit, most)


def _timeline(renderer: EventRenderer, aggregations: Aggregations, found: Sequence[StoredEvent]) -> list[bytes]:
    return [renderer.bundled_event(stored, aggregations) for stored in found]


def _senders(tx: ReadTransaction, renderer: EventRenderer, found: Sequence[StoredEvent]) -> list[bytes]:
    """The member events of the senders, as they were at the first of the events."""
    member_type = names.find(tx, "m.room.member")
    root = found[0].state if found else None
    if root is None or member_type is None:
        return []
    members = state_trie.get_many(tx, root, [(member_type, user) for user in {stored.sender_nid for stored in found}])
    return [renderer.state_event(stored) for stored in events.get_many(tx, sorted(members.values())).values()]
