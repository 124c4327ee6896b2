"""The answer of `/sync` in JSON.

It is put together from texts that are encoded already: those of events, and of whole timelines, are shared between
the devices that get the same.

spec: client-server-api#syncing
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tinyserver.protocol.sticky import STICKY
from tinyserver.rooms.aggregations import Aggregations
from tinyserver.rooms.rendering import EventRenderer, json_text
from tinyserver.rooms.tokens import Point, pagination_token
from tinyserver.rooms.visibility import ALWAYS, Sight
from tinyserver.storage import names
from tinyserver.storage.account_data import AccountDataRow
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync.profile_news import ProfileNews
from tinyserver.sync.requests import SyncRequest
from tinyserver.sync.sources import NO_DEVICE_NEWS, DeviceNews, Receipt, UnreadByThread
from tinyserver.sync.sticky import texts
from tinyserver.sync.summary import Summary
from tinyserver.sync.updates import RoomUpdate, StrippedRoom, SyncUpdate

SHARED_FOR_MS = 1000
"""How long a rendered timeline is given to others: the `age` in it grows old."""


def empty_answer(point: Point, devices: DeviceNews) -> bytes:
    """The answer when nothing happened until the time was up; `devices` says what is left of the device's keys."""
    return b'{"next_batch":"%b",%b}' % (str(point).encode(), _devices(devices))


class V3Rendering:
    """Renders updates for one request, within one transaction.

    Args:
        now_ms: the time.
        ignored: the IDs of users whom the reader ignores.
    """

    def __init__(self, tx: ReadTransaction, request: SyncRequest, now_ms: int, ignored: Collection[str] = ()) -> None:
        self._tx = tx
        self._request = request
        self._now_ms = now_ms
        self._ignored = ignored
        self._until = ALWAYS
        self._events = EventRenderer(tx, now_ms, request.reader.device, request.filters)

    def render(self, update: SyncUpdate) -> bytes:
        """The whole answer."""
        self._until = update.next.position
        parts = [b'"next_batch":"%b"' % str(update.next).encode()]
        rooms = [
            _section(b"join", map(self._joined, update.each_joined())),
            _section(b"invite", (_stripped(room, b"invite_state") for room in update.invited)),
            _section(b"knock", (_stripped(room, b"knock_state") for room in update.knocked)),
            _section(b"leave", map(self._left, update.left)),
        ]
        if any(rooms):
            parts.append(b'"rooms":{%b}' % b",".join(filter(None, rooms)))
        account_data = _account_data(update.account_data)
        if update.push_rules is not None:
            account_data.append(json_text({"type": "m.push_rules", "content": update.push_rules}))
        if account_data:
            parts.append(b'"account_data":' + _batch(account_data))
        if update.presence:
            parts.append(b'"presence":' + _batch(map(json_text, update.presence)))
        if update.profiles:
            key = self._request.filters.profile_key.encode()
            parts.append(b'"%b":%b' % (key, json_text(_profiles(update.profiles))))
        parts.append(_devices(update.devices))
        return b"{%b}" % b",".join(parts)

    # -- rooms -----------------------------------------------------------------------------------

    def _joined(self, room: RoomUpdate) -> bytes:
        parts = [
            b'%b:{"timeline":%b' % (json_text(room.room_id), self._timeline(room)),
            self._state(room),
            b'"summary":%b' % (b"{}" if room.summary is None else self._summary(room.summary)),
            b'"ephemeral":' + _batch(_ephemeral(room)),
            b'"account_data":' + _batch(_account_data(room.account_data)),
        ]
        if room.sticky and (sticky := texts(self._events, room.sticky, self._now_ms)):
            parts.append(b'"%b":%b' % (STICKY.encode(), _batch(sticky)))
        if room.unread is not None:
            parts += _unread(room.unread, threads=self._request.filters.counts_threads)
        return b",".join(parts) + b"}"

    def _left(self, room: RoomUpdate) -> bytes:
        return b'%b:{"timeline":%b,%b,"account_data":%b}' % (
            json_text(room.room_id),
            self._timeline(room),
            self._state(room),
            _batch(_account_data(room.account_data)),
        )

    def _timeline(self, room: RoomUpdate) -> bytes:
        window = room.window
        if window.limited and window.has_parents:  # what their children amount to differs from reader to reader
            return self._render_timeline(room, self._aggregations(room))
        if room.sight is not None or self._request.reader.device in window.sending_devices:
            return self._render_timeline(room)
        if window.rendered is None or self._now_ms - window.rendered[0] > SHARED_FOR_MS:
            window.rendered = (self._now_ms, self._render_timeline(room))
        return window.rendered[1]

    def _aggregations(self, room: RoomUpdate) -> Aggregations:
        """What is bundled with events: clients put it together by themselves unless the timeline has a gap.

        spec: client-server-api#aggregations-of-child-events
        """
        reader = self._request.reader
        sight = Sight(self._tx, reader.user, reader.user_id, ALWAYS) if room.sight is None else room.sight
        ignored = (names.find(self._tx, user_id) for user_id in self._ignored)
        known = frozenset(user for user in ignored if user is not None and user != reader.user)
        return Aggregations(self._tx, room.room, reader.user, sight, known, self._until)

    def _render_timeline(self, room: RoomUpdate, aggregations: Aggregations | None = None) -> bytes:
        window, sight = room.window, room.sight
        render = self._events.timeline_event
        if sight is None:
            events = [render(stored, "join", None, aggregations) for stored in window.events]
        else:
            events = [
                render(stored, sight.membership_in(stored.state), sight, aggregations) for stored in window.events
            ]
        return b'{"events":[%b],"limited":%b,"prev_batch":"%b"}' % (
            b",".join(events),
            b"true" if window.limited else b"false",
            pagination_token(window.start).encode(),
        )

    def _state(self, room: RoomUpdate) -> bytes:
        batch = _batch(map(self._events.state_event, room.state))
        names_of_section = self._request.state_after or ("state",)
        return b",".join(b'"%b":%b' % (name.encode(), batch) for name in names_of_section)

    def _summary(self, summary: Summary) -> bytes:
        value: dict[str, Any] = {
            "m.joined_member_count": summary.joined,
            "m.invited_member_count": summary.invited,
        }
        if summary.heroes is not None:
            value["m.heroes"] = [names.text(self._tx, user) for user in summary.heroes]
        return json_text(value)


