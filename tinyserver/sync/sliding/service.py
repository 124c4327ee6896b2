"""One call of sliding sync from beginning to end: look, and if there is nothing, wait and look again.

spec: MSC4186
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.protocol.errors import UnknownPos
from tinyserver.protocol.filters import Filter, RoomEventFilter, RoomFilter
from tinyserver.rooms.tokens import Point
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync.engine import ROOMS_AT_A_GLANCE, ROOMS_COMPARED_AT_A_GLANCE, SyncEngine
from tinyserver.sync.requests import FilterSet, SyncRequest
from tinyserver.sync.rooms import RoomReader
from tinyserver.sync.sent_members import DeviceMembers, SentMembers
from tinyserver.sync.service import MAX_TIMEOUT
from tinyserver.sync.sliding.catalogue import Catalogue
from tinyserver.sync.sliding.connections import Connection, Connections, token
from tinyserver.sync.sliding.extensions import ExtensionReader
from tinyserver.sync.sliding.planning import MAX_TIMELINE_LIMIT, Planner, SlidingPlan
from tinyserver.sync.sliding.rendering import render
from tinyserver.sync.sliding.requests import SlidingRequest
from tinyserver.sync.sliding.rooms import SlidingRoom, SlidingRooms
from tinyserver.sync.sources import Sources
from tinyserver.sync.waiting import Followers


@dataclass(slots=True)
class _Answer:
    """An answer without its token; `shown` are the members in it by room, `fresh` the rooms that begin with it."""

    text: bytes
    shown: dict[int, set[int]] = field(default_factory=dict)
    fresh: list[int] = field(default_factory=list)


class SlidingSyncService:
    """Answers requests of sliding sync.

    Args:
        db, bell, clock: what is stored, what tells of changes, and the time.
        sources: what is asked of other parts of the server.
        engine, followers: find out what is new; remember who follows.
    """

    def __init__(
        self, db: Database, bell: Bell, clock: Clock, sources: Sources, engine: SyncEngine, followers: Followers
    ) -> None:
        self._db = db
        self._bell = bell
        self._clock = clock
        self._sources = sources
        self._engine = engine
        self._followers = followers
        self._catalogue = Catalogue(bell)
        self._planner = Planner(db, bell, engine, self._catalogue)
        self._connections = Connections(db, bell)
        self._sent_members = SentMembers()
        self._limits: dict[int, FilterSet] = {}

    async def sync(self, request: SlidingRequest) -> bytes:
        """The answer in JSON, as soon as there is something new, or when the time is up.

        Raises:
            UnknownPos: the client must begin anew.
        """
        reader = request.reader
        self._sources.presence.synced(reader.user, reader.device, request.set_presence, request.timeout)
        key = (-reader.user if reader.device is None else reader.device, request.conn_id)
        connection, point = self._connections.open(key, request.pos)
        turn = connection.begin()
        await self._acknowledge(request)
        known = self._sent_members.asked(key, point)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(request.timeout, MAX_TIMEOUT)
        follower = self._followers.get(reader.user)
        while True:
            loaded = await self._planner.load(request)
            plan = self._planner.plan(request, connection.base, point, follower, loaded)
            left = deadline - loop.time()
            must_answer = point is None or left <= 0 or self._followers.closed
            answer = await self._carry_out(plan, known, must_answer=must_answer)
            if connection.turn != turn:  # the client has asked again meanwhile and does not wait for this
                return _nothing(request)
            if answer is not None:
                return self._finish(plan, connection, answer)
            connection.waiting = loop.create_future()
            await self._followers.wait(follower, plan.until, left, connection.waiting)
            if connection.turn != turn:
                return _nothing(request)

    async def close(self) -> None:
        """Store what has been sent."""
        await self._connections.close()

    async def _acknowledge(self, request: SlidingRequest) -> None:
        wanted = request.extensions.to_device
        if wanted is not None and 0 < wanted.since <= self._bell.position:
            await self._sources.devices.acknowledge(request.reader.user, request.reader.device, Point(wanted.since))

    def _finish(self, plan: SlidingPlan, connection: Connection, answer: _Answer) -> bytes:
        generation = self._connections.answered(connection, plan.sent)
        self._sent_members.answered(connection.key, plan.point, plan.until, answer.shown, answer.fresh)
        return b'{"pos":"%b",%b' % (token(plan.until, generation).encode(), answer.text)

    async def _carry_out(self, plan: SlidingPlan, known: DeviceMembers, *, must_answer: bool) -> _Answer | None:
        """The answer, or None if there is nothing to answer with yet."""
        now_ms = self._clock.now_ms()
        to_be_read = plan.to_be_read
        small = (
            plan.point is not None
            and len(to_be_read) <= ROOMS_AT_A_GLANCE
            and not any(task.is_new for task in to_be_read)
            and (plan.profiles is None or plan.profiles.since is not None)
            and (not plan.changed or len(plan.joined) <= ROOMS_COMPARED_AT_A_GLANCE)
        )

        def step(tx: ReadTransaction) -> _Answer | None:
            readers: dict[int, RoomReader] = {}
            found: list[SlidingRoom] = []
            shown: dict[int, set[int]] = {}
            for task in to_be_read:
                limit = min(task.config.timeline_limit, MAX_TIMELINE_LIMIT)
                if limit not in readers:
                    readers[limit] = self._reader(tx, plan, known, limit, on_loop=small)
                    readers[limit].members_shown = shown
                direct = plan.loaded.marks.direct
                room = SlidingRooms(tx, self._catalogue, direct, readers[limit]).read(task)
                if room is not None:
                    found.append(room)
            news = ExtensionReader(tx, plan, self._sources, {room.task.number: room for room in found}).read()
            if not (must_answer or found or news.is_news):
                return None
            fresh = [room.task.number for room in found if room.initial]
            return _Answer(render(tx, plan, found, news, now_ms), shown, fresh)

        return self._db.glance(step) if small else await self._db.read(step)

    def _reader(
        self, tx: ReadTransaction, plan: SlidingPlan, known: DeviceMembers, limit: int, *, on_loop: bool
    ) -> RoomReader:
        filters = self._limits.get(limit)
        if filters is None:
            room = RoomFilter(timeline=RoomEventFilter(limit=limit))
            filters = self._limits[limit] = FilterSet(Filter(room=room))
        request = SyncRequest(plan.request.reader, filters, state_after=("state_after",))
        return self._engine.room_reader(tx, request, plan.until.position, plan.ignored, known, on_loop=on_loop)


def _nothing(request: SlidingRequest) -> bytes:
    """The answer to a request that another one of the same connection has come after: it changes nothing."""
    if request.pos is None:
        raise UnknownPos("Another request has begun this connection anew.")
    return b'{"pos":"%b","lists":{},"rooms":{},"extensions":{}}' % request.pos.encode()
