"""What has to be looked at for one request of sliding sync, and what will have been sent with its answer.

All of this happens on the event loop, from what is remembered in memory; what is not is read first (`load`).

spec: MSC4186
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tinyserver.bell import Bell
from tinyserver.rooms.tokens import Point
from tinyserver.storage import events, timeline
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.transaction import ReadTransaction, Topic
from tinyserver.sync.engine import SyncEngine
from tinyserver.sync.profile_news import ProfileQuestion, question
from tinyserver.sync.sliding import lists
from tinyserver.sync.sliding.catalogue import Catalogue, RoomFacts, facts_from
from tinyserver.sync.sliding.lists import ArrangedList
from tinyserver.sync.sliding.requests import ALL_FIELDS, ListFilters, Scope, SlidingRequest
from tinyserver.sync.sliding.required_state import RoomConfig
from tinyserver.sync.sliding.sent import LIVE, NEVER, NOT_SENT, Sent, SentRoom, is_long
from tinyserver.sync.sliding.user_rooms import Marks, UserRoom, UserRooms, UserRoomsCache, read_marks, read_rooms
from tinyserver.sync.stripped import stripped_room
from tinyserver.sync.waiting import Follower

MAX_NEW_EVENTS = 5000
"""How many events of new rooms one answer has, a room by itself counting as ten; the next answer, which comes at once,
has more rooms."""
MAX_TIMELINE_LIMIT = 100
"""How many events of a room one answer has at most."""
READ_AT_A_GLANCE = 8
"""Of how many rooms what is not known is read on the event loop."""
_MATCHING_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """What memory knows, complete for one request."""

    rooms: UserRooms
    marks: Marks
    activity: Mapping[int, int]
    matching: Mapping[ListFilters, frozenset[int]]
    """The rooms that each filter lets through."""


@dataclass(frozen=True, slots=True)
class _Matching:
    """What a filter let through, and of which rooms and marks, and when."""

    found: frozenset[int]
    rooms: UserRooms
    marks: Marks
    read_at: int


@dataclass(slots=True)
class RoomTask:
    """A room that the client looks at.

    `sent` says what it has of it, `since` up to which position that is (`NEVER`: nothing). `may_have_changed` says
    that its events, state or membership may have, `counts_may_have_changed` that the user may have read something, and
    `direct_may_have_changed` that it may have become a direct chat, or no more be one.
    """

    room: UserRoom
    config: RoomConfig
    sent: SentRoom
    since: int
    lists: list[str] = field(default_factory=list)
    is_subscribed: bool = False
    may_have_changed: bool = True
    counts_may_have_changed: bool = True
    direct_may_have_changed: bool = True
    receipts_may_have_moved: bool = True

    @property
    def number(self) -> int:
        """The number of the room."""
        return self.room.row.room

    @property
    def is_new(self) -> bool:
        """Whether the client has nothing of it."""
        return self.since == NEVER

    @property
    def expands(self) -> bool:
        """Whether more events are wanted than when it was last sent."""
        return not self.is_new and self.config.timeline_limit > self.sent.config.timeline_limit

    @property
    def wants_more(self) -> bool:
        """Whether more is wanted than when it was last sent."""
        before = self.sent.config
        return self.expands or bool(self.config.state - before.state) or self.config.lazy_members > before.lazy_members

    @property
    def is_to_be_read(self) -> bool:
        """Whether there may be something to send of it."""
        return (
            self.is_new
            or self.may_have_changed
            or self.counts_may_have_changed
            or self.direct_may_have_changed
            or self.wants_more
        )

    def is_in(self, scope: Scope | None) -> bool:
        """Whether an extension is wanted for it."""
        if scope is None:
            return False
        if self.is_subscribed and (scope.rooms is None or self.room.room_id in scope.rooms):
            return True
        return bool(self.lists) and (scope.lists is None or not scope.lists.isdisjoint(self.lists))


@dataclass(slots=True)
class SlidingPlan:
    """What has to be looked at. `point` is the one of the client's token (None: it begins); `until` the point up to
    which the answer goes; `sent` what the client has once it has the answer; `typing` who is typing where that is news,
    `typing_now` who is typing anywhere; the rest is as in the engine's plan."""

    request: SlidingRequest
    base: Sent
    point: Point | None
    until: Point
    loaded: Loaded
    lists: Mapping[str, ArrangedList]
    tasks: Mapping[int, RoomTask]
    sent: Sent
    joined: frozenset[int]
    ignored: frozenset[str]
    changed: Sequence[int]
    typing: Mapping[int, Sequence[str]]
    typing_now: Mapping[int, Sequence[str]]
    personal: bool
    profiles: ProfileQuestion | None

    @property
    def since(self) -> int:
        """The position of the client's token; 0 if it begins."""
        return 0 if self.point is None else self.point.position

    @property
    def to_be_read(self) -> list[RoomTask]:
        """The rooms of which there may be something to send."""
        return [task for task in self.tasks.values() if task.is_to_be_read]