def _section(name: bytes, rooms: Iterable[bytes]) -> bytes:
    joined = b",".join(rooms)
    return b'"%b":{%b}' % (name, joined) if joined else b""


def _batch(events: Iterable[bytes]) -> bytes:
    return b'{"events":[%b]}' % b",".join(events)


def _stripped(room: StrippedRoom, section: bytes) -> bytes:
    return b'%b:{"%b":%b}' % (json_text(room.room_id), section, _batch(map(json_text, room.state)))


def _account_data(rows: Sequence[AccountDataRow]) -> list[bytes]:
    return [b'{"type":%b,"content":%b}' % (json_text(row.type), row.content) for row in rows]


def _ephemeral(room: RoomUpdate) -> list[bytes]:
    found = [json_text({"type": "m.receipt", "content": content}) for content in receipt_contents(room.receipts)]
    if room.typing is not None:
        found.append(json_text({"type": "m.typing", "content": {"user_ids": list(room.typing)}}))
    return found


def receipt_contents(receipts: Sequence[Receipt]) -> list[dict[str, Any]]:
    """The contents of `m.receipt` events: one, unless a user has receipts of several threads at the same event."""
    contents: list[dict[str, Any]] = []
    for receipt in receipts:
        data: dict[str, Any] = {"ts": receipt.ts}
        if receipt.thread_id is not None:
            data["thread_id"] = receipt.thread_id
        for content in contents:
            users = content.setdefault(receipt.event_id, {}).setdefault(receipt.receipt_type, {})
            if receipt.user_id not in users:
                users[receipt.user_id] = data
                break
        else:
            contents.append({receipt.event_id: {receipt.receipt_type: {receipt.user_id: data}}})
    return contents


def _unread(unread: UnreadByThread, *, threads: bool) -> list[bytes]:
    parts = [
        b'"unread_notifications":{"notification_count":%d,"highlight_count":%d}'
        % (unread.notification_count, unread.highlight_count)
    ]
    if threads and unread.by_thread:
        by_thread: Mapping[str, dict[str, int]] = {
            root: {"notification_count": counts.notification_count, "highlight_count": counts.highlight_count}
            for root, counts in unread.by_thread.items()
        }
        parts.append(b'"unread_thread_notifications":' + json_text(by_thread))
    return parts


def _profiles(profiles: Mapping[str, ProfileNews | None]) -> dict[str, Any]:
    return {
        user_id: {"profile_updates": None if news is None else {**news.updated, **dict.fromkeys(news.removed)}}
        for user_id, news in profiles.items()
    }


def _devices(news: DeviceNews) -> bytes:
    if news is NO_DEVICE_NEWS:
        return _NO_DEVICE_NEWS
    return _device_parts(news)


def _device_parts(news: DeviceNews) -> bytes:
    parts = []
    if news.to_device:
        parts.append(b'"to_device":' + _batch(news.to_device))
    if news.changed or news.left:
        parts.append(b'"device_lists":' + json_text({"changed": list(news.changed), "left": list(news.left)}))
    parts.append(b'"device_one_time_keys_count":' + json_text(dict(news.one_time_keys)))
    parts.append(b'"device_unused_fallback_key_types":' + json_text(list(news.unused_fallback_keys)))
    return b",".join(parts)


_NO_DEVICE_NEWS = _device_parts(NO_DEVICE_NEWS)
