"""What came before `/sync`, as far as the specification still lists it: `/initialSync` and `/events`, for all rooms of
a user or for a single one, which they may only be peeking into.

spec: client-server-api#syncing, client-server-api#room-previews
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tinyserver.accounts.requester import Requester
from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.protocol.filters import Filter, RoomEventFilter, RoomFilter
from tinyserver.rooms.long_list import LongList
from tinyserver.rooms.member_checks import wants_invites
from tinyserver.rooms.rendering import EventRenderer, json_text
from tinyserver.rooms.tokens import Point, pagination_token
from tinyserver.rooms.visibility import ALWAYS, RoomView, Sight, end_of_stay, open_view
from tinyserver.storage import account_data, events, memberships, rooms, state_trie, timeline
from tinyserver.storage.database import Database
from tinyserver.storage.membership_changes import changed_since
from tinyserver.storage.memberships import Membership
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync.engine import Plan, SyncEngine
from tinyserver.sync.requests import FilterSet, Reader, SyncRequest
from tinyserver.sync.service import MAX_TIMEOUT
from tinyserver.sync.sources import Sources
from tinyserver.sync.updates import RoomUpdate, StrippedRoom
from tinyserver.sync.v3 import receipt_contents
from tinyserver.sync.waiting import Followers
from tinyserver.sync.windows import open_window

DEFAULT_LIMIT = 10
"""How many messages of a room are given if the client does not say."""
MAX_CHUNK = 100
"""How many events one answer of `/events` holds."""


@dataclass(frozen=True, slots=True)
class RoomSnapshot:
    """A room for `/rooms/{roomId}/initialSync`: JSON text up to the list of state events, and that list."""

    prefix: bytes
    state: LongList


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The part of a room's order that a user gets news of: after `since`, up to the place `until`."""

    room: int
    since: int
    until: int
    sight: Sight


