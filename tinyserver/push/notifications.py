"""Unread marks, made in an event's own transaction.

One byte per event serves all members (see `protocol.push_rules.classes`); a row is written only for a local user to
whom the event means something else than its class says. Those may be the users whom it mentions, and the few who have
rules that a class cannot answer (keywords, rules on senders).
"""

from __future__ import annotations

from collections.abc import Callable

from tinyserver.protocol.events import Event
from tinyserver.protocol.power_levels import PowerLevels
from tinyserver.protocol.push_rules import PushContext, mentioned_users, mentions_room, notification_class
from tinyserver.protocol.relations import relation_of
from tinyserver.push.rules import PushRules
from tinyserver.storage import (
    accounts,
    events,
    highlights,
    memberships,
    names,
    relations,
    room_state,
    thread_subscriptions,
)
from tinyserver.storage.memberships import Membership, MembershipRow
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_MAX_MENTIONS = 500
"""How many of the users that one event mentions are looked at."""
_MAX_ROOMS = 2_000
"""For how many rooms it is remembered which users with unusual rules are in them."""


class NotificationMarks:
    """Classifies events and keeps the exceptions (the pipeline's `Notifications`).

    Args:
        rules: the users' push rules.
    """

    def __init__(self, rules: PushRules) -> None:
        self._rules = rules
        self._asked = _AskedMembers(rules)

    def classify(self, tx: WriteTransaction, room: RoomRow, event: Event) -> tuple[int, int | None]:
        """(notification class, nid of the thread's root or None) of an event about to be appended to a room."""
        allowed = False
        if mentions_room(event) and room.state:
            levels = room_state.power_levels(tx, room.state)
            allowed = levels.user_level(event.sender) >= levels.notification_level("room")
        event_class = notification_class(event, member_count=room.joined, room_mention_allowed=allowed)
        return event_class, thread_of(tx, room.nid, event)

    def mark(self, tx: WriteTransaction, room: RoomRow, stored: StoredEvent) -> None:
        """Store what an appended event means to single local users."""
        asked: dict[int, MembershipRow] = {}
        for user_id in sorted(mentioned_users(stored.event))[:_MAX_MENTIONS]:
            user = names.find(tx, user_id)
            if user is None or accounts.get(tx, user) is None:
                continue
            membership = memberships.get(tx, room.nid, user)
            if membership is not None and membership.membership in (Membership.JOIN, Membership.INVITE):
                asked[user] = membership
        if self._rules.inexact_users:
            asked.update(self._asked.members(tx, room, stored))
        if asked:
            self._ask(tx, room, stored, asked)

    def _ask(self, tx: WriteTransaction, room: RoomRow, stored: StoredEvent, asked: dict[int, MembershipRow]) -> None:
        may_notify, related_event = _Permissions(tx, stored), _related_event_getter(tx, room)
        thread = stored.thread
        for user, membership in asked.items():
            if user == stored.sender_nid:
                continue
            rules = self._rules.of_user(tx, user)
            context = _context(tx, room, membership, thread, may_notify, related_event)
            actions = rules.compiled.evaluate(stored.event, context)
            expected = rules.summary.outcomes(room.room_id)
            notify, highlight = actions.notify, actions.notify and actions.highlight
            notifies = expected.notifies(stored.notify)
            if (notify, highlight) != (notifies, notifies and expected.highlights(stored.notify)):
                highlights.add(tx, user, stored, notify=notify, highlight=highlight)


def push_context(tx: ReadTransaction, room: RoomRow, stored: StoredEvent, membership: MembershipRow) -> PushContext:
    """What push rules ask about an event besides the event itself, for one member of its room."""
    return _context(tx, room, membership, stored.thread, _Permissions(tx, stored), _related_event_getter(tx, room))


def _context(
    tx: ReadTransaction,
    room: RoomRow,
    membership: MembershipRow,
    thread: int | None,
    may_notify: Callable[[str], bool],
    related_event: Callable[[str], Event | None],
) -> PushContext:
    return PushContext(
        user_id=names.text(tx, membership.user),
        member_count=room.joined,
        display_name=_display_name(tx, membership),
        may_notify=may_notify,
        related_event=related_event,
        is_subscribed=lambda: None if thread is None else _has_subscribed(tx, membership.user, thread),
    )


def _has_subscribed(tx: ReadTransaction, user: int, thread: int) -> bool:
    known = thread_subscriptions.get(tx, user, thread)
    return known is not None and known.automatic is not None


def thread_of(tx: ReadTransaction, room: int, event: Event) -> int | None:
    """The nid of the root of the thread that an event is in: the one it names itself, or that of the event to which it
    relates (a reaction to a threaded message is in that thread). None: the main timeline.

    spec: client-server-api#threaded-read-receipts
    """
    relation = relation_of(event.content)
    if relation.parent_id is None:
        return None
    parent = events.by_id(tx, relation.parent_id)
    if parent is None or parent.room != room:
        return None
    return relations.thread_below(parent, relation)


def _display_name(tx: ReadTransaction, membership: MembershipRow) -> str | None:
    name = events.get(tx, membership.event).event.content.get("displayname")
    return name if isinstance(name, str) else None


class _Permissions:
    """Whether an event's sender may notify in a way such as "room"; the power levels are read when first asked for."""

    __slots__ = ("_levels", "_stored", "_tx")

    def __init__(self, tx: ReadTransaction, stored: StoredEvent) -> None:
        self._tx = tx
        self._stored = stored
        self._levels: PowerLevels | None = None

    def __call__(self, key: str) -> bool:
        if self._levels is None:
            if self._stored.state is None:
                return False
            self._levels = room_state.power_levels(self._tx, self._stored.state)
        return self._levels.user_level(self._stored.event.sender) >= self._levels.notification_level(key)


def _related_event_getter(tx: ReadTransaction, room: RoomRow) -> Callable[[str], Event | None]:
    def related_event(event_id: str) -> Event | None:
        stored = events.by_id(tx, event_id)
        return stored.event if stored is not None and stored.room == room.nid else None

    return related_event


class _AskedMembers:
    """Which members of a room must be asked about each event. Used by the writer alone.

    What was found is kept with the root of the room's state: as long as that is the same, so are the members.
    """

    def __init__(self, rules: PushRules) -> None:
        self._rules = rules
        self._users: frozenset[int] = frozenset()
        self._rooms: dict[int, tuple[int, dict[int, MembershipRow]]] = {}

    def members(self, tx: WriteTransaction, room: RoomRow, stored: StoredEvent) -> dict[int, MembershipRow]:
        """Those members with their memberships.

        Args:
            room: the room before the event.
        """
        users = self._rules.inexact_users
        if users is not self._users:
            self._users = users
            self._rooms.clear()
        known = self._rooms.get(room.nid)
        unchanged = stored.event.state_key is None and stored.state == room.state
        if known is not None and unchanged and known[0] == room.state:
            return known[1]
        found = {}
        for user in users:
            membership = memberships.get(tx, room.nid, user)
            if membership is not None and membership.membership is Membership.JOIN:
                found[user] = membership
        if unchanged:
            if len(self._rooms) >= _MAX_ROOMS:
                self._rooms.clear()
            self._rooms[room.nid] = (room.state, found)
        return found
