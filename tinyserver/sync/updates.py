"""What a sync found, as data: the engine makes it, a rendering turns it into an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec

from tinyserver.rooms.tokens import Point
from tinyserver.rooms.visibility import Sight
from tinyserver.storage.account_data import AccountDataRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.sync.profile_news import ProfileNews
from tinyserver.sync.sources import NO_DEVICE_NEWS, DeviceNews, Receipt, UnreadByThread
from tinyserver.sync.sticky import Sticky
from tinyserver.sync.summary import Summary
from tinyserver.sync.windows import Window


class RoomUpdate(msgspec.Struct):
    """What is new in one room for one reader.

    `sight` is None where the reader was joined at every event of the window, so that they see the same as everybody
    who was; `state` are the events for the state section, `typing` is None where that is no news.
    """

    room: int
    room_id: str
    window: Window
    sight: Sight | None
    state: Sequence[StoredEvent] = ()
    summary: Summary | None = None
    unread: UnreadByThread | None = None
    receipts: Sequence[Receipt] = ()
    typing: Sequence[str] | None = None
    account_data: Sequence[AccountDataRow] = ()
    sticky: Sequence[Sticky] = ()
    begins_anew: bool = False
    """Whether this is all that there is to know of the room, not what is new."""

    @property
    def is_news(self) -> bool:
        """Whether there is anything in it."""
        return bool(
            self.begins_anew
            or self.window.events
            or self.window.limited
            or self.state
            or self.summary is not None
            or self.receipts
            or self.account_data
            or self.typing is not None
            or self.sticky
        )


@dataclass(frozen=True, slots=True)
class StrippedRoom:
    """A room that the reader was invited to, or knocked at: its stripped state, and the member event that says so."""

    room: int
    room_id: str
    member: StoredEvent
    state: Sequence[Mapping[str, Any]]


class SyncUpdate(msgspec.Struct):
    """What is new for a device since its last sync, up to the point `next`."""

    next: Point
    joined: list[RoomUpdate] = msgspec.field(default_factory=list)
    left: list[RoomUpdate] = msgspec.field(default_factory=list)
    invited: list[StrippedRoom] = msgspec.field(default_factory=list)
    knocked: list[StrippedRoom] = msgspec.field(default_factory=list)
    account_data: Sequence[AccountDataRow] = ()
    push_rules: Mapping[str, Any] | None = None
    presence: Sequence[Mapping[str, Any]] = ()
    devices: DeviceNews = NO_DEVICE_NEWS
    profiles: Mapping[str, ProfileNews | None] = msgspec.field(default_factory=dict)
    """By user ID; None for who shares no room with the reader any more."""
    members_shown: dict[int, set[int]] = msgspec.field(default_factory=dict)
    """The users whose member events are in it, by room (with lazy loading)."""
    rooms_to_come: Iterable[RoomUpdate] = ()
    """More joined rooms, which are read one by one while they are rendered: a first sync is as large as all of them."""
    begun: set[int] = msgspec.field(default_factory=set)
    """The rooms that begin anew in it, as far as they have been rendered."""

    def each_joined(self) -> Iterator[RoomUpdate]:
        """All joined rooms, once, within the transaction in which they were looked for."""
        for room in chain(self.joined, self.rooms_to_come):
            if room.begins_anew:
                self.begun.add(room.room)
            yield room

    @property
    def is_news(self) -> bool:
        """Whether there is anything in it that a client waits for."""
        return bool(
            self.joined
            or self.left
            or self.invited
            or self.knocked
            or self.account_data
            or self.push_rules is not None
            or self.presence
            or self.devices.is_news
            or self.profiles
        )
