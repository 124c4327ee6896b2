"""The events that relate to an event, and the threads of a room.

spec: client-server-api#relationships-api, client-server-api#querying-threads-in-a-room
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.accounts.requester import Requester
from tinyserver.clock import Clock
from tinyserver.protocol.errors import Forbidden, InvalidParam
from tinyserver.protocol.history_visibility import SHARED, WORLD_READABLE, visibility_in
from tinyserver.protocol.relations import may_root_thread
from tinyserver.rooms.aggregations import Aggregations
from tinyserver.rooms.event_access import aggregations_for, no_event, visible_event
from tinyserver.rooms.rendering import EventRenderer
from tinyserver.rooms.tokens import pagination_token, parse_token
from tinyserver.rooms.visibility import RoomView, open_view
from tinyserver.storage import events, relations, room_state
from tinyserver.storage.database import Database
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.timeline_entries import Entry
from tinyserver.storage.transaction import ReadTransaction

Item = TypeVar("Item")

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
"""How many events a page holds at most."""
RECURSION_DEPTH = 3
"""Over how many relationships children of children are followed."""
MAX_EXAMINED = 5_000
"""How many children, or threads, are looked at for one page; then the page ends, with a token to go on."""
_BATCH = 200


@dataclass(frozen=True, slots=True)
class ChildrenRequest:
    """Which children of an event a client asks for.

    `rel_type` and `event_type` None: all; `recurse` None: the client does not say; `start` and `stop` are tokens.
    """

    rel_type: str | None = None
    event_type: str | None = None
    backwards: bool = True
    recurse: bool | None = None
    start: str | None = None
    stop: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class EventPage:
    """A page of events in JSON, the token to go on with (None: this is all), and the one that it was asked with."""

    chunk: Sequence[bytes]
    next_batch: str | None
    prev_batch: str | None = None


class Relationships:
    """Reads which events relate to which.

    Args:
        db: where rooms are stored.
        clock: for the age of events.
        ignored: whose events a user does not want to see.
    """

    def __init__(self, db: Database, clock: Clock, ignored: IgnoredUsers) -> None:
        self._db = db
        self._clock = clock
        self._ignored = ignored

    # -- children --------------------------------------------------------------------------------

    async def children(self, requester: Requester, room_id: str, event_id: str, request: ChildrenRequest) -> EventPage:
        """The events that relate to an event.

        Raises:
            NotFound: there is no such event in the room, or the user may not see it.
            InvalidParam: a token or the limit is wrong.

        spec: client-server-api#get_matrixclientv1roomsroomidrelationseventid
        """
        limit = _limit(request.limit)
        start = None if request.start is None else parse_token(request.start, "from").position
        stop = None if request.stop is None else parse_token(request.stop, "to").position
        now_ms = self._clock.now_ms()

        def step(tx: ReadTransaction) -> EventPage:
            try:
                view = open_view(tx, room_id, requester)
            except Forbidden as error:
                raise no_event(event_id) from error
            visible_event(tx, view, event_id)
            ignored = self._ignored.of_user(tx, requester.user_nid)
            entries = _children(tx, view, event_id, request, start, stop)
            chosen, point = _choose(entries, lambda entry: _is_shown(entry, view, ignored), limit)
            renderer = EventRenderer(tx, now_ms, requester.device_nid, room_id=room_id)
            aggregations = aggregations_for(tx, view, requester, ignored)
            found = events.get_many(tx, [entry.nid for entry in chosen])
            return EventPage(
                [renderer.bundled_event(found[entry.nid], aggregations) for entry in chosen],
                None if point is None else pagination_token(point.place - 1 if request.backwards else point.place),
                request.start,
            )

        return await self._db.read(step)

    # -- threads ---------------------------------------------------------------------------------

    async def threads(
        self, requester: Requester, room_id: str, *, participated: bool, start: str | None, limit: int | None
    ) -> EventPage:
        """The roots of a room's threads, those with the latest events first.

        Args:
            participated: only threads in which the user wrote, or which they began.
            start: a token.

        Raises:
            Forbidden: the user may not read the room.
            InvalidParam: the token or the limit is wrong.

        spec: client-server-api#get_matrixclientv1roomsroomidthreads
        """
        wanted = _limit(limit)
        position = None if start is None else parse_token(start, "from").position
        now_ms = self._clock.now_ms()

        def step(tx: ReadTransaction) -> EventPage:
            view = open_view(tx, room_id, requester)
            ignored = self._ignored.of_user(tx, requester.user_nid)
            aggregations = aggregations_for(tx, view, requester, ignored)

            def is_wanted(thread: _Thread) -> bool:
                if not participated:
                    return True
                summary = aggregations.thread(thread.root)
                return summary is not None and summary.participated

            found = _threads(tx, view, aggregations, view.newest if position is None else position, ignored)
            chosen, point = _choose(found, is_wanted, wanted)
            renderer = EventRenderer(tx, now_ms, requester.device_nid, room_id=room_id)
            return EventPage(
                [
                    renderer.redacted_event(thread.root, aggregations)
                    if thread.root.sender_nid in ignored
                    else renderer.bundled_event(thread.root, aggregations)
                    for thread in chosen
                ],
                None if point is None else pagination_token(point.place - 1),
            )

        return await self._db.read(step)


@dataclass(frozen=True, slots=True)
class _Thread:
    """A thread by its root and the place of its newest event that the reader sees."""

    root: StoredEvent
    place: int


def _limit(limit: int | None) -> int:
    if limit is None:
        return DEFAULT_LIMIT
    if limit < 1:
        raise InvalidParam("The limit must be greater than zero.")
    return min(limit, MAX_LIMIT)


def _choose(items: Iterator[Item], is_wanted: Callable[[Item], bool], limit: int) -> tuple[list[Item], Item | None]:
    """The first items that are wanted, and the last one that was looked at if there is something after it."""
    chosen: list[Item] = []
    last: Item | None = None
    for examined, item in enumerate(items):
        if examined == MAX_EXAMINED:
            return chosen, last
        if is_wanted(item):
            if len(chosen) == limit:
                return chosen, last
            chosen.append(item)
        last = item
    return chosen, None


def _is_shown(entry: Entry, view: RoomView, ignored: frozenset[int]) -> bool:
    if entry.state_key is None and entry.sender in ignored:
        return False
    return view.sight.sees_entry(entry)


def _children(
    tx: ReadTransaction, view: RoomView, event_id: str, request: ChildrenRequest, start: int | None, stop: int | None
) -> Iterator[Entry]:
    """The children in the order asked for, whoever may see them."""
    room, rel_type, event_type = view.room.nid, request.rel_type, request.event_type
    oldest = view.room.first_place - 1
    if request.backwards:
        high = view.newest if start is None else min(start, view.newest)
        low = oldest if stop is None else stop
    else:
        low = oldest if start is None else start
        high = view.newest if stop is None else min(stop, view.newest)
    if request.recurse:
        found = relations.descendants(
            tx, room, event_id, RECURSION_DEPTH, after=low, until=high, rel_type=rel_type, event_type=event_type
        )
        yield from reversed(found) if request.backwards else found
        return
    while True:
        if request.backwards:
            batch = relations.before(
                tx, room, event_id, high, _BATCH, after=low, rel_type=rel_type, event_type=event_type
            )
        else:
            batch = relations.following(
                tx, room, event_id, low, _BATCH, until=high, rel_type=rel_type, event_type=event_type
            )
        yield from batch
        if len(batch) < _BATCH:
            return
        high, low = (batch[-1].place - 1, low) if request.backwards else (high, batch[-1].place)


def _threads(
    tx: ReadTransaction, view: RoomView, aggregations: Aggregations, position: int, ignored: frozenset[int]
) -> Iterator[_Thread]:
    """The threads whose newest event that the reader sees is at or before a position, by that event, latest first.

    They are stored by their newest events. Where the reader may not see that, a thread waits for its turn; and since it
    may have stood before the position then, the walk begins at the end of the room.
    """
    sees_all = view.is_member and not ignored and _is_open(tx, view.root)
    point = min(position, view.newest) if sees_all else view.room.last_event
    waiting: list[_Thread] = []
    while True:
        batch = relations.threads(tx, view.room.nid, point, _BATCH, view.room.version)
        for latest, root_id in batch:
            while waiting and waiting[0].place > latest:
                yield waiting.pop(0)
            point = latest - 1
            root = events.by_id(tx, root_id)
            if root is None or root.room != view.room.nid or root.place is None:
                continue
            if not may_root_thread(root.event) or not view.sight.sees(root):
                continue
            reply = aggregations.latest_reply(root_id)
            if reply is None or reply.place > position:
                continue
            waiting.append(_Thread(root, reply.place))
            waiting.sort(key=lambda thread: -thread.place)
        if len(batch) < _BATCH:
            yield from waiting
            return


def _is_open(tx: ReadTransaction, root: int) -> bool:
    content = room_state.content_at(tx, root, "m.room.history_visibility")
    return visibility_in(content) in (SHARED, WORLD_READABLE)
