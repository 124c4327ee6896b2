"""What a user was notified of, the newest first. Nothing was written for it: it follows from the rooms' order, the
classes of events and the few exceptions, as unread counts do.

spec: client-server-api#get_matrixclientv3notifications
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.accounts.requester import Requester
from tinyserver.clock import Clock
from tinyserver.protocol.errors import InvalidParam
from tinyserver.push.notifications import push_context
from tinyserver.push.rules import PushRules, UserRules
from tinyserver.push.unread import place_of_join, read_places
from tinyserver.rooms.event_access import aggregations_for
from tinyserver.rooms.rendering import EventRenderer
from tinyserver.rooms.visibility import open_view
from tinyserver.storage import events, highlights, memberships, rooms, timeline
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership, MembershipRow
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_EXAMINED = 2_000
"""How many events of one room are looked at for one page."""
_TOKEN = re.compile(r"n(\d{1,18})", re.ASCII)
_FROM_THE_END = 2**62


class _Notified(NamedTuple):
    """An event that notified: ordered by its place, which is the order of arrival in all rooms."""

    place: int
    room: RoomRow
    membership: MembershipRow
    is_read: bool


@dataclass(frozen=True, slots=True)
class Notification:
    """An event in JSON that notified the user in a certain way; `ts` when it came (ms)."""

    event: bytes
    room_id: str
    actions: Sequence[Any]
    is_read: bool
    ts: int


@dataclass(frozen=True, slots=True)
class NotificationPage:
    """Notifications, the newest first, and the token for older ones, if there are."""

    notifications: Sequence[Notification]
    next: str | None


class PastNotifications:
    """Lists notifications.

    Args:
        db: where events are stored.
        clock: for the age of events.
        rules: the users' push rules.
        ignored: whose messages a user does not want to see.
    """

    def __init__(self, db: Database, clock: Clock, rules: PushRules, ignored: IgnoredUsers) -> None:
        self._db = db
        self._clock = clock
        self._rules = rules
        self._ignored = ignored

    async def page(
        self, requester: Requester, token: str | None, limit: int | None, *, highlights_only: bool
    ) -> NotificationPage:
        """A page of what notified the user in rooms that they are in, since they came in.

        Raises:
            InvalidParam: the token or the limit is wrong.
        """
        below = _FROM_THE_END
        if token:
            found = _TOKEN.fullmatch(token)
            if found is None:
                raise InvalidParam("The value of 'from' is not a token that this server gave out.")
            below = int(found[1])
        if limit is not None and limit < 0:
            raise InvalidParam("The limit must not be negative.")
        wanted = max(1, min(DEFAULT_LIMIT if limit is None else limit, MAX_LIMIT))
        now_ms = self._clock.now_ms()

        def step(tx: ReadTransaction) -> NotificationPage:
            rules = self._rules.of_user(tx, requester.user_nid)
            newest = self._newest(tx, requester, rules, below, wanted + 1, highlights_only)
            page = newest[:wanted]
            return NotificationPage(
                [self._notification(tx, requester, rules, notified, now_ms) for notified in page],
                f"n{page[-1].place}" if len(newest) > wanted else None,
            )

        return await self._db.read(step)

    def _newest(
        self,
        tx: ReadTransaction,
        requester: Requester,
        rules: UserRules,
        below: int,
        count: int,
        highlights_only: bool,
    ) -> list[_Notified]:
        """The newest notifications before a place, the newest first. Rooms are looked at by their newest event, until
        those that are left cannot have newer notifications than those that were found."""
        joined = memberships.of_local_user(tx, requester.user_nid, [Membership.JOIN])
        in_rooms = [(rooms.get(tx, membership.room), membership) for membership in joined]
        in_rooms.sort(key=lambda each: -each[0].last_event)
        found: list[tuple[int, _Notified]] = []
        for room, membership in in_rooms:
            if len(found) == count and room.last_event < found[0][0]:
                break
            for notified in self._in_room(tx, requester.user_nid, rules, room, membership, below, highlights_only):
                entry = (notified.place, notified)
                if len(found) < count:
                    heapq.heappush(found, entry)
                elif notified.place > found[0][0]:
                    heapq.heapreplace(found, entry)
                else:
                    break
        return [notified for _, notified in sorted(found, key=lambda each: -each[0])]

    def _in_room(
        self,
        tx: ReadTransaction,
        user: int,
        rules: UserRules,
        room: RoomRow,
        membership: MembershipRow,
        below: int,
        highlights_only: bool,
    ) -> Iterator[_Notified]:
        """The notifications in one room before a place, the newest first."""
        outcomes = rules.summary.outcomes(room.room_id)
        ignored = self._ignored.of_user(tx, user)
        came_in = place_of_join(tx, membership)
        exceptions = {row.place: row for row in highlights.after(tx, user, room.nid, came_in, below - 1, MAX_EXAMINED)}
        read_all, read_threads = read_places(tx, room.nid, user, came_in)
        for place, event_class, thread, sender in timeline.newest_classes(tx, room.nid, came_in, below, MAX_EXAMINED):
            exception = exceptions.get(place)
            if exception is None:
                notifies = outcomes.notifies(event_class)
                is_highlight = notifies and outcomes.highlights(event_class)
            else:
                notifies, is_highlight = exception.notify, exception.highlight
            if not notifies or sender == user or sender in ignored or (highlights_only and not is_highlight):
                continue
            is_read = place <= max(read_all, read_threads.get(thread, read_all))
            yield _Notified(place, room, membership, is_read)

    def _notification(
        self, tx: ReadTransaction, requester: Requester, rules: UserRules, notified: _Notified, now_ms: int
    ) -> Notification:
        room = notified.room
        (nid,) = timeline.before(tx, room.nid, notified.place, 1)
        stored = events.get(tx, nid)
        view = open_view(tx, room.room_id, requester)
        aggregations = aggregations_for(tx, view, requester, self._ignored.of_user(tx, requester.user_nid))
        event = EventRenderer(tx, now_ms, requester.device_nid).bundled_event(stored, aggregations)
        actions = rules.compiled.evaluate(stored.event, push_context(tx, room, stored, notified.membership))
        told = actions.actions if actions.notify else ["notify"]  # the room may have grown since
        return Notification(event, room.room_id, told, notified.is_read, stored.event.origin_server_ts)
