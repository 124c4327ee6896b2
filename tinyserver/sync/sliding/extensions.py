"""What sliding sync tells besides rooms: messages to the device, keys, account data, receipts, typing, threads,
profiles.

spec: MSC3884, MSC3885, MSC3959, MSC3960, MSC3961, MSC4262, MSC4308, MSC4480
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinyserver.rooms.thread_subscriptions import SubscriptionChanges, changes_between
from tinyserver.storage import account_data
from tinyserver.storage.account_data import AccountDataRow
from tinyserver.storage.memberships import Membership
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync.profile_news import ProfileNews, read_profiles
from tinyserver.sync.sliding.planning import RoomTask, SlidingPlan
from tinyserver.sync.sliding.requests import StickyRequest
from tinyserver.sync.sliding.rooms import SlidingRoom
from tinyserver.sync.sliding.sent import LIVE, NEVER
from tinyserver.sync.sources import DeviceNews, Receipt, Sources
from tinyserver.sync.sticky import StickyNews, of_room, of_rooms


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages (JSON) for the device, and the position up to which it has all of them then."""

    events: Sequence[bytes]
    until: int


@dataclass(slots=True)
class ExtensionNews:
    """What is new; None for what was not asked for."""

    to_device: Messages | None = None
    devices: DeviceNews | None = None
    account_data: Sequence[AccountDataRow] | None = None
    push_rules: Mapping[str, Any] | None = None
    room_account_data: dict[str, Sequence[AccountDataRow]] = field(default_factory=dict)
    receipts: dict[str, Sequence[Receipt]] | None = None
    typing: dict[str, Sequence[str]] | None = None
    threads: SubscriptionChanges | None = None
    profiles: Mapping[str, ProfileNews | None] = field(default_factory=dict)
    sticky: StickyNews | None = None

    @property
    def is_news(self) -> bool:
        """Whether there is anything that a client waits for."""
        return bool(
            (self.to_device is not None and self.to_device.events)
            or (self.devices is not None and self.devices.is_news)
            or self.account_data
            or self.push_rules is not None
            or self.room_account_data
            or self.receipts
            or self.typing
            or (self.threads is not None and not self.threads.is_empty)
            or self.profiles
            or (self.sticky is not None and self.sticky.rooms)
        )


