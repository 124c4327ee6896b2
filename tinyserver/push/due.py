"""What a pusher is to be told next: events that notify its user after its cursor, and the unread count.

It follows from the store as unread counts do (`tinyserver.push.past` looks back, this looks on). What the user has
read meanwhile is not told. After a long outage a phone does not ring for every event, but once for each room.

spec: client-server-api#receiving-notifications, push-gateway-api#post_matrixpushv1notify
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.push.notifications import push_context
from tinyserver.push.rules import PushRules, UserRules
from tinyserver.push.unread import UnreadCounter, place_of_join, read_places
from tinyserver.rooms.member_checks import wants_invites
from tinyserver.storage import events, highlights, memberships, names, room_state, rooms, timeline
from tinyserver.storage.memberships import Membership, MembershipRow
from tinyserver.storage.pushers import PusherRow
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction

MAX_APART = 20
"""Up to so many events are told one by one; of more only the newest of each room, of so many rooms."""
MAX_EXAMINED = 500
"""How many of the newest events of a room are looked at."""
LONG_OUTAGE_MS = 60_000
"""After so long without a pusher's gateway only the newest event of each room is told."""


@dataclass(frozen=True, slots=True)
class DueEvent:
    """An event to be told, as the fields of `Notification` in the push gateway API: `minimal` are those of the format
    `event_id_only`, `rest` the others. `place` is where it is in the one order."""

    place: int
    room: int
    minimal: dict[str, Any]
    rest: dict[str, Any]
    tweaks: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Due:
    """Events, the oldest first, and the number of unread ones in all rooms (None: it need not be counted)."""

    events: list[DueEvent]
    unread: int | None


@dataclass(frozen=True, slots=True)
class Missed:
    """What a user has not read in a room since a position: the number of events that notify, and the newest of them,
    the oldest first."""

    room: RoomRow
    name: str | None
    count: int
    since_ts: int
    """When the oldest of them was sent, ms since 1970; as its server says."""
    newest: list[tuple[str, StoredEvent]]
    """(name of the sender, event)."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Missed events by room, the room with the newest last. `has_older`: events from before are unread, too."""

    rooms: list[Missed]
    has_older: bool


