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
"""How many events of one room are looked at for one page; then the page ends, with a token to go on."""
_TOKEN = re.compile(r"n(\d{1,18})", re.ASCII)
_FROM_THE_END = 2**62


class _Notified(NamedTuple):
    """An event that notified: ordered by its place, which is the order of arrival in all rooms."""

    place: int
    room: RoomRow
    membership: MembershipRow
    is_read: bool
    is_highlight: bool


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
            newest, reached = self._newest(tx, requester, rules, below, wanted + 1, highlights_only)
            page = newest[:wanted]
            last = page[-1].place if len(newest) > wanted else reached
            return NotificationPage(
                [self._notification(tx, requester, rules, notified, now_ms) for notified in page],
                None if last is None else f"n{last}",
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
    ) -> tuple[list[_Notified], int | None]:
        """The newest notifications before a place, the newest first, and the place down to which all was looked at
        (None: nothing is left). Rooms are looked at by their newest event, until those that are left cannot have newer
        notifications than those that were found."""
        joined = memberships.of_local_user(tx, requester.user_nid, [Membership.JOIN])
        in_rooms = [(rooms.get(tx, membership.room), membership) for membership in joined]
        in_rooms.sort(key=lambda each: -each[0].last_event)
        found: list[tuple[int, _Notified]] = []
        reached: int | None = None
        for room, membership in in_rooms:
            after = max(found[0][0] if len(found) == count else 0, reached or 0)
            if room.last_event <= after:
                break
            looked_at = 0
            for place, notified in self._in_room(tx, requester.user_nid, rules, room, membership, after, below):
                looked_at += 1
                if looked_at == MAX_EXAMINED:
                    reached = place
                if notified is None or (highlights_only and not notified.is_highlight):
                    continue
                if len(found) < count:
                    heapq.heappush(found, (place, notified))
                elif place > found[0][0]:
                    heapq.heapreplace(found, (place, notified))
                else:
                    break
        newest = [notified for place, notified in sorted(found, key=lambda each: -each[0]) if place >= (reached or 0)]
        return newest, reached

    def _in_room(
        self,
        tx: ReadTransaction,
        user: int,
        rules: UserRules,
        room: RoomRow,
        membership: MembershipRow,
        after: int,
        below: int,
    ) -> Iterator[tuple[int, _Notified | None]]:
        """The places of events in one room between two others (exclusive), the newest first, with the notification if
        they are one."""
        outcomes = rules.summary.outcomes(room.room_id)
        ignored = self._ignored.of_user(tx, user)
        came_in = place_of_join(tx, membership)
        start = max(came_in, after)
        exceptions = {row.place: row for row in highlights.after(tx, user, room.nid, start, below - 1, MAX_EXAMINED)}
        read_all, read_threads = read_places(tx, room.nid, user, came_in)
        for place, event_class, thread, sender in timeline.newest_classes(tx, room.nid, start, below, MAX_EXAMINED):
            exception = exceptions.get(place)
            if exception is None:
                notifies = outcomes.notifies(event_class)
                is_highlight = notifies and outcomes.highlights(event_class)
            else:
                notifies, is_highlight = exception.notify, exception.highlight
            if not event_class or not notifies or sender == user or sender in ignored:
                yield place, None
                continue
            is_read = place <= max(read_all, read_threads.get(thread, read_all))
            yield place, _Notified(place, room, membership, is_read, is_highlight)

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
