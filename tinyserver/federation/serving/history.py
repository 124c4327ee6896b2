"""Events of a room for servers that lack them: single ones, those that precede others, and what authorises them.

spec: server-server-api#backfilling-and-retrieving-missing-events, server-server-api#retrieving-events
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from tinyserver.federation.serving.pdus import auth_chain, pdu_text, pdu_texts
from tinyserver.federation.serving.rooms import check_acl, room_of_server
from tinyserver.federation.serving.sight import ServerSight
from tinyserver.protocol.errors import Forbidden, InvalidParam, NotFound
from tinyserver.rooms.long_list import LongList
from tinyserver.rooms.moments import EventAtMoment, closest_in_room
from tinyserver.storage import events, memberships, rooms, server_stays
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction

MAX_BACKFILL = 100
MAX_MISSING = 50
MAX_STARTS = 50
"""From how many events one request can start."""


@dataclass(frozen=True, slots=True)
class MissingQuery:
    """What a server lacks: events before `latest`, not before `earliest`, which it has, nor of a lesser depth."""

    latest: Sequence[str]
    earliest: Sequence[str]
    limit: int = 10
    min_depth: int = 0


class ServedHistory:
    """Tells other servers the events of rooms.

    Args:
        db: where rooms are stored.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def event(self, origin: str, event_id: str) -> bytes:
        """One event as JSON.

        Raises:
            NotFound: this server does not have it.
            Forbidden: the other server may not see anything of it.
        """

        def step(tx: ReadTransaction) -> bytes:
            stored = events.by_id(tx, event_id)
            room = None if stored is None else rooms.get(tx, stored.room)
            if stored is None or room is None or not room.state or not memberships.any_local_member(tx, room.nid):
                raise NotFound(f"This server does not have the event {event_id[:255]}")
            check_acl(tx, room, origin)
            is_member = server_stays.is_in_room(tx, room.nid, origin)
            sight = ServerSight(tx, room, origin, is_member=is_member)
            if not is_member and (stored.state is None or not sight.sees(stored)):
                raise Forbidden(f"Nobody of {origin} is in the room of this event")
            return pdu_text(sight.event_for(stored))

        return await self._db.read(step)

    async def auth_chain(self, origin: str, room_id: str, event_id: str) -> LongList:
        """The events that authorise an event, and those that authorise them, as JSON.

        Raises:
            NotFound: this server is not in the room, or does not have the event.
            Forbidden: the other server is not in the room, or is shut out.
        """

        def step(tx: ReadTransaction) -> LongList:
            room = room_of_server(tx, room_id, origin)
            stored = events.by_id(tx, event_id)
            if stored is None or stored.room != room.nid:
                raise NotFound(f"This server does not have the event {event_id[:255]}")
            return LongList(tx, self._db, sorted(auth_chain(tx, [stored.nid])), pdu_texts)

        return await self._db.read(step)

    async def backfill(self, origin: str, room_id: str, event_ids: Sequence[str], limit: int) -> list[bytes]:
        """Events and what precedes them, the latest first, as JSON.

        Args:
            event_ids: where to start; those that are not known are left out.
            limit: how many events at most.

        Raises:
            InvalidParam: the limit is negative.
            NotFound: this server is not in the room.
            Forbidden: the other server is not in the room, or is shut out.
        """
        if limit < 0:
            raise InvalidParam("The limit must not be negative.")

        def step(tx: ReadTransaction) -> list[bytes]:
            room = room_of_server(tx, room_id, origin)
            start = _known(tx, room, event_ids[:MAX_STARTS])
            return _texts(tx, room, origin, _walk_back(tx, room, start, min(limit, MAX_BACKFILL)))

        return await self._db.read(step)

    async def missing_events(self, origin: str, room_id: str, query: MissingQuery) -> list[bytes]:
        """Events that precede others, the oldest first, as JSON.

        Raises: as `backfill` does.
        """
        if query.limit < 0:
            raise InvalidParam("The limit must not be negative.")

        def step(tx: ReadTransaction) -> list[bytes]:
            room = room_of_server(tx, room_id, origin)
            found = sorted(_missing(tx, room, query), key=lambda stored: (stored.event.depth, stored.nid))
            return _texts(tx, room, origin, found)

        return await self._db.read(step)

    async def closest(self, origin: str, room_id: str, ts: int, *, backwards: bool) -> EventAtMoment:
        """The event closest to a moment (ms) that is not before it or, backwards, not after it.

        Raises:
            NotFound: this server is not in the room, or there is no such event that the other may see.
            Forbidden: the other server is not in the room, or is shut out.
        """

        def step(tx: ReadTransaction) -> EventAtMoment:
            room = room_of_server(tx, room_id, origin)
            sight = ServerSight(tx, room, origin, is_member=True)
            found = closest_in_room(
                tx, room, lambda entry: sight.sees(events.get(tx, entry.nid)), ts, backwards=backwards
            )
            if found is None:
                raise NotFound("There is no event in this room in that direction")
            return found

        return await self._db.read(step)


def _known(tx: ReadTransaction, room: RoomRow, event_ids: Iterable[str]) -> list[StoredEvent]:
    """Those of the events that are in the room's graph as this server has it."""
    nids = events.find_many(tx, event_ids).values()
    found = events.get_many(tx, set(nids), keep=False).values()
    return [stored for stored in found if stored.room == room.nid and stored.state is not None]


def _walk_back(tx: ReadTransaction, room: RoomRow, start: Iterable[StoredEvent], limit: int) -> Iterator[StoredEvent]:
    """Events and their ancestors, the deepest first."""
    heap: list[tuple[int, int, StoredEvent]] = []
    seen: set[int] = set()

    def push(found: Iterable[StoredEvent]) -> None:
        for stored in found:
            if stored.nid not in seen:
                seen.add(stored.nid)
                heappush(heap, (-stored.event.depth, -stored.nid, stored))

    push(start)
    for _ in range(limit):
        if not heap:
            return
        stored = heappop(heap)[2]
        yield stored
        push(_known(tx, room, stored.event.prev_event_ids))


def _missing(tx: ReadTransaction, room: RoomRow, query: MissingQuery) -> list[StoredEvent]:
    """The nearest ancestors of the latest events, breadth first."""
    latest = _known(tx, room, query.latest[:MAX_STARTS])
    seen = {*query.earliest, *(stored.event_id for stored in latest)}
    queue = deque(latest)
    found: list[StoredEvent] = []
    limit = min(query.limit, MAX_MISSING)
    while queue:
        parents = [parent for parent in queue.popleft().event.prev_event_ids if parent not in seen]
        seen.update(parents)
        for stored in _known(tx, room, parents):
            if stored.event.depth < query.min_depth:
                continue
            if len(found) >= limit:
                return found
            found.append(stored)
            queue.append(stored)
    return found


def _texts(tx: ReadTransaction, room: RoomRow, origin: str, found: Iterable[StoredEvent]) -> list[bytes]:
    sight = ServerSight(tx, room, origin, is_member=True)
    return [pdu_text(sight.event_for(stored)) for stored in found]
