"""Reading what is new in the rooms that a client of sliding sync looks at.

spec: MSC4186 (response body)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyserver.rooms.visibility import Sight
from tinyserver.storage import events, names, partial_rooms, receipts, room_state, rooms, state_trie
from tinyserver.storage.membership_changes import member_event_at
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync.rooms import RoomReader
from tinyserver.sync.sliding.catalogue import Catalogue
from tinyserver.sync.sliding.planning import RoomTask
from tinyserver.sync.sliding.required_state import MEMBER, matching, wanted_state
from tinyserver.sync.sources import Unread
from tinyserver.sync.stripped import stripped_room
from tinyserver.sync.summary import Summary, concerns_summary, summarise
from tinyserver.sync.updates import StrippedRoom
from tinyserver.sync.windows import StateKey, Window


@dataclass(frozen=True, slots=True)
class Hero:
    """Somebody who stands for a room without a name."""

    user_id: str
    displayname: str | None
    avatar_url: str | None


@dataclass(slots=True)
class SlidingRoom:
    """What is new in one room; what is None is as it was.

    `initial` says that this is all there is to know of it, `expanded` that the events before were sent already, but
    more of them are wanted now. `window` holds the events, `removed` are (type, state key) pairs that are no more in
    the state; `name` and `avatar` are "" where the room has none.
    """

    task: RoomTask
    initial: bool
    bump_stamp: int
    window: Window | None = None
    sight: Sight | None = None
    expanded: bool = False
    state: Sequence[StoredEvent] = ()
    removed: Sequence[tuple[str, str]] = ()
    name: str | None = None
    avatar: str | None = None
    heroes: Sequence[Hero] | None = None
    counts: tuple[int, int] | None = None
    """How many users are joined, and how many invited."""
    unread: Unread | None = None
    is_direct: bool | None = None
    stripped: StrippedRoom | None = None

    @property
    def room_id(self) -> str:
        """The ID of the room."""
        return self.task.room.room_id

    @property
    def shown_events(self) -> Sequence[StoredEvent]:
        """The events of its timeline."""
        return () if self.window is None else self.window.events


class SlidingRooms:
    """Reads rooms for one request, within one transaction.

    Args:
        direct: the IDs of the user's direct chats.
        reader: reads what any sync needs of rooms, with the number of events that is wanted.
    """

    def __init__(self, tx: ReadTransaction, catalogue: Catalogue, direct: frozenset[str], reader: RoomReader) -> None:
        self._tx = tx
        self._catalogue = catalogue
        self._direct = direct
        self._reader = reader

    def read(self, task: RoomTask) -> SlidingRoom | None:
        """What is new in a room; None if there is nothing."""
        row = task.room.row
        if task.room.is_over:
            return self._over(task) if task.is_new or row.position > task.since or task.wants_more else None
        if row.membership is not Membership.JOIN:
            is_news = task.is_new or row.position > task.since
            return self._stripped(task) if is_news else None
        if task.is_new or (row.position > task.since and not self._was_joined(task)):
            return self._whole(task)
        return self._continuing(task)

    def _was_joined(self, task: RoomTask) -> bool:
        row = task.room.row
        before = member_event_at(self._tx, row.room, row.user, task.since)
        return before is not None and events.get(self._tx, before).event.membership == "join"

    # -- rooms that the user is in ---------------------------------------------------------------

    def _whole(self, task: RoomTask) -> SlidingRoom:
        tx, number = self._tx, task.number
        window, sight = self._reader.window(number, None)
        room = SlidingRoom(task, True, self._bump_stamp(task), window, sight)
        row = rooms.get(tx, number)
        state = {**wanted_state(tx, window.root_after, task.config), **self._lazy_members(task, window, anew=True)}
        room.state = self._load(task, state)
        self._describe(room, row, window.root_after)
        room.unread = self._unread(task)
        room.is_direct = room.room_id in self._direct
        return room

    def _continuing(self, task: RoomTask) -> SlidingRoom | None:
        tx, number = self._tx, task.number
        room = SlidingRoom(task, False, 0)
        changes = window = None
        if task.may_have_changed:
            window, sight = self._reader.window(number, task.since)
            if window.events or window.limited:
                room.window, room.sight = window, sight
            changes = window.find_changed(tx)
            room.removed = [
                (names.text(tx, event_type), names.text(tx, key))
                for event_type, key in window.removed
                if task.config.matches(names.text(tx, event_type), names.text(tx, key))
            ]
        state = self._changed_state(task, changes or {})
        is_complete = task.may_have_changed and partial_rooms.became_whole(tx, number, task.since, self._reader.until)
        if is_complete:  # nobody came, but only now all members are known
            root = rooms.state_at(tx, number, self._reader.until)
            state.update(wanted_state(tx, root, task.config))
            self._describe(room, rooms.get(tx, number), root)
        if task.wants_more:
            root = rooms.state_at(tx, number, self._reader.until)
            state.update(wanted_state(tx, root, task.config, task.sent.config))
        if task.expands:
            window, sight = self._reader.window(number, None)
            room.window, room.sight, room.expanded = window, sight, True
        if room.window is not None:
            state = {**self._lazy_members(task, room.window, anew=False), **state}
        room.state = self._load(task, state)
        if changes:
            self._describe_changes(room, changes)
        has_read = task.counts_may_have_changed and self._has_read(task)
        if room.window is not None or has_read:
            room.unread = self._unread(task)
        if task.direct_may_have_changed:
            room.is_direct = room.room_id in self._direct
        news = changes or room.window or state or room.removed or is_complete
        if not (news or has_read or task.direct_may_have_changed):
            return None
        room.bump_stamp = self._bump_stamp(task)
        return room

    def _changed_state(self, task: RoomTask, changes: dict[StateKey, int]) -> dict[StateKey, int]:
        """The changes that the client wants; with lazy loading those of members, too, as it may know any of them."""
        state = matching(self._tx, changes, task.config)
        if task.config.lazy_members:
            member_type = names.find(self._tx, MEMBER)
            state.update((key, nid) for key, nid in changes.items() if key[0] == member_type)
        return state

    def _lazy_members(self, task: RoomTask, window: Window, *, anew: bool) -> dict[StateKey, int]:
        """The members whom the timeline needs: who sent its events, and whom they are about."""
        member_type = names.find(self._tx, MEMBER)
        if not task.config.lazy_members or member_type is None:
            return {}
        users = {*window.senders}
        users.update(key for event_type, key in window.replaced_first if event_type == member_type)
        if not anew:
            users -= self._reader.known.known(task.number)
        return state_trie.get_many(self._tx, window.root_after, [(member_type, user) for user in users])

    def _load(self, task: RoomTask, state: dict[StateKey, int]) -> list[StoredEvent]:
        if not state:
            return []
        if task.config.lazy_members:
            member_type = names.find(self._tx, MEMBER)
            shown = {key for event_type, key in state if event_type == member_type}
            self._reader.members_shown.setdefault(task.number, set()).update(shown)
        found = events.get_many(self._tx, sorted(state.values()), keep=len(state) < 100)
        return [found[nid] for nid in sorted(found)]

    # -- what a room is called -------------------------------------------------------------------

    def _describe(self, room: SlidingRoom, row: RoomRow, root: int) -> None:
        room.name = _text(room_state.content_at(self._tx, root, "m.room.name").get("name"))
        room.avatar = _text(room_state.content_at(self._tx, root, "m.room.avatar").get("url"))
        summary = summarise(self._tx, row, root, self._reader.request.reader.user)
        room.counts = (summary.joined, summary.invited)
        if not room.name:
            room.heroes = self._heroes(root, summary)

    def _describe_changes(self, room: SlidingRoom, changes: dict[StateKey, int]) -> None:
        types = {event_type for event_type, _ in changes}
        if concerns_summary(self._tx, types) or names.find(self._tx, "m.room.avatar") in types:
            root = rooms.state_at(self._tx, room.task.number, self._reader.until)
            self._describe(room, rooms.get(self._tx, room.task.number), root)

    def _heroes(self, root: int, summary: Summary) -> list[Hero]:
        user_ids = [names.text(self._tx, user) for user in summary.heroes or ()]
        found = room_state.events_at(self._tx, root, [(MEMBER, user_id) for user_id in user_ids])
        heroes = []
        for user_id in user_ids:
            member = found.get((MEMBER, user_id))
            content = {} if member is None else member.event.content
            heroes.append(
                Hero(user_id, _text(content.get("displayname")) or None, _text(content.get("avatar_url")) or None)
            )
        return heroes

    # -- rooms that the user is not in -----------------------------------------------------------

    def _stripped(self, task: RoomTask) -> SlidingRoom:
        """A room that the user is invited to, or has knocked at."""
        row = task.room.row
        room = SlidingRoom(task, True, row.position)
        member = events.get(self._tx, row.event)
        room.stripped = stripped_room(self._tx, row.room, room.room_id, member, self._reader.until)
        for each in room.stripped.state:
            content = each["content"]
            if each["type"] == "m.room.name":
                room.name = _text(content.get("name"))
            elif each["type"] == "m.room.avatar":
                room.avatar = _text(content.get("url"))
        room.is_direct = room.room_id in self._direct
        return room

    def _over(self, task: RoomTask) -> SlidingRoom:
        """A room that the user has left, or was thrown out of: what they saw of it until then."""
        tx, row, reader = self._tx, task.room.row, self._reader
        last = events.get(tx, row.event)
        was_joined = not task.is_new and self._was_joined(task)
        room = SlidingRoom(task, not was_joined, row.position)
        end = reader.end_of_stay(last) if task.room.was_in else None
        state: dict[StateKey, int] = {}
        if end is not None and (was_joined or task.is_new or task.wants_more):
            after = task.since if was_joined and end > task.since else None
            window, sight = reader.window_of_stay(row.room, room.room_id, last, after, end)
            room.window, room.sight = window, sight
            if after is None:
                state = wanted_state(tx, window.root_after, task.config)
                self._describe(room, rooms.get(tx, row.room), window.root_after)
                room.counts = None  # not any more the user's business
            else:
                state = self._changed_state(task, dict(window.find_changed(tx)))
            state.update(self._lazy_members(task, window, anew=after is None))
        room.state = [*(event for event in self._load(task, state) if event.nid != last.nid), last]
        return room

    # -- other -----------------------------------------------------------------------------------

    def _bump_stamp(self, task: RoomTask) -> int:
        bump = self._catalogue.bump_stamp(self._tx, task.number, self._reader.until)
        return task.room.row.position if bump is None else bump

    def _has_read(self, task: RoomTask) -> bool:
        return receipts.version(self._tx, task.number, task.room.row.user) > task.since

    def _unread(self, task: RoomTask) -> Unread:
        reader = self._reader
        return reader.sources.unread.counts(self._tx, reader.request.reader.user, task.number, threads=False)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
