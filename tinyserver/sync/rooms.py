"""What is new in one room for one reader: a room that they are in, have just joined, or have left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from tinyserver.rooms.visibility import ALWAYS, NEVER, Sight
from tinyserver.storage import account_data, events, names, relations, rooms
from tinyserver.storage.account_data import AccountDataRow
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.memberships import MembershipRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync import sticky
from tinyserver.sync.requests import SyncRequest
from tinyserver.sync.room_states import member_events, state_changes, whole_state
from tinyserver.sync.sent_members import DeviceMembers
from tinyserver.sync.sources import Sources, UnreadByThread, UnreadSource
from tinyserver.sync.summary import Summary, concerns_summary, summarise
from tinyserver.sync.updates import RoomUpdate
from tinyserver.sync.windows import SharedWindows, Wanted, Window, open_window, window_of

_MAX_MEMBERSHIP_CHANGES = 200
"""How many changes of a user's own membership are followed back."""


@dataclass(slots=True)
class RoomReader:
    """Reads rooms for one request, within one transaction.

    `until` is the position up to which the answer goes; `typing` the rooms where typing is news; `known` the members
    that the device knows; `shared` the windows that may be shared with other readers (on the event loop only);
    `unread` counts; `members_shown` collects the members that the answer shows; `completed` are rooms of which
    all members have become known since the last answer.
    """

    tx: ReadTransaction
    request: SyncRequest
    until: int
    sources: Sources
    ignored: frozenset[str]
    typing: Mapping[int, Sequence[str]]
    known: DeviceMembers
    shared: SharedWindows | None
    unread: UnreadSource
    room_ids: BoundedCache[int, str]
    members_shown: dict[int, set[int]] = field(default_factory=dict)
    completed: Set[int] = frozenset()

    # -- rooms that the reader is in -------------------------------------------------------------

    def continuing(self, room: int, since: int, data: Sequence[AccountDataRow]) -> RoomUpdate | None:
        """News of a room that the reader was in at the position `since` already; None if there is none."""
        room_id = self._wanted_id(room)
        if room_id is None:
            return None
        window, sight = self.window(room, since)
        update = RoomUpdate(room, room_id, window, sight, account_data=data)
        if window.events or window.limited or window.root_before != window.root_after:
            update.summary = self._changed_summary(room, window)
            update.state = self._changed_state(room, window, update.summary)
        # With a membership comes what was held back of that user.
        members_may_have_changed = window.root_before != window.root_after
        shows_all = self.request.filters.timeline.lets_all_through and sight is None and not window.limited
        if not shows_all or members_may_have_changed:
            self._add_sticky(update, since)
        if room in self.completed:  # nobody came, but only now all are counted
            update.summary = summarise(self.tx, rooms.get(self.tx, room), window.root_after, self.request.reader.user)
        self._add_unstored(update, since)
        if not update.is_news:
            return None
        has_read = any(receipt.user == self.request.reader.user for receipt in update.receipts)
        if window.events or window.limited or has_read:
            update.unread = self._unread(room)
        return update

    def whole(
        self, room: int, after: int | None, since: int, data: Sequence[AccountDataRow] | None
    ) -> RoomUpdate | None:
        """A room with all of its state.

        Args:
            after: where its timeline begins; None: as far back as the limit allows.
            since: what is not in the timeline is wanted from this position on.
            data: the reader's account data for the room; None: to be read.
        """
        room_id = self._wanted_id(room)
        if room_id is None:
            return None
        row = rooms.get(self.tx, room)
        window, sight = self.window(room, after)
        update = RoomUpdate(room, room_id, window, sight, begins_anew=True)
        update.summary = summarise(self.tx, row, window.root_after, self.request.reader.user)
        update.state = self._whole_state(room, window, update.summary)
        update.account_data = self._data_of(room_id) if data is None else data
        self._add_unstored(update, since)
        self._add_sticky(update, 0)
        update.unread = self._unread(room)
        return update

    def newly_joined(self, row: MembershipRow, since: int) -> RoomUpdate | None:
        """A room that the reader has joined after `since`: whole, but without events that they got when they were in it
        before. Not every device was there then, so that such a timeline is called limited.
        """
        last_seen = self._end_of_earlier_stay(events.get(self.tx, row.event), since)
        update = self.whole(row.room, last_seen, 0, None)
        if update is not None and last_seen is not None:
            update.window = update.window.as_limited()
        return update

    def _add_sticky(self, update: RoomUpdate, since: int) -> None:
        """Sticky events that are not in the timeline, because it has a gap, for example."""
        update.sticky = sticky.of_room(self.tx, update.room, since, self.until, update.window.events, self.ignored)

    def _add_unstored(self, update: RoomUpdate, since: int) -> None:
        ephemeral = self.request.filters.room_ephemeral
        if not ephemeral.includes_room(update.room_id):
            return
        if ephemeral.matches_type("m.receipt"):
            update.receipts = self.sources.receipts.visible_since(
                self.tx, update.room, self.request.reader.user, since, self.until
            )
        if ephemeral.matches_type("m.typing"):
            update.typing = self.typing.get(update.room)

    def _data_of(self, room_id: str) -> list[AccountDataRow]:
        """All account data of the reader for a room, as far as the filter wants it."""
        reader, matcher = self.request.reader, self.request.filters.room_account_data
        if not matcher.includes_room(room_id):
            return []
        rows = account_data.of_room(self.tx, reader.user, room_id)
        return [row for row in rows if matcher.matches(row.type, reader.user_id)]

    # -- rooms that the reader has left ----------------------------------------------------------

    def left(
        self, row: MembershipRow, since: int | None, data: Sequence[AccountDataRow], *, was_joined: bool
    ) -> RoomUpdate | None:
        """A room that the reader has left or was thrown out of, until they left.

        Args:
            since: None: as much as the limit allows.
            data: the reader's account data for the room, as far as it is news.
            was_joined: whether the reader was in the room at `since`.
        """
        room_id = self._wanted_id(row.room)
        if room_id is None:
            return None
        last = events.get(self.tx, row.event)
        end = self.end_of_stay(last)
        if end is None or (since is not None and end <= since):
            update = self._not_entered(row.room, room_id, last)
        else:
            update = self._stay(row.room, room_id, last, since, end, whole=not was_joined)
        update.account_data = data
        return update

    def _not_entered(self, room: int, room_id: str, last: StoredEvent) -> RoomUpdate:
        """The reader was not in the room lately: all that they get is what became of their invite, knock or ban."""
        wanted = self._filter_wanted(room_id)
        shown = [last] if wanted is None or wanted(last) else []
        sight = Sight(self.tx, self.request.reader.user, self.request.reader.user_id, NEVER)
        window = window_of(self.tx, shown, 0, 0)
        update = RoomUpdate(room, room_id, window, sight, begins_anew=True)
        if self.request.at_end or not shown:
            update.state = [last]
        return update

    def _stay(
        self, room: int, room_id: str, last: StoredEvent, since: int | None, end: int, *, whole: bool
    ) -> RoomUpdate:
        """What the reader saw until they left with the event at the place `end`."""
        after = since
        if whole and since is not None:  # they came after `since`, perhaps not for the first time
            after = self._end_of_earlier_stay(last, since)
        window, sight = self.window_of_stay(room, room_id, last, after, end)
        if whole and after is not None:
            window = window.as_limited()
        update = RoomUpdate(room, room_id, window, sight, begins_anew=True)
        if whole:
            update.state = self._whole_state(room, window, None)
        else:
            update.state = self._changed_state(room, window, None)
        if self.request.at_end and last.place != end:
            update.state = [*update.state, last]
        return update

    def window_of_stay(
        self, room: int, room_id: str, last: StoredEvent, after: int | None, end: int
    ) -> tuple[Window, Sight]:
        """The window on what a reader saw of a room until they left it with the event at the place `end`, and their
        sight; with the newest event about them, which may be a later one.

        Args:
            after: where it begins; None: as far back as the limit allows.
        """
        reader = self.request.reader
        sight = Sight(self.tx, reader.user, reader.user_id, end)
        wanted = self._personal_wanted(room_id, sight)
        window = open_window(self.tx, room, after, end, self.request.filters.timeline_limit, wanted)
        if last.place is not None and last.place > end:
            window = window.followed_by(last)
        return window, sight

    def end_of_stay(self, member: StoredEvent) -> int | None:
        """The place of the event with which the reader left the room before or with a member event of theirs."""
        for _ in range(_MAX_MEMBERSHIP_CHANGES):
            if member.replaces is None:
                return None
            before = events.get(self.tx, member.replaces)
            if before.event.membership == "join" and member.event.membership != "join":
                return member.place
            member = before
        return member.place

    def _end_of_earlier_stay(self, member: StoredEvent, since: int) -> int | None:
        """The place of the event with which the reader left the room last before `since`."""
        for _ in range(_MAX_MEMBERSHIP_CHANGES):
            if member.replaces is None:
                return None
            before = events.get(self.tx, member.replaces)
            place = member.place
            if place is not None and place <= since and before.event.membership == "join" != member.event.membership:
                return place
            member = before
        return since

    # -- the timeline ----------------------------------------------------------------------------

    def window(self, room: int, after: int | None) -> tuple[Window, Sight | None]:
        """The window for a reader who is in the room now, and their sight where it is not that of all others."""
        request, tx = self.request, self.tx
        reader, filters = request.reader, request.filters
        wanted = self._filter_wanted(self.room_id(room))
        if self.shared is not None and after is not None:
            window = self.shared.get(tx, room, after, self.until, filters, wanted)
        else:
            window = open_window(tx, room, after, self.until, filters.timeline_limit, wanted)
        is_heard = not self.ignored or self.ignored.isdisjoint(window.senders.values())
        if is_heard and window.find_roots(tx) <= {window.root_after}:
            return window, None  # nothing but messages since the reader is in the room
        sight = Sight(tx, reader.user, reader.user_id, ALWAYS)
        sight.know_membership(window.root_after, "join")
        if is_heard and all(sight.membership_in(root) == "join" for root in window.find_roots(tx)):
            return window, None
        if not is_heard or not all(map(sight.sees, window.events)):
            personal = self._personal_wanted(self.room_id(room), sight)
            window = open_window(tx, room, after, self.until, filters.timeline_limit, personal)
        return window, sight

    def _filter_wanted(self, room_id: str) -> Wanted | None:
        matcher = self.request.filters.timeline
        if not matcher.includes_room(room_id):
            return lambda stored: False
        if matcher.lets_all_through and not matcher.asks_for_relations:
            return None

        def wanted(stored: StoredEvent) -> bool:
            event = stored.event
            if not matcher.matches(event.type, event.sender, event.content):
                return False
            return not matcher.asks_for_relations or matcher.matches_relations(
                relations.kinds_and_senders(self.tx, stored.room, stored.event_id)
            )

        return wanted

    def _personal_wanted(self, room_id: str, sight: Sight) -> Wanted:
        by_filter = self._filter_wanted(room_id)
        ignored = self.ignored

        def wanted(stored: StoredEvent) -> bool:
            if stored.event.state_key is None and stored.event.sender in ignored:
                return False
            return (by_filter is None or by_filter(stored)) and sight.sees(stored)

        return wanted

    # -- the state -------------------------------------------------------------------------------

    def _changed_state(self, room: int, window: Window, summary: Summary | None) -> list[StoredEvent]:
        """The events for the state section: what changed, and members that lazy loading calls for."""
        filters, at_end = self.request.filters, self.request.at_end
        changes = state_changes(self.tx, window, at_end=at_end)
        if filters.lazy_members:
            known: Set[int] = frozenset() if filters.redundant_members else self.known.known(room)
            heroes = () if summary is None or summary.heroes is None else summary.heroes
            missing = [user for user in (*window.senders, *heroes) if user not in known]
            if missing:
                changes = {**member_events(self.tx, window, at_end=at_end, users=missing), **changes}
            if changes or window.replaced_first:
                self._note_shown(room, window, changes)
        return self._load(room, changes)

    def _whole_state(self, room: int, window: Window, summary: Summary | None) -> list[StoredEvent]:
        filters = self.request.filters
        members: set[int] | None = None
        if filters.lazy_members:
            heroes = () if summary is None or summary.heroes is None else summary.heroes
            members = {*window.senders, *heroes, self.request.reader.user}
        state = whole_state(self.tx, window, at_end=self.request.at_end, members=members)
        if members is not None:
            self._note_shown(room, window, state)
        return self._load(room, state)

    def _note_shown(self, room: int, window: Window, state: Mapping[tuple[int, int], int]) -> None:
        member_type = names.find(self.tx, "m.room.member")
        keys = [*state, *window.replaced_first]
        shown = {user for type_nid, user in keys if type_nid == member_type}
        if shown:
            self.members_shown.setdefault(room, set()).update(shown)

    def _load(self, room: int, state: Mapping[tuple[int, int], int]) -> list[StoredEvent]:
        matcher = self.request.filters.state
        if not state or not matcher.includes_room(self.room_id(room)):
            return []
        found = events.get_many(self.tx, sorted(state.values()), keep=len(state) < 100)
        in_order = [found[nid] for nid in sorted(found)]
        if matcher.lets_all_through:
            return in_order
        return [
            stored
            for stored in in_order
            if matcher.matches(stored.event.type, stored.event.sender, stored.event.content)
        ]

    def _changed_summary(self, room: int, window: Window) -> Summary | None:
        if window.root_before == window.root_after:
            return None
        changed = {type_nid for type_nid, _ in window.find_changed(self.tx)}
        if not concerns_summary(self.tx, changed):
            return None
        return summarise(self.tx, rooms.get(self.tx, room), window.root_after, self.request.reader.user)

    # -- other -----------------------------------------------------------------------------------

    def _wanted_id(self, room: int) -> str | None:
        """The ID of a room, None if the filter does not want it."""
        room_id = self.room_id(room)
        return room_id if self.request.filters.includes_room(room_id) else None

    def room_id(self, room: int) -> str:
        """The ID of a room."""
        room_id = self.room_ids.get(room)
        if room_id is None:
            room_id = rooms.get(self.tx, room).room_id
            self.room_ids.put(room, room_id)
        return room_id

    def room_nid(self, room_id: str) -> int | None:
        """The number of a room, None if there is no such room."""
        row = rooms.find(self.tx, room_id)
        return None if row is None else row.nid

    def _unread(self, room: int) -> UnreadByThread:
        return self.unread.counts(self.tx, self.request.reader.user, room, threads=self.request.filters.counts_threads)
