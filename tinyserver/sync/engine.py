"""The engine: what changed for this user and device after one point of the order, up to another.

On the event loop it is decided what has to be looked at (`plan`), from what is remembered in memory: a sync with
little to do looks at the rooms that changed and at no others. Then the plan is carried out in one transaction
(`carry_out`), at once if it is small, on a reader thread if it is not.

spec: client-server-api#syncing
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from tinyserver.accounts.ignored_users import IGNORED_USER_LIST, ignored_user_ids
from tinyserver.bell import Bell
from tinyserver.rooms.member_checks import wants_invites
from tinyserver.rooms.partial_state import PartialRooms
from tinyserver.rooms.tokens import Point
from tinyserver.storage import account_data, events, memberships, names
from tinyserver.storage.account_data import AccountDataRow
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.database import Database
from tinyserver.storage.membership_changes import changed_since, member_event_at
from tinyserver.storage.memberships import Membership, MembershipRow
from tinyserver.storage.transaction import ReadTransaction, Topic
from tinyserver.sync.profile_news import ProfileQuestion, question, read_profiles
from tinyserver.sync.requests import SyncRequest
from tinyserver.sync.rooms import RoomReader
from tinyserver.sync.sent_members import NOTHING_KNOWN, DeviceMembers
from tinyserver.sync.sources import Sources
from tinyserver.sync.stripped import stripped_room
from tinyserver.sync.unread import SharedUnread
from tinyserver.sync.updates import SyncUpdate
from tinyserver.sync.waiting import Follower, Followers
from tinyserver.sync.windows import SharedWindows

ROOMS_AT_A_GLANCE = 4
"""Up to how many rooms are read on the event loop instead of a reader thread."""
ROOMS_COMPARED_AT_A_GLANCE = 50
"""Up to how many rooms in common are looked for there when the devices of users have changed."""
_ROOM_ID_BYTES = 500_000

_STATES_OF = {"join": Membership.JOIN, "invite": Membership.INVITE, "knock": Membership.KNOCK, "ban": Membership.BAN}


class Plan(msgspec.Struct, frozen=True):
    """What has to be looked at for one request.

    `since` is None for a first sync, and so is `device_since`, the same point with what it says of the device; `until`
    is the point up to which the answer goes; `joined` the rooms the user is in at that point, but for those that are
    `hidden`, because the device wants all members and they are still to come; `changed` those of them
    that may have changed; `memberships`, `personal` and `devices` say whether the user's memberships, account data and
    the like, or the devices of anybody may have changed.
    """

    request: SyncRequest
    since: int | None
    device_since: Point | None
    until: Point
    joined: frozenset[int]
    changed: Sequence[int]
    memberships: bool
    personal: bool
    devices: bool
    ignored: frozenset[str]
    typing: Mapping[int, Sequence[str]]
    presence: Sequence[Mapping[str, object]]
    known: DeviceMembers
    hidden: frozenset[int] = frozenset()
    profiles: ProfileQuestion | None = None

    @property
    def is_small(self) -> bool:
        """Whether carrying it out takes less time than handing it to a thread."""
        if self.since is None or self.memberships or len(self.changed) > ROOMS_AT_A_GLANCE:
            return False
        if self.profiles is not None and self.profiles.since is None:
            return False
        return not self.devices or len(self.joined) <= ROOMS_COMPARED_AT_A_GLANCE

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to look at."""
        return self.since is not None and not (
            self.changed
            or self.memberships
            or self.personal
            or self.devices
            or self.presence
            or self.profiles is not None
        )


