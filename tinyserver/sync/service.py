"""One call of `/sync` from beginning to end: look, and if there is nothing, wait and look again.

spec: client-server-api#syncing
"""

from __future__ import annotations

import asyncio

from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.rooms.tokens import Point
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync.engine import Plan, SyncEngine
from tinyserver.sync.requests import SyncRequest
from tinyserver.sync.sent_members import NOTHING_KNOWN, DeviceMembers, SentMembers
from tinyserver.sync.sources import Sources
from tinyserver.sync.updates import SyncUpdate
from tinyserver.sync.v3 import V3Rendering, empty_answer
from tinyserver.sync.waiting import Followers

MAX_TIMEOUT = 300.0
"""Seconds that a client may wait at most."""


class SyncService:
    """Answers sync requests.

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
        self._sent_members = SentMembers()

    async def sync(self, request: SyncRequest) -> bytes:
        """The answer in JSON, as soon as there is something new, or when the time is up.

        A token from the future (a database restored from a copy) counts as the present.
        """
        reader, filters = request.reader, request.filters
        self._sources.presence.synced(reader.user, reader.device, request.set_presence, request.timeout)
        known = NOTHING_KNOWN
        remembers = filters.lazy_members and not filters.redundant_members and reader.device is not None
        if remembers and reader.device is not None:
            known = self._sent_members.asked(reader.device, request.since)
        update, text = await self._look_until_news(request, known)
        if remembers and reader.device is not None:
            self._sent_members.answered(reader.device, request.since, update.next, update.members_shown, update.begun)
        return text

    def close(self) -> None:
        """Answer all who wait: the server is about to stop."""
        self._followers.close()

    async def _look_until_news(self, request: SyncRequest, known: DeviceMembers) -> tuple[SyncUpdate, bytes]:
        since = request.since
        if since is not None and since.position > self._bell.position:
            since = Point(self._bell.position)
        if since is not None:
            await self._sources.devices.acknowledge(request.reader.user, request.reader.device, since)
        must_answer = since is None or request.full_state
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(request.timeout, MAX_TIMEOUT)
        follower = self._followers.get(request.reader.user)
        while True:
            if must_answer or not self._is_now(since) or follower.joined is None:
                plan = self._engine.plan(request, since, follower, known)
                if must_answer or not plan.is_empty:
                    update, text = await self._carry_out(plan, must_answer=must_answer)
                    if text is not None:
                        return update, text
                since = plan.until
            assert since is not None
            left = deadline - loop.time()
            if left <= 0 or not await self._followers.wait(follower, since, left):
                keys_left = self._sources.devices.keys_left(request.reader.user, request.reader.device)
                return SyncUpdate(since), empty_answer(since, keys_left)

    def _is_now(self, point: Point | None) -> bool:
        bell = self._bell
        return (
            point is not None
            and point.messages is None
            and point.position == bell.position
            and point.moment == bell.moment
            and point.tag == bell.tag
        )

    async def _carry_out(self, plan: Plan, *, must_answer: bool) -> tuple[SyncUpdate, bytes | None]:
        now_ms = self._clock.now_ms()
        small = plan.is_small

        def step(tx: ReadTransaction) -> tuple[SyncUpdate, bytes | None]:
            update = self._engine.carry_out(tx, plan, on_loop=small)
            if not must_answer and not update.is_news:
                return update, None
            return update, V3Rendering(tx, plan.request, now_ms, plan.ignored).render(update)

        return self._db.glance(step) if small else await self._db.read(step)