class LegacySync:
    """Answers the old requests.

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

    # -- /events ---------------------------------------------------------------------------------

    async def events(self, reader: Reader, since: Point | None, timeout: float) -> bytes:
        """The next events of all rooms of a user.

        Args:
            since: None: from now on.
            timeout: seconds to wait for some.
        """
        start = point = self._valid(since)
        follower = self._followers.get(reader.user)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(timeout, MAX_TIMEOUT)
        while True:
            plan = self._engine.plan(SyncRequest(reader), point, follower)
            step = partial(self._news, plan=plan, since=point, now_ms=self._clock.now_ms())
            chunk, point = await self._db.read(step)
            left = deadline - loop.time()
            if chunk or left <= 0 or not await self._followers.wait(follower, point, left):
                return _chunk(start, point, chunk)

    async def room_events(self, requester: Requester, room_id: str, since: Point | None, timeout: float) -> bytes:
        """The next events of a room that the user is in, or may peek into.

        Raises:
            Forbidden: neither.
        """
        start = point = self._valid(since)
        reader = Reader(requester.user_id, requester.user_nid, requester.device_nid)

        def step(tx: ReadTransaction, position: int, now_ms: int) -> tuple[int, list[bytes], int]:
            view = open_view(tx, room_id, requester)
            stretch = _Stretch(view.room.nid, point.position, min(view.newest, position), view.sight)
            found, horizon = _events_of(tx, [stretch], frozenset())
            return view.room.nid, _render(tx, reader, found, now_ms), min(horizon, position)

        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(timeout, MAX_TIMEOUT)
        while True:
            moment = self._bell.moment
            read = partial(step, position=self._bell.position, now_ms=self._clock.now_ms())
            room, chunk, reached = await self._db.read(read)
            point = Point(reached, moment, self._bell.tag)
            left = deadline - loop.time()
            if chunk or left <= 0 or not await self._followers.wait_for_room(room, point, left):
                return _chunk(start, point, chunk)

    def _valid(self, since: Point | None) -> Point:
        bell = self._bell
        if since is None or since.position > bell.position:
            return Point(bell.position, bell.moment, bell.tag)
        return since

    def _news(self, tx: ReadTransaction, *, plan: Plan, since: Point, now_ms: int) -> tuple[list[bytes], Point]:
        """What `/events` tells after a point, and the point that it reaches."""
        reader, until = plan.request.reader, plan.until.position
        stretches = [
            _Stretch(room, since.position, until, Sight(tx, reader.user, reader.user_id, ALWAYS))
            for room in plan.changed
        ]
        invites: list[StoredEvent] = []
        for row in changed_since(tx, reader.user, since.position) if plan.memberships else ():
            if row.position > until or row.membership is Membership.JOIN:
                continue
            if row.membership in (Membership.INVITE, Membership.KNOCK):
                member = events.get(tx, row.event)
                if member.event.sender not in plan.ignored and wants_invites(tx, reader.user):
                    invites.append(member)
                continue
            end = end_of_stay(tx, row)
            if end is not None and end > since.position:
                stretches.append(_Stretch(row.room, since.position, end, Sight(tx, reader.user, reader.user_id, end)))
        found, horizon = _events_of(tx, stretches, plan.ignored)
        found += [
            (member, Sight(tx, reader.user, reader.user_id, ALWAYS))
            for member in invites
            if (member.place or 0) <= horizon
        ]
        chunk = _render(tx, reader, found, now_ms)
        if horizon < until:
            return chunk, Point(horizon, since.moment, since.tag)
        chunk += map(json_text, self._ephemeral(tx, plan, since))
        return chunk, plan.until

    def _ephemeral(self, tx: ReadTransaction, plan: Plan, since: Point) -> Iterable[Mapping[str, Any]]:
        yield from plan.presence
        for room in plan.changed:
            room_id = rooms.get(tx, room).room_id
            if room in plan.typing:
                yield {"type": "m.typing", "room_id": room_id, "content": {"user_ids": list(plan.typing[room])}}
            moved = self._sources.receipts.visible_since(
                tx, room, plan.request.reader.user, max(since.position, 1), plan.until.position
            )
            for content in receipt_contents(moved):
                yield {"type": "m.receipt", "room_id": room_id, "content": content}

    # -- /initialSync ----------------------------------------------------------------------------

    async def initial_sync(self, reader: Reader, limit: int | None, *, archived: bool) -> bytes:
        """All rooms of a user with their newest messages.

        Args:
            limit: messages for each room.
            archived: whether rooms that the user has left are wanted too.
        """
        wanted = RoomFilter(
            include_leave=archived, timeline=RoomEventFilter(limit=DEFAULT_LIMIT if limit is None else max(limit, 0))
        )
        request = SyncRequest(reader, FilterSet(Filter(room=wanted)), state_after=("state",))
        plan = self._engine.plan(request, None, self._followers.get(reader.user))
        now_ms = self._clock.now_ms()

        def step(tx: ReadTransaction) -> bytes:
            update = self._engine.carry_out(tx, plan, on_loop=False)
            infos = [self._room(tx, reader, room, "join", plan.until, now_ms) for room in update.each_joined()]
            infos += [self._invite(tx, reader, room, now_ms) for room in update.invited]
            for room in update.left:
                row = memberships.get(tx, room.room, reader.user)
                kind = "ban" if row is not None and row.membership is Membership.BAN else "leave"
                infos.append(self._room(tx, reader, room, kind, plan.until, now_ms))
            general = [b'{"type":%b,"content":%b}' % (json_text(row.type), row.content) for row in update.account_data]
            if update.push_rules is not None:
                general.append(json_text({"type": "m.push_rules", "content": update.push_rules}))
            return b'{"end":"%b","rooms":[%b],"presence":%b,"account_data":[%b]}' % (
                str(plan.until).encode(),
                b",".join(infos),
                json_text(list(update.presence)),
                b",".join(general),
            )

        return await self._db.read(step)

    def _room(
        self, tx: ReadTransaction, reader: Reader, room: RoomUpdate, membership: str, until: Point, now_ms: int
    ) -> bytes:
        renderer = EventRenderer(tx, now_ms, reader.device, room_id=room.room_id)
        sight = room.sight
        messages = [
            renderer.timeline_event(stored, "join" if sight is None else sight.membership_in(stored.state), sight)
            for stored in room.window.events
        ]
        data = [b'{"type":%b,"content":%b}' % (json_text(row.type), row.content) for row in room.account_data]
        return b"{%b,%b%b]}" % (
            _room_head(tx, room.room, membership),
            _room_body(messages, room.window.start, until, data),
            b",".join(map(renderer.state_event, room.state)),
        )

    @staticmethod
    def _invite(tx: ReadTransaction, reader: Reader, room: StrippedRoom, now_ms: int) -> bytes:
        renderer = EventRenderer(tx, now_ms, reader.device, room_id=room.room_id)
        return b'{%b,"invite":%b}' % (_room_head(tx, room.room, "invite"), renderer.state_event(room.member))

    async def room_initial_sync(self, requester: Requester, room_id: str) -> RoomSnapshot:
        """A room with its state and newest messages, for those who are in it, were in it, or may peek into it.

        Raises:
            Forbidden: none of that.
        """
        until = Point(self._bell.position, self._bell.moment, self._bell.tag)
        now_ms = self._clock.now_ms()

        def step(tx: ReadTransaction) -> RoomSnapshot:
            view = open_view(tx, room_id, requester)
            return self._snapshot(tx, requester, view, until, now_ms)

        return await self._db.read(step)

    def _snapshot(
        self, tx: ReadTransaction, requester: Requester, view: RoomView, until: Point, now_ms: int
    ) -> RoomSnapshot:
        room = view.room
        newest = min(view.newest, until.position)
        window = open_window(tx, room.nid, None, newest, DEFAULT_LIMIT, view.sight.sees)
        renderer = EventRenderer(tx, now_ms, requester.device_nid, room_id=room.room_id)
        messages = [
            renderer.timeline_event(stored, view.sight.membership_in(stored.state), view.sight)
            for stored in window.events
        ]
        row = memberships.get(tx, room.nid, requester.user_nid)
        data = [
            b'{"type":%b,"content":%b}' % (json_text(stored.type), stored.content)
            for stored in account_data.of_room(tx, requester.user_nid, room.room_id)
        ]
        head = _room_head(tx, room.nid, None if row is None else row.membership.name.lower())
        nids = sorted(nid for _, nid in state_trie.items(tx, view.root))

        def render(tx: ReadTransaction, batch: Sequence[int]) -> list[bytes]:
            found = events.get_many(tx, batch, keep=False)
            renderer = EventRenderer(tx, now_ms, requester.device_nid, room_id=room.room_id)
            return [renderer.state_event(found[nid]) for nid in batch if nid in found]

        prefix = b"{%b,%b" % (head, _room_body(messages, window.start, until, data))
        return RoomSnapshot(prefix, LongList(tx, self._db, nids, render))


def _events_of(
    tx: ReadTransaction, stretches: Iterable[_Stretch], ignored: frozenset[str]
) -> tuple[list[tuple[StoredEvent, Sight]], int]:
    """The oldest events of some stretches that their readers see, in the one order, and the place up to which they are
    all there."""
    horizon = ALWAYS
    found: list[tuple[StoredEvent, Sight]] = []
    for stretch in stretches:
        nids = timeline.after(tx, stretch.room, stretch.since, MAX_CHUNK, until=stretch.until)
        stored_events = events.get_many(tx, nids)
        if len(nids) == MAX_CHUNK:
            horizon = min(horizon, stored_events[nids[-1]].place or horizon)
        for nid in nids:
            stored = stored_events[nid]
            is_heard = stored.event.state_key is not None or stored.event.sender not in ignored
            if is_heard and stretch.sight.sees(stored):
                found.append((stored, stretch.sight))
    found.sort(key=lambda pair: pair[0].place or 0)
    if len(found) > MAX_CHUNK:
        horizon = min(horizon, found[MAX_CHUNK - 1][0].place or horizon)
    return [pair for pair in found if (pair[0].place or 0) <= horizon], horizon


def _render(
    tx: ReadTransaction, reader: Reader, found: Sequence[tuple[StoredEvent, Sight]], now_ms: int
) -> list[bytes]:
    texts = []
    for stored, sight in found:
        renderer = EventRenderer(tx, now_ms, reader.device, room_id=stored.event.room_id)
        texts.append(renderer.timeline_event(stored, sight.membership_in(stored.state), sight))
    return texts


def _chunk(start: Point, end: Point, chunk: Sequence[bytes]) -> bytes:
    return b'{"start":"%b","end":"%b","chunk":[%b]}' % (str(start).encode(), str(end).encode(), b",".join(chunk))


def _room_head(tx: ReadTransaction, room: int, membership: str | None) -> bytes:
    row = rooms.get(tx, room)
    head = {"room_id": row.room_id, "visibility": "public" if row.is_public else "private"}
    if membership is not None:
        head["membership"] = membership
    return json_text(head)[1:-1]


def _room_body(messages: Sequence[bytes], start: int, until: Point, data: Sequence[bytes]) -> bytes:
    """The rest of a room's JSON, up to the list of state events."""
    return b'"messages":{"chunk":[%b],"start":"%b","end":"%b"},"account_data":[%b],"state":[' % (
        b",".join(messages),
        pagination_token(start).encode(),
        str(until).encode(),
        b",".join(data),
    )