class SyncEngine:
    """Finds out what is new.

    Args:
        db, bell: where changes are stored, and what tells of them.
        sources: what is asked of other parts of the server.
        followers: what is remembered of users.
        partial: rooms whose members are not all known.
    """

    def __init__(self, db: Database, bell: Bell, sources: Sources, followers: Followers, partial: PartialRooms) -> None:
        self._partial = partial
        self._db = db
        self._bell = bell
        self._sources = sources
        self._followers = followers
        self._windows = SharedWindows(bell)
        self._unread = SharedUnread(bell, sources.unread)
        self._room_ids: BoundedCache[int, str] = BoundedCache(_ROOM_ID_BYTES, lambda room_id: len(room_id) + 150)

    # -- what has to be looked at ----------------------------------------------------------------

    def plan(
        self, request: SyncRequest, since: Point | None, follower: Follower, known: DeviceMembers = NOTHING_KNOWN
    ) -> Plan:
        """Decide what to look at, as of now.

        Args:
            since: the point after which changes are wanted; None: everything.
            known: the members that the device knows.
        """
        bell = self._bell
        until = Point(bell.position, bell.moment, bell.tag)
        user = request.reader.user
        joined, ignored = self.read_follower(follower, until.position)
        hidden = frozenset[int]() if request.filters.lazy_members else self._partial.now & joined
        joined -= hidden
        moment = 0 if since is None or since.tag != bell.tag else since.moment
        presence: Sequence[Mapping[str, object]] = ()
        if moment < until.moment:
            presence = self._sources.presence.changed_since(user, moment)
            if ignored:
                presence = [event for event in presence if event["sender"] not in ignored]
        typing = self.typing_news(joined, moment, ignored)
        if since is None:
            return Plan(
                request,
                None,
                None,
                until,
                joined,
                sorted(joined),
                True,
                True,
                True,
                ignored,
                typing,
                presence,
                known,
                hidden,
                question(bell, request.filters.profile_fields, None),
            )
        position = since.position
        changed = sorted(joined) if request.full_state else self.changed_rooms(joined, position, typing)
        return Plan(
            request,
            position,
            since,
            until,
            joined,
            changed,
            bell.changes[Topic.MEMBERSHIP].changed(user, position) or position < self._partial.newest_completion,
            bell.changes[Topic.USER].changed(user, position),
            since.messages is not None or bell.newest((Topic.DEVICE_LIST,)) > position,
            ignored,
            typing,
            presence,
            known,
            hidden,
            question(bell, request.filters.profile_fields, position),
        )

    def read_follower(self, follower: Follower, position: int) -> tuple[frozenset[int], frozenset[str]]:
        """The rooms that a user is in, and whom the user ignores (IDs), as of the newest position."""
        joined, ignored = follower.joined, follower.ignored
        if joined is None:
            joined = self._db.glance(lambda tx: _joined_at(tx, follower.user, position))
            self._followers.set_joined(follower, joined)
        if ignored is None:
            ignored = follower.ignored = self._db.glance(lambda tx: _ignored_by(tx, follower.user))
        return joined, ignored

    def typing_news(self, joined: frozenset[int], moment: int, ignored: frozenset[str]) -> dict[int, Sequence[str]]:
        """Who is typing, in those of some rooms where that changed after a moment; from 0 where anybody is. Users who
        are `ignored` type unseen."""
        typing: dict[int, Sequence[str]] = {}
        if self._bell.moment > moment:
            for room in self._bell.room_moments.after(moment):
                if room in joined:
                    users = [user for user in self._sources.typing.users_in(room) if user not in ignored]
                    if users or moment:
                        typing[room] = users
        return typing

    def changed_rooms(self, joined: frozenset[int], since: int, typing: Mapping[int, Sequence[str]]) -> Sequence[int]:
        """Those of some rooms in which something may have happened after a position, or somebody is typing."""
        changed = set(typing)
        for topic in (Topic.TIMELINE, Topic.RECEIPT):
            changes = self._bell.changes[topic]
            if since < changes.complete_since:
                return sorted(joined)
            for seen, room in enumerate(changes.after(since)):
                if room in joined:
                    changed.add(room)
                if seen > len(joined):  # shorter from the other side
                    changed.update(other for other in joined if changes.last(other) > since)
                    break
        return sorted(changed)

    # -- looking at it ---------------------------------------------------------------------------

    def carry_out(self, tx: ReadTransaction, plan: Plan, *, on_loop: bool) -> SyncUpdate:
        """Read what the plan says.

        Args:
            on_loop: whether this is called on the event loop, where memory is shared between requests.
        """
        request = plan.request
        reader = self.room_reader(
            tx, request, plan.until.position, plan.ignored, plan.known, plan.typing, on_loop=on_loop
        )
        update = SyncUpdate(plan.until)
        update.members_shown = reader.members_shown
        update.presence = [
            event for event in plan.presence if request.filters.presence.matches("m.presence", str(event.get("sender")))
        ]
        if plan.profiles is not None:
            update.profiles = read_profiles(tx, request.reader, plan.joined, plan.profiles, plan.until.position)
        by_room = self._read_personal(tx, plan, update)
        if plan.since is None:
            self._first_sync(tx, plan, reader, update, by_room)
        else:
            self._next_sync(tx, plan, plan.since, reader, update, by_room)
        return update

    def room_reader(
        self,
        tx: ReadTransaction,
        request: SyncRequest,
        until: int,
        ignored: frozenset[str],
        known: DeviceMembers,
        typing: Mapping[int, Sequence[str]] = MappingProxyType({}),
        *,
        on_loop: bool,
    ) -> RoomReader:
        """What reads rooms for a request, up to a position, within a transaction."""
        windows, unread = (self._windows, self._unread) if on_loop else (None, self._sources.unread)
        return RoomReader(tx, request, until, self._sources, ignored, typing, known, windows, unread, self._room_ids)

    def _read_personal(self, tx: ReadTransaction, plan: Plan, update: SyncUpdate) -> dict[str, list[AccountDataRow]]:
        """Account data and news for the device; the answer is the account data of rooms, by room ID."""
        request, since, until = plan.request, plan.since, plan.until.position
        reader, filters = request.reader, request.filters
        update.devices = self._sources.devices.news(
            tx, reader.user, reader.device, plan.device_since, until, plan.joined, plan.changed
        )
        if update.devices.messages_until is not None:
            update.next = msgspec.structs.replace(plan.until, messages=update.devices.messages_until)
        by_room: dict[str, list[AccountDataRow]] = {}
        if not plan.personal:
            return by_room
        general = []
        for row in account_data.changed_since(tx, reader.user, since or 0, until):
            if row.room_id is None:
                if filters.account_data.matches(row.type, reader.user_id):
                    general.append(row)
            elif filters.room_account_data.includes_room(row.room_id) and filters.room_account_data.matches(
                row.type, reader.user_id
            ):
                by_room.setdefault(row.room_id, []).append(row)
        update.account_data = general
        if filters.account_data.matches("m.push_rules", reader.user_id):
            update.push_rules = self._sources.push_rules.changed_since(tx, reader.user, since or 0, until)
        return by_room

    def _first_sync(
        self,
        tx: ReadTransaction,
        plan: Plan,
        reader: RoomReader,
        update: SyncUpdate,
        by_room: Mapping[str, list[AccountDataRow]],
    ) -> None:
        kinds = {Membership.INVITE, Membership.KNOCK}
        if plan.request.filters.include_leave:
            kinds |= {Membership.LEAVE, Membership.BAN}
        every = (reader.whole(room, None, 0, by_room.get(reader.room_id(room), ())) for room in plan.changed)
        update.rooms_to_come = (room for room in every if room is not None)
        rows = memberships.of_local_user(tx, plan.request.reader.user, kinds)
        for row in rows:
            now = as_of(tx, row, plan.until.position)
            if now is not None and now.membership is not Membership.JOIN:
                self._add_not_joined(tx, now, None, reader, update, by_room, was_joined=False)

    def _next_sync(
        self,
        tx: ReadTransaction,
        plan: Plan,
        since: int,
        reader: RoomReader,
        update: SyncUpdate,
        by_room: Mapping[str, list[AccountDataRow]],
    ) -> None:
        user = plan.request.reader.user
        done = set()
        reader.completed = completed = self._partial.between(tx, since, plan.until.position) & plan.joined
        if plan.memberships:
            for row in changed_since(tx, user, since):
                now = as_of(tx, row, plan.until.position)
                before = member_event_at(tx, row.room, user, since)
                if now is None or now.event == before:
                    continue
                was_joined = before is not None and events.get(tx, before).event.membership == "join"
                if now.membership is not Membership.JOIN:
                    self._add_not_joined(tx, now, since, reader, update, by_room, was_joined=was_joined)
                elif not was_joined and row.room not in plan.hidden:
                    done.add(row.room)
                    joined = reader.newly_joined(now, since)
                    if joined is not None:
                        update.joined.append(joined)
        if not plan.request.filters.lazy_members:
            for room in completed - done:
                done.add(room)
                member = memberships.get(tx, room, user)
                joined = None if member is None else reader.newly_joined(member, since)
                if joined is not None:
                    update.joined.append(joined)
        rooms_with_data = dict(by_room)
        for room in plan.changed:
            if room in done or room not in plan.joined:
                continue
            data = rooms_with_data.pop(reader.room_id(room), ())
            if plan.request.full_state:
                joined = reader.whole(room, since, since, data)
            else:
                joined = reader.continuing(room, since, data)
            if joined is not None:
                update.joined.append(joined)
        for room_id, data in rooms_with_data.items():
            number = reader.room_nid(room_id)
            if number is not None and number in plan.joined and number not in done:
                joined = reader.continuing(number, since, data)
                if joined is not None:
                    update.joined.append(joined)

    def _add_not_joined(
        self,
        tx: ReadTransaction,
        row: MembershipRow,
        since: int | None,
        reader: RoomReader,
        update: SyncUpdate,
        by_room: Mapping[str, list[AccountDataRow]],
        *,
        was_joined: bool,
    ) -> None:
        if row.membership in (Membership.LEAVE, Membership.BAN):
            data = by_room.get(reader.room_id(row.room), ())
            left = None if row.forgotten else reader.left(row, since, data, was_joined=was_joined)
            if left is not None:
                update.left.append(left)
            return
        member = events.get(tx, row.event)
        room_id = reader.room_id(row.room)
        if not reader.request.filters.includes_room(room_id):
            return
        stripped = stripped_room(tx, row.room, room_id, member, reader.until)
        if row.membership is Membership.KNOCK:
            update.knocked.append(stripped)
        elif member.event.sender not in reader.ignored and wants_invites(tx, row.user):
            update.invited.append(stripped)


def _joined_at(tx: ReadTransaction, user: int, position: int) -> frozenset[int]:
    """The rooms that a local user is in at a position, which may be behind what the transaction sees."""
    joined = set(memberships.joined_rooms(tx, user))
    for row in changed_since(tx, user, position):
        now = as_of(tx, row, position)
        if now is not None and now.membership is Membership.JOIN:
            joined.add(row.room)
        else:
            joined.discard(row.room)
    return frozenset(joined)


def as_of(tx: ReadTransaction, row: MembershipRow, position: int) -> MembershipRow | None:
    """A membership as it was at a position; None if there was none."""
    if row.position <= position:
        return row
    nid = member_event_at(tx, row.room, row.user, position)
    if nid is None:
        return None
    membership = _STATES_OF.get(events.get(tx, nid).event.membership or "", Membership.LEAVE)
    return MembershipRow(row.room, row.user, membership, nid, position, False)


def _ignored_by(tx: ReadTransaction, user: int) -> frozenset[str]:
    """The users whom a user ignores. spec: client-server-api#ignoring-users"""
    content = account_data.get(tx, user, None, IGNORED_USER_LIST)
    return frozenset() if content is None else frozenset(ignored_user_ids(content)) - {names.text(tx, user)}