class Planner:
    """Makes plans.

    Args:
        db, bell: where changes are stored, and what tells of them.
        engine: knows what any sync must look at.
        catalogue: what is remembered of rooms.
    """

    def __init__(self, db: Database, bell: Bell, engine: SyncEngine, catalogue: Catalogue) -> None:
        self._db = db
        self._bell = bell
        self._engine = engine
        self._catalogue = catalogue
        self._user_rooms = UserRoomsCache(bell)
        self._matching: BoundedCache[tuple[int, ListFilters], _Matching] = BoundedCache(
            _MATCHING_BYTES, lambda each: 500 + 50 * len(each.found)
        )

    # -- what memory must know -------------------------------------------------------------------

    async def load(self, request: SlidingRequest) -> Loaded:
        """Everything that a plan for now needs, read where it is not known."""
        user = request.reader.user
        filters = {spec.filters for spec in request.lists.values()}
        tags = any(each.asks_for_tags for each in filters)
        read_facts: dict[int, RoomFacts] = {}
        read_places: dict[int, int] = {}  # memory may have no place for all of them
        while True:
            rooms, marks = self._user_rooms.rooms(user), self._user_rooms.marks(user, tags=tags)
            if rooms is None or marks is None:
                await self._read_user(user, rooms, tags=tags)
                continue
            numbers = [number for number, each in rooms.by_room.items() if each.membership is Membership.JOIN]
            activity, inactive = self._catalogue.activity(numbers)
            matching, unmatched = self._known_matching(user, filters, rooms, marks)
            wants_facts = any(each.asks_for_facts for each in unmatched)
            facts, unknown = self._catalogue.facts(rooms.by_room) if wants_facts else ({}, [])
            unknown = [room for room in unknown if room not in read_facts]
            if not unknown and all(room in read_places for room in inactive):
                last = self._bell.changes[Topic.TIMELINE].last
                activity |= {room: max(read_places[room], last(room)) for room in inactive}
                for each in unmatched:
                    matching[each] = lists.matching(each, rooms, {**read_facts, **facts}, marks)
                    found = _Matching(matching[each], rooms, marks, self._bell.position)
                    self._matching.put((user, each), found)
                return Loaded(rooms, marks, activity, matching)
            places, more_facts = await self._read_rooms(rooms, inactive, unknown)
            read_places |= places
            read_facts |= more_facts

    def _known_matching(
        self, user: int, filters: Collection[ListFilters], rooms: UserRooms, marks: Marks
    ) -> tuple[dict[ListFilters, frozenset[int]], list[ListFilters]]:
        """What filters let through as far as it is remembered, and the filters of which it must be found out."""
        known: dict[ListFilters, frozenset[int]] = {}
        unmatched = []
        newest_state = self._bell.newest((Topic.STATE,))
        for each in filters:
            found = self._matching.get((user, each))
            is_sound = found is not None and found.rooms is rooms and found.marks.says_the_same_as(marks)
            if found is not None and is_sound and (newest_state <= found.read_at or not each.asks_for_facts):
                known[each] = found.found
            else:
                unmatched.append(each)
        return known, unmatched

    async def _read_user(self, user: int, rooms: UserRooms | None, *, tags: bool) -> None:
        position = self._bell.position
        if rooms is not None and not tags:  # changes with all that concerns the user, and is one look-up
            marks = self._db.glance(lambda tx: read_marks(tx, user, position, tags=False))
            self._user_rooms.learn(user, rooms, marks, tags=tags)
            return

        def step(tx: ReadTransaction) -> tuple[UserRooms, Marks]:
            return read_rooms(tx, user, position), read_marks(tx, user, position, tags=tags)

        found, marks = await self._db.read(step)
        self._user_rooms.learn(user, found, marks, tags=tags)

    async def _read_rooms(
        self, rooms: UserRooms, inactive: Collection[int], unknown: Collection[int]
    ) -> tuple[dict[int, int], dict[int, RoomFacts]]:
        position = self._bell.position

        def step(tx: ReadTransaction) -> tuple[dict[int, int], dict[int, RoomFacts]]:
            facts = {room: self._read_facts(tx, rooms.by_room[room], position) for room in unknown}
            return timeline.newest_places(tx, inactive), facts

        few = len(inactive) + len(unknown) <= READ_AT_A_GLANCE
        places, facts = self._db.glance(step) if few else await self._db.read(step)
        places = {**dict.fromkeys(inactive, 0), **places}
        self._catalogue.learn_activity(places)
        self._catalogue.learn_facts(facts)
        return places, facts

    def _read_facts(self, tx: ReadTransaction, room: UserRoom, position: int) -> RoomFacts:
        number = room.row.room
        facts = self._catalogue.read_facts(tx, number, position)
        if facts is not None:
            return facts
        stripped = stripped_room(tx, number, room.room_id, events.get(tx, room.row.event), position)
        contents = {str(each["type"]): each["content"] for each in stripped.state if each["state_key"] == ""}
        return facts_from(position, contents)

    # -- the plan --------------------------------------------------------------------------------

    def plan(
        self, request: SlidingRequest, base: Sent, point: Point | None, follower: Follower, loaded: Loaded
    ) -> SlidingPlan:
        """Decide what to look at, as of now, which is when `loaded` was made.

        Args:
            base: what was sent before.
            point: up to where.
        """
        bell = self._bell
        until = Point(bell.position, bell.moment, bell.tag)
        since = 0 if point is None else point.position
        moment = 0 if point is None or point.tag != bell.tag else point.moment
        joined, ignored = self._engine.read_follower(follower, until.position)
        typing = self._engine.typing_news(joined, moment, ignored)
        typing_now = typing if moment == 0 else self._engine.typing_news(joined, 0, ignored)
        in_order = self._in_order(request, base, since, ignored, loaded)
        arranged = {}
        for name, spec in request.lists.items():
            matching = loaded.matching[spec.filters]
            arranged[name] = lists.arrange(spec.ranges, [each for each in in_order if each.row.room in matching])
        tasks = self._tasks(request, base, since, ignored, loaded, arranged)
        tasks = _at_most(tasks, MAX_NEW_EVENTS)
        changed: Sequence[int] = ()
        if request.extensions.e2ee and point is not None:
            changed = self._engine.changed_rooms(joined, since, {})
        personal = point is None or bell.changes[Topic.USER].changed(request.reader.user, since)
        sent = self._sent_after(request, base, since, tasks, loaded, personal=personal)
        return SlidingPlan(
            request,
            base,
            point,
            until,
            loaded,
            arranged,
            tasks,
            sent,
            joined,
            ignored,
            changed,
            typing,
            typing_now,
            personal,
            self._profiles(request, base, point),
        )

    def _profiles(self, request: SlidingRequest, base: Sent, point: Point | None) -> ProfileQuestion | None:
        wanted = request.extensions.profiles
        if wanted is None:
            return None
        known = base.profiles or ()
        covers = set(wanted.names) <= set(known) or ALL_FIELDS in known
        has_all = point is not None and base.profiles is not None and covers
        return question(self._bell, wanted.fields, point.position if point is not None and has_all else None)

    def _in_order(
        self, request: SlidingRequest, base: Sent, since: int, ignored: Collection[str], loaded: Loaded
    ) -> list[UserRoom]:
        """The rooms that lists may show, the one first where something happened last."""
        user_id = request.reader.user_id

        def is_shown(each: UserRoom) -> bool:
            if each.row.membership is Membership.JOIN:
                return True
            if each.membership is Membership.INVITE:
                return each.sender not in ignored and not loaded.marks.hides_invites
            if each.is_listed_for(user_id):
                return True
            known = _since(base.rooms.get(each.row.room, NOT_SENT).room, since)
            return known != NEVER and each.row.position > known  # the client must see that it is over

        shown = [each for each in loaded.rooms.by_room.values() if is_shown(each)]
        activity = loaded.activity

        def newest(each: UserRoom) -> tuple[int, int]:
            row = each.row
            return (activity[row.room] if row.membership is Membership.JOIN else row.position, row.room)

        shown.sort(key=newest, reverse=True)
        return shown

    def _tasks(
        self,
        request: SlidingRequest,
        base: Sent,
        since: int,
        ignored: Collection[str],
        loaded: Loaded,
        arranged: Mapping[str, ArrangedList],
    ) -> dict[int, RoomTask]:
        tasks: dict[int, RoomTask] = {}
        for room_id, config in request.subscriptions.items():
            room = loaded.rooms.by_id.get(room_id)
            if room is None:
                continue
            if room.membership is Membership.INVITE and (room.sender in ignored or loaded.marks.hides_invites):
                continue
            if room.was_in or not room.is_over or room.row.room in base.rooms:
                tasks[room.row.room] = self._task(room, config, base, since, loaded)
                tasks[room.row.room].is_subscribed = True
        for name, each in arranged.items():
            config = request.lists[name].config
            for room in each.shown:
                task = tasks.get(room.row.room)
                if task is None:
                    task = tasks[room.row.room] = self._task(room, config, base, since, loaded)
                else:
                    task.config = task.config.joined_with(config)
                if name not in task.lists:
                    task.lists.append(name)
        return tasks

    def _task(self, room: UserRoom, config: RoomConfig, base: Sent, since: int, loaded: Loaded) -> RoomTask:
        number = room.row.room
        sent = base.rooms.get(number, NOT_SENT)
        known = _since(sent.room, since)
        changes = self._bell.changes
        is_joined = room.membership is Membership.JOIN
        return RoomTask(
            room,
            config,
            sent,
            known,
            may_have_changed=room.row.position > known
            or (is_joined and (loaded.activity[number] > known or changes[Topic.STATE].changed(number, known))),
            counts_may_have_changed=is_joined and changes[Topic.RECEIPT].changed(number, known),
            direct_may_have_changed=loaded.marks.direct_changed > known,
            receipts_may_have_moved=is_joined
            and sent.receipts != NEVER
            and changes[Topic.RECEIPT].changed(number, _since(sent.receipts, since)),
        )

    # -- what will have been sent ----------------------------------------------------------------

    def _sent_after(
        self,
        request: SlidingRequest,
        base: Sent,
        since: int,
        tasks: Mapping[int, RoomTask],
        loaded: Loaded,
        *,
        personal: bool,
    ) -> Sent:
        wanted = request.extensions
        # What changes while nobody asks for it is lost to the client, which must then have all of it again.
        keeps_data = wanted.account_data is not None or not personal
        rooms = dict(base.rooms)
        shared: dict[SentRoom, SentRoom] = {}
        for number in self._touched(request, base, since, keeps_data=keeps_data):
            if number in rooms and number not in tasks:
                rooms[number] = self._unseen(number, rooms[number], since, loaded, keeps_data=keeps_data)
        for number, task in tasks.items():
            receipts = task.sent.receipts
            if task.is_in(wanted.receipts):
                receipts = LIVE
            elif receipts == LIVE and self._bell.changes[Topic.RECEIPT].changed(number, since):
                receipts = since
            data = task.is_in(wanted.account_data) or (task.sent.account_data and keeps_data)
            now = SentRoom(LIVE, receipts, data, task.config)
            rooms[number] = task.sent if now == task.sent else shared.setdefault(now, now)
        return Sent(
            0,
            rooms,
            account_data=wanted.account_data is not None or (base.account_data and keeps_data),
            threads=wanted.threads is not None or (base.threads and not personal),
            profiles=None if wanted.profiles is None else wanted.profiles.names,
            has_long_wishes=any(is_long(task.config) for task in tasks.values()),
        )

    def _touched(self, request: SlidingRequest, base: Sent, since: int, *, keeps_data: bool) -> Iterable[int]:
        """The rooms of which the client may have less from now on, if it does not look at them: those in which
        something happened after a position, among others."""
        changes = self._bell.changes
        topics = (Topic.TIMELINE, Topic.STATE, Topic.RECEIPT)
        if (
            not keeps_data
            or base.has_long_wishes
            or any(since < changes[topic].complete_since for topic in topics)
            or changes[Topic.MEMBERSHIP].changed(request.reader.user, since)
        ):
            return list(base.rooms)
        return {number for topic in topics for number in changes[topic].after(since)}

    def _unseen(self, number: int, sent: SentRoom, since: int, loaded: Loaded, *, keeps_data: bool) -> SentRoom:
        """What the client has of a room that it does not look at: it stays where it was if something happened."""
        changes = self._bell.changes
        room = loaded.rooms.by_room.get(number)
        known, receipts, data = sent.room, sent.receipts, sent.account_data and keeps_data
        if known == LIVE:
            is_joined = room is not None and room.membership is Membership.JOIN
            if (
                room is None
                or room.row.position > since
                or (is_joined and (loaded.activity[number] > since or changes[Topic.STATE].changed(number, since)))
            ):
                known = since
        if receipts == LIVE and changes[Topic.RECEIPT].changed(number, since):
            receipts = since
        now = SentRoom(known, receipts, data, _remembered(sent.config))
        return sent if now == sent else now


def _since(sent: int, since: int) -> int:
    return since if sent == LIVE else sent


def _at_most(tasks: dict[int, RoomTask], limit: int) -> dict[int, RoomTask]:
    """The rooms with a limited number of new ones among them, one at least."""
    size = 0
    kept = {}
    for number, task in tasks.items():
        if task.is_new:
            if size >= limit:
                continue
            size += 10 + min(task.config.timeline_limit, MAX_TIMELINE_LIMIT)
        kept[number] = task
    return kept


def _remembered(config: RoomConfig) -> RoomConfig:
    """What is remembered of a wish for a room that the client does not look at now: if it is long, that there was
    none, so that the client gets the state again when it wishes for it again."""
    return RoomConfig(config.timeline_limit) if is_long(config) else config