class ExtensionReader:
    """Reads it for one request, within one transaction.

    Args:
        rooms: what the answer has of rooms.
    """

    def __init__(
        self, tx: ReadTransaction, plan: SlidingPlan, sources: Sources, rooms: Mapping[int, SlidingRoom]
    ) -> None:
        self._tx = tx
        self._plan = plan
        self._sources = sources
        self._rooms = rooms
        self._user = plan.request.reader.user
        self._device = plan.request.reader.device

    def read(self) -> ExtensionNews:
        """All that was asked for."""
        wanted = self._plan.request.extensions
        news = ExtensionNews()
        if wanted.to_device is not None:
            news.to_device = self._messages(wanted.to_device.since, wanted.to_device.limit)
        if wanted.e2ee:
            news.devices = self._devices()
        if wanted.account_data is not None:
            self._read_account_data(news)
        if wanted.receipts is not None:
            news.receipts = self._receipts()
        if wanted.typing is not None:
            news.typing = self._typing()
        if wanted.threads is not None:
            news.threads = self._threads(wanted.threads)
        asked = self._plan.profiles
        if asked is not None:
            reader, until = self._plan.request.reader, self._plan.until.position
            news.profiles = read_profiles(self._tx, reader, self._plan.joined, asked, until)
        if wanted.sticky is not None:
            news.sticky = self._sticky(wanted.sticky)
        return news

    def _sticky(self, wanted: StickyRequest) -> StickyNews:
        plan, until = self._plan, self._plan.until.position
        since = wanted.since if wanted.since <= until else 0
        rooms = plan.joined & plan.loaded.rooms.by_room.keys()
        news = of_rooms(self._tx, rooms, since, until, wanted.limit, plan.ignored)
        for room in plan.loaded.rooms.by_room.values():
            if since and room.membership is Membership.JOIN and room.row.position > since:  # it may have been entered
                found = of_room(self._tx, room.row.room, 0, since, (), plan.ignored)
                if found:
                    news.rooms[room.row.room] = [*found, *news.rooms.get(room.row.room, ())]
        for number, shown in self._rooms.items():
            if number in news.rooms:
                in_timeline = {stored.nid for stored in shown.shown_events}
                left = [each for each in news.rooms.pop(number) if each.stored.nid not in in_timeline]
                if left:
                    news.rooms[number] = left
        return news

    def _threads(self, limit: int) -> SubscriptionChanges:
        plan = self._plan
        since = plan.since if plan.base.threads else 0
        if plan.base.threads and not plan.personal:
            return SubscriptionChanges({}, {}, None)
        return changes_between(self._tx, self._user, since, plan.until.position, limit)

    def _messages(self, since: int, limit: int) -> Messages:
        until = self._plan.until.position
        if since > until:  # of a database that is no more: whether these messages have arrived nobody knows
            since = 0
        if self._device is None:
            return Messages((), until)
        messages, more_after = self._sources.devices.messages(self._tx, self._user, self._device, since, until, limit)
        return Messages(messages, until if more_after is None else more_after)

    def _devices(self) -> DeviceNews:
        plan = self._plan
        since = None if plan.point is None else plan.point.position
        return self._sources.devices.keys_and_lists(
            self._tx, self._user, self._device, since, plan.until.position, plan.joined, plan.changed
        )

    # -- account data ----------------------------------------------------------------------------

    def _read_account_data(self, news: ExtensionNews) -> None:
        plan, tx, until = self._plan, self._tx, self._plan.until.position
        news.account_data = ()
        changed: list[AccountDataRow] = []
        if plan.personal and plan.point is not None:
            changed = account_data.changed_since(tx, self._user, plan.since, until)
        if not plan.base.account_data:
            news.account_data = account_data.of_room(tx, self._user, None)
            news.push_rules = self._sources.push_rules.changed_since(tx, self._user, 0, until)
        elif plan.personal:
            news.account_data = [row for row in changed if row.room_id is None]
            news.push_rules = self._sources.push_rules.changed_since(tx, self._user, plan.since, until)
        scope = plan.request.extensions.account_data
        for task in plan.tasks.values():
            if not task.sent.account_data and task.is_in(scope):
                rows = account_data.of_room(tx, self._user, task.room.room_id)
                if rows:
                    news.room_account_data[task.room.room_id] = rows
        for row in changed:
            if row.room_id is not None and row.room_id not in news.room_account_data:
                room = plan.loaded.rooms.by_id.get(row.room_id)
                sent = None if room is None else plan.base.rooms.get(room.row.room)
                if sent is not None and sent.account_data:
                    news.room_account_data[row.room_id] = [each for each in changed if each.room_id == row.room_id]

    # -- receipts and typing ---------------------------------------------------------------------

    def _receipts(self) -> dict[str, Sequence[Receipt]]:
        plan = self._plan
        found: dict[str, Sequence[Receipt]] = {}
        for task in plan.tasks.values():
            if task.room.membership is Membership.JOIN and task.is_in(plan.request.extensions.receipts):
                receipts = self._receipts_of(task)
                if receipts:
                    found[task.room.room_id] = receipts
        return found

    def _receipts_of(self, task: RoomTask) -> Sequence[Receipt]:
        plan = self._plan
        room = self._rooms.get(task.number)
        begins = room is not None and (room.initial or room.expanded)
        since = plan.since if task.sent.receipts == LIVE else task.sent.receipts
        moved: Sequence[Receipt] = ()
        if since == NEVER and not begins:
            return self._visible_since(task, 0)
        if since != NEVER and task.receipts_may_have_moved:
            moved = self._visible_since(task, since)
        if not begins or room is None:
            return moved
        shown = {stored.event_id for stored in room.shown_events}
        others = [
            each
            for each in self._visible_since(task, 0)
            if (each.event_id in shown or each.user == self._user) and each not in moved
        ]
        return [*moved, *others]

    def _visible_since(self, task: RoomTask, since: int) -> Sequence[Receipt]:
        until = self._plan.until.position
        return self._sources.receipts.visible_since(self._tx, task.number, self._user, since, until)

    def _typing(self) -> dict[str, Sequence[str]]:
        plan = self._plan
        found: dict[str, Sequence[str]] = {}
        for task in plan.tasks.values():
            if task.room.membership is Membership.JOIN and task.is_in(plan.request.extensions.typing):
                users = plan.typing.get(task.number)
                if users is None and task.since != plan.since:  # it was not looked at before
                    users = plan.typing_now.get(task.number)
                if users is not None:
                    found[task.room.room_id] = users
        return found