class DueReader:
    """Reads what is due.

    Args:
        rules: the users' push rules.
        ignored: whom users ignore.
        unread: counts.
    """

    def __init__(self, rules: PushRules, ignored: IgnoredUsers, unread: UnreadCounter) -> None:
        self._rules = rules
        self._ignored = ignored
        self._unread = unread

    def read(self, tx: ReadTransaction, pusher: PusherRow, since: int, until: int, now_ms: int) -> Due:
        """What a pusher is to be told of positions in (`since`, `until`]."""
        user = pusher.user
        rules = self._rules.of_user(tx, user)
        found: list[tuple[int, RoomRow, MembershipRow, StoredEvent]] = []
        joined = memberships.of_local_user(tx, user, [Membership.JOIN])
        newest = timeline.newest_places(tx, [membership.room for membership in joined])
        for membership in joined:
            if newest.get(membership.room, 0) > since:
                room = rooms.get(tx, membership.room)
                for place in self._in_room(tx, user, rules, room, membership, since, until):
                    found.append((place, room, membership, _event_at(tx, room, place)))
        found += self._invites(tx, user, rules, since, until)
        found.sort(key=lambda each: each[0])
        was_away = pusher.failing_since is not None and now_ms - pusher.failing_since > LONG_OUTAGE_MS
        if len(found) > MAX_APART or was_away:
            found = sorted({each[1].nid: each for each in found}.values(), key=lambda each: each[0])[-MAX_APART:]
        told = [self._told(tx, rules, *each) for each in found]
        if not told and not pusher.badge:
            return Due([], 0)  # nothing was unread, and nothing has come that would be
        return Due(told, self._count(tx, user, [membership.room for membership in joined]))

    def digest(self, tx: ReadTransaction, pusher: PusherRow, since: int, until: int, most: int) -> Digest:
        """What a pusher lacks of positions in (`since`, `until`], by room; of each room the `most` newest events."""
        user = pusher.user
        rules = self._rules.of_user(tx, user)
        joined = memberships.of_local_user(tx, user, [Membership.JOIN])
        newest = timeline.newest_places(tx, [membership.room for membership in joined])
        missed: list[tuple[int, Missed]] = []
        for membership in joined:
            if newest.get(membership.room, 0) > since:
                room = rooms.get(tx, membership.room)
                places = sorted(self._in_room(tx, user, rules, room, membership, since, until))
                if places:
                    found = [_event_at(tx, room, place) for place in (places[0], *places[-most:])]
                    missed.append((places[-1], _missed(tx, room, len(places), found[0], found[1:])))
        counted = sum(each.count for _, each in missed)
        missed += [
            (place, _missed(tx, room, 1, stored, [stored]))
            for place, room, _, stored in self._invites(tx, user, rules, since, until)
        ]
        missed.sort(key=lambda each: each[0])
        has_older = self._count(tx, user, [membership.room for membership in joined]) > counted
        return Digest([each for _, each in missed], has_older)

    def _count(self, tx: ReadTransaction, user: int, joined: list[int]) -> int:
        return sum(self._unread.counts(tx, user, room).notification_count for room in joined)

    def _in_room(
        self,
        tx: ReadTransaction,
        user: int,
        rules: UserRules,
        room: RoomRow,
        membership: MembershipRow,
        since: int,
        until: int,
    ) -> Iterator[int]:
        """The places of the unread events in (`since`, `until`] that notify, in any order."""
        outcomes = rules.summary.outcomes(room.room_id)
        ignored = self._ignored.of_user(tx, user)
        came_in = place_of_join(tx, membership)
        start = max(since, came_in)
        exceptions = {row.place: row for row in highlights.after(tx, user, room.nid, start, until, MAX_EXAMINED)}
        read_all, read_threads = read_places(tx, room.nid, user, came_in)
        for place, event_class, thread, sender in timeline.newest_classes(tx, room.nid, start, until + 1, MAX_EXAMINED):
            exception = exceptions.get(place)
            notifies = outcomes.notifies(event_class) if exception is None else exception.notify
            if not event_class or not notifies or sender == user or sender in ignored:
                continue
            if place > max(read_all, read_threads.get(thread, read_all)):
                yield place

    def _invites(
        self, tx: ReadTransaction, user: int, rules: UserRules, since: int, until: int
    ) -> Iterator[tuple[int, RoomRow, MembershipRow, StoredEvent]]:
        if not wants_invites(tx, user):
            return
        ignored = self._ignored.of_user(tx, user)
        for membership in memberships.of_local_user(tx, user, [Membership.INVITE]):
            if since < membership.position <= until:
                room, stored = rooms.get(tx, membership.room), events.get(tx, membership.event)
                if stored.sender_nid in ignored:
                    continue
                if rules.compiled.evaluate(stored.event, push_context(tx, room, stored, membership)).notify:
                    yield membership.position, room, membership, stored

    def _told(
        self, tx: ReadTransaction, rules: UserRules, place: int, room: RoomRow, membership: MembershipRow,
        stored: StoredEvent,
    ) -> DueEvent:  # fmt: skip
        event = stored.event
        actions = rules.compiled.evaluate(event, push_context(tx, room, stored, membership))
        tweaks = actions.tweaks if actions.notify else {}  # the room may have grown since
        urgent = event.type == "m.room.encrypted" or tweaks.get("sound") or tweaks.get("highlight") is True
        minimal = {"event_id": event.event_id, "room_id": room.room_id, "prio": "high" if urgent else "low"}
        rest: dict[str, Any] = {"type": event.type, "sender": event.sender, "content": event.content}
        if event.type == "m.room.member":
            rest["user_is_target"] = event.state_key == names.text(tx, membership.user)
        shown = {
            "sender_display_name": _state(tx, room, event.pdu, "m.room.member", event.sender).get("displayname"),
            "room_name": _state(tx, room, event.pdu, "m.room.name").get("name"),
            "room_alias": _state(tx, room, event.pdu, "m.room.canonical_alias").get("alias"),
        }
        rest |= {key: value for key, value in shown.items() if isinstance(value, str) and value}
        return DueEvent(place, room.nid, minimal, rest, tweaks)


def _event_at(tx: ReadTransaction, room: RoomRow, place: int) -> StoredEvent:
    (nid,) = timeline.before(tx, room.nid, place, 1)
    return events.get(tx, nid)


def _missed(tx: ReadTransaction, room: RoomRow, count: int, oldest: StoredEvent, newest: list[StoredEvent]) -> Missed:
    last = newest[-1].event.pdu
    name = _state(tx, room, last, "m.room.name").get("name")
    alias = _state(tx, room, last, "m.room.canonical_alias").get("alias")
    shown = next((each for each in (name, alias) if isinstance(each, str) and each), None)
    senders = []
    for stored in newest:
        sender = stored.event.sender
        displayname = _state(tx, room, stored.event.pdu, "m.room.member", sender).get("displayname")
        senders.append(displayname if isinstance(displayname, str) and displayname else sender)
    return Missed(room, shown, count, oldest.event.origin_server_ts, list(zip(senders, newest, strict=True)))


def _state(
    tx: ReadTransaction, room: RoomRow, pdu: dict[str, Any], event_type: str, state_key: str = ""
) -> dict[str, Any]:
    """The content of a room's state; of a room that this server is not in, as the invite says."""
    if room.state:
        return dict(room_state.content_at(tx, room.state, event_type, state_key))
    unsigned = pdu.get("unsigned")
    stripped = unsigned.get("invite_room_state") if isinstance(unsigned, dict) else None
    for each in stripped if isinstance(stripped, list) else ():
        if isinstance(each, dict) and each.get("type") == event_type and each.get("state_key") == state_key:
            content = each.get("content")
            return content if isinstance(content, dict) else {}
    return {}
