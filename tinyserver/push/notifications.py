"""Unread marks, made in an event's own transaction.

One byte per event serves all members (see `protocol.push_rules.classes`); a row is written only for a local user to
whom the event means something else than its class says.
"""

from __future__ import annotations

from tinyserver.protocol.events import Event
from tinyserver.protocol.push_rules import (
    NO_CHANGES,
    CompiledRules,
    PushContext,
    RuleSetSummary,
    mentioned_users,
    mentions_room,
    notification_class,
)
from tinyserver.protocol.relations import relation_of
from tinyserver.storage import events, highlights, memberships, names, room_state
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import WriteTransaction

_MAX_MENTIONS = 500
"""How many of the users that one event mentions are looked at."""


class NotificationMarks:
    """Classifies events and keeps the exceptions (the pipeline's `Notifications`)."""

    def __init__(self) -> None:
        self._default_rules = CompiledRules(NO_CHANGES)
        self._default_summary = RuleSetSummary(NO_CHANGES)

    def classify(self, tx: WriteTransaction, room: RoomRow, event: Event) -> tuple[int, int | None]:
        """(notification class, nid of the thread's root or None) of an event about to be appended to a room."""
        allowed = False
        if mentions_room(event) and room.state:
            levels = room_state.power_levels(tx, room.state)
            allowed = levels.user_level(event.sender) >= levels.notification_level("room")
        thread = None
        root_id = relation_of(event.content).thread_root
        if root_id is not None:
            thread = events.find(tx, root_id)
        return notification_class(event, member_count=room.joined, room_mention_allowed=allowed), thread

    def mark(self, tx: WriteTransaction, room: RoomRow, stored: StoredEvent) -> None:
        """Store what an appended event means to those local users whom it mentions."""
        for user_id in sorted(mentioned_users(stored.event))[:_MAX_MENTIONS]:
            user = names.find(tx, user_id)
            if user is None or user == stored.sender_nid:
                continue
            membership = memberships.get(tx, room.nid, user)
            if membership is None or membership.membership not in (Membership.JOIN, Membership.INVITE):
                continue
            context = PushContext(user_id=user_id, member_count=room.joined)
            actions = self._default_rules.evaluate(stored.event, context)
            expected = self._default_summary.outcomes(room.room_id)
            if (actions.notify, actions.highlight) != (
                expected.notifies(stored.notify),
                expected.highlights(stored.notify),
            ):
                highlights.add(tx, user, stored, notify=actions.notify, highlight=actions.highlight)
