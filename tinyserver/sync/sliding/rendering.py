"""The answer of sliding sync in JSON, in the form that clients expect today or in the accepted one.

spec: MSC4186 (response body)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tinyserver.rooms.aggregations import Aggregations
from tinyserver.rooms.rendering import EventRenderer, json_text
from tinyserver.rooms.thread_subscriptions import SubscriptionChanges
from tinyserver.rooms.tokens import pagination_token
from tinyserver.rooms.visibility import ALWAYS, Sight
from tinyserver.storage import names
from tinyserver.storage.account_data import AccountDataRow
from tinyserver.storage.memberships import Membership
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync.profile_news import ProfileNews
from tinyserver.sync.sliding.extensions import ExtensionNews
from tinyserver.sync.sliding.lists import ArrangedList
from tinyserver.sync.sliding.planning import SlidingPlan
from tinyserver.sync.sliding.rooms import Hero, SlidingRoom
from tinyserver.sync.sources import DeviceNews, Receipt
from tinyserver.sync.sticky import StickyNews, texts
from tinyserver.sync.v3 import receipt_contents

_MEMBERSHIPS = {each: each.name.lower() for each in Membership}


def render(
    tx: ReadTransaction, plan: SlidingPlan, rooms: Iterable[SlidingRoom], news: ExtensionNews, now_ms: int
) -> bytes:
    """The whole answer but for its `pos`, which comes first: `{"pos":"...",` and this."""
    rendering = _Rendering(tx, plan, now_ms)
    extensions = [*_extensions(news, stable=plan.request.stable), *rendering.sticky(news.sticky)]
    parts = [
        b'"lists":' + _lists(plan.lists, stable=plan.request.stable),
        b'"rooms":{%b}' % b",".join(map(rendering.room, rooms)),
        b'"extensions":{%b}' % b",".join(extensions),
    ]
    return b",".join(parts) + b"}"


class _Rendering:
    def __init__(self, tx: ReadTransaction, plan: SlidingPlan, now_ms: int) -> None:
        self._tx = tx
        self._plan = plan
        self._now_ms = now_ms
        self._stable = plan.request.stable
        self._events = EventRenderer(tx, now_ms, plan.request.reader.device)

    def sticky(self, news: StickyNews | None) -> list[bytes]:
        """The extension for sticky events, if there are any."""
        if news is None:
            return []
        rooms = []
        for number, found in news.rooms.items():
            events = texts(self._events, found, self._now_ms)
            if events:
                room_id = json_text(self._plan.loaded.rooms.by_room[number].room_id)
                rooms.append(b'%b:{"events":[%b]}' % (room_id, b",".join(events)))
        name = b"sticky_events" if self._stable else b"org.matrix.msc4354.sticky_events"
        return [b'"%b":{"rooms":{%b},"next_batch":"%d"}' % (name, b",".join(rooms), news.until)] if rooms else []

    def room(self, room: SlidingRoom) -> bytes:
        """One room by its ID."""
        stable, user_room = self._stable, room.task.room
        fields: dict[str, Any] = {"bump_stamp": room.bump_stamp}
        if room.initial:
            fields["initial"] = True
        if stable:
            fields["membership"] = _MEMBERSHIPS[user_room.membership]
            if room.task.lists:
                fields["lists"] = room.task.lists
        for key, value in (("name", room.name), ("avatar", room.avatar)):
            if value or (stable and value is not None and not room.initial):
                fields[key] = value or None
        if room.heroes:
            fields["heroes"] = [_hero(each) for each in room.heroes]
        if room.is_direct or (room.is_direct is not None and not room.initial):
            fields["is_dm"] = room.is_direct
        if room.counts is not None:
            fields["joined_count"], fields["invited_count"] = room.counts
        if room.unread is not None and not stable:
            fields["notification_count"] = room.unread.notification_count
            fields["highlight_count"] = room.unread.highlight_count
        if room.stripped is not None:
            fields["stripped_state" if stable else "invite_state"] = list(room.stripped.state)
        parts = [json_text(fields)[1:-1]]
        if room.window is not None:
            parts += self._timeline(room)
        state = [self._events.state_event(stored) for stored in room.state]
        if stable:
            state += [json_text({"type": event_type, "state_key": key}) for event_type, key in room.removed]
        if state:
            parts.append(b'"required_state":[%b]' % b",".join(state))
        return b"%b:{%b}" % (json_text(room.room_id), b",".join(parts))

    def _timeline(self, room: SlidingRoom) -> list[bytes]:
        window, sight = room.window, room.sight
        assert window is not None
        aggregations = self._aggregations(room) if window.has_parents else None
        events = [
            self._events.timeline_event(
                stored, "join" if sight is None else sight.membership_in(stored.state), sight, aggregations
            )
            for stored in window.events
        ]
        live = 0
        if self._plan.point is not None:
            since = self._plan.since
            live = sum(1 for stored in window.events if stored.place is not None and stored.place > since)
        parts = [
            b'"timeline":[%b],"limited":%b,"num_live":%d,"prev_batch":"%b"'
            % (
                b",".join(events),
                b"true" if window.limited else b"false",
                live,
                pagination_token(window.start).encode(),
            )
        ]
        if room.expanded:
            parts.append(b'"expanded_timeline":true' if self._stable else b'"unstable_expanded_timeline":true')
        return parts

    def _aggregations(self, room: SlidingRoom) -> Aggregations:
        reader, plan = self._plan.request.reader, self._plan
        sight = Sight(self._tx, reader.user, reader.user_id, ALWAYS) if room.sight is None else room.sight
        return Aggregations(
            self._tx, room.task.number, reader.user, sight, _numbers(self._tx, plan.ignored), plan.until.position
        )


def _numbers(tx: ReadTransaction, user_ids: Collection[str]) -> frozenset[int]:
    found = (names.find(tx, user_id) for user_id in user_ids)
    return frozenset(user for user in found if user is not None)


def _hero(hero: Hero) -> dict[str, str]:
    shown = {"user_id": hero.user_id}
    if hero.displayname is not None:
        shown["displayname"] = hero.displayname
    if hero.avatar_url is not None:
        shown["avatar_url"] = hero.avatar_url
    return shown


def _lists(lists: Mapping[str, ArrangedList], *, stable: bool) -> bytes:
    shown: dict[str, dict[str, Any]] = {}
    for name, arranged in lists.items():
        shown[name] = {"count": arranged.count}
        if not stable:
            shown[name]["ops"] = [
                {"op": "SYNC", "range": list(places), "room_ids": [room.room_id for room in rooms]}
                for places, rooms in arranged.windows
            ]
    return json_text(shown)


# -- extensions ----------------------------------------------------------------------------------


def _extensions(news: ExtensionNews, *, stable: bool) -> list[bytes]:
    parts = []
    if news.to_device is not None:
        parts.append(
            b'"to_device":{"next_batch":"%d","events":[%b]}' % (news.to_device.until, b",".join(news.to_device.events))
        )
    if news.devices is not None:
        parts.append(b'"e2ee":' + _devices(news.devices))
    if news.account_data is not None:
        general = _account_data(news.account_data)
        if news.push_rules is not None:
            general.append(json_text({"type": "m.push_rules", "content": news.push_rules}))
        by_room = (
            b"%b:[%b]" % (json_text(room_id), b",".join(_account_data(rows)))
            for room_id, rows in news.room_account_data.items()
        )
        parts.append(b'"account_data":{"global":[%b],"rooms":{%b}}' % (b",".join(general), b",".join(by_room)))
    if news.receipts is not None:
        receipts = {room_id: _receipt_event(found) for room_id, found in news.receipts.items()}
        parts.append(b'"receipts":' + json_text({"rooms": receipts}))
    if news.typing is not None:
        typing = {
            room_id: {"type": "m.typing", "content": {"user_ids": list(users)}}
            for room_id, users in news.typing.items()
        }
        parts.append(b'"typing":' + json_text({"rooms": typing}))
    if news.threads is not None:
        name = b"thread_subscriptions" if stable else b"io.element.msc4308.thread_subscriptions"
        parts.append(b'"%b":%b' % (name, json_text(_threads(news.threads))))
    if news.profiles:
        name = b"profiles" if stable else b"org.matrix.msc4262.profiles"
        parts.append(b'"%b":%b' % (name, json_text({"users": _profiles(news.profiles)})))
    return parts


def _profiles(profiles: Mapping[str, ProfileNews | None]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for user_id, news in profiles.items():
        parts = None if news is None else {"updated": news.updated, "removed": list(news.removed)}
        shown[user_id] = parts and {name: part for name, part in parts.items() if part}
    return shown


def _threads(changes: SubscriptionChanges) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if changes.subscribed:
        shown["subscribed"] = changes.subscribed
    if changes.unsubscribed:
        shown["unsubscribed"] = changes.unsubscribed
    if changes.end is not None:
        shown["prev_batch"] = changes.end
    return shown


def _devices(news: DeviceNews) -> bytes:
    shown: dict[str, Any] = {
        "device_one_time_keys_count": dict(news.one_time_keys),
        "device_unused_fallback_key_types": list(news.unused_fallback_keys),
    }
    if news.changed or news.left:
        shown["device_lists"] = {"changed": list(news.changed), "left": list(news.left)}
    return json_text(shown)


def _account_data(rows: Sequence[AccountDataRow]) -> list[bytes]:
    return [b'{"type":%b,"content":%b}' % (json_text(row.type), row.content) for row in rows]


def _receipt_event(receipts: Sequence[Receipt]) -> dict[str, Any]:
    """One event: where a user has receipts of several threads at one event, the one that says most."""
    by_weight = sorted(receipts, key=lambda receipt: (receipt.thread_id is not None, receipt.thread_id != "main"))
    return {"type": "m.receipt", "content": receipt_contents(by_weight)[0]}
