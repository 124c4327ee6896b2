"""What sync asks of other parts of the server: one small protocol for each, passed in by the composition root."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from tinyserver.rooms.tokens import Point
from tinyserver.storage.transaction import ReadTransaction


class Unread(Protocol):
    """Unread counts of one user in one room."""

    @property
    def notification_count(self) -> int: ...

    @property
    def highlight_count(self) -> int: ...


class UnreadByThread(Unread, Protocol):
    """Unread counts of one user in one room: of the main timeline, and by the event ID of each thread's root."""

    @property
    def by_thread(self) -> Mapping[str, Unread]: ...


class UnreadSource(Protocol):
    """Counts unread events (implemented by the push service)."""

    def counts(self, tx: ReadTransaction, user: int, room: int, *, threads: bool) -> UnreadByThread:
        """The unread counts; with `threads` those of threads are apart, else all are in one."""


class Receipt(Protocol):
    """One receipt, as it stands now."""

    @property
    def user(self) -> int: ...

    @property
    def user_id(self) -> str: ...

    @property
    def receipt_type(self) -> str: ...

    @property
    def thread_id(self) -> str | None: ...

    @property
    def event_id(self) -> str: ...

    @property
    def ts(self) -> int: ...


class ReceiptSource(Protocol):
    """Read receipts (implemented by the rooms' receipts service)."""

    def visible_since(self, tx: ReadTransaction, room: int, reader: int, since: int, until: int) -> Sequence[Receipt]:
        """Receipts that moved after `since`, up to `until`, without the private ones of others than the reader."""


class TypingSource(Protocol):
    """Who is typing (implemented by the rooms' typing service). Called on the event loop only."""

    def users_in(self, room: int) -> Sequence[str]:
        """The users who are typing in a room now."""


class PresenceSource(Protocol):
    """Who is online (implemented by the presence service). Called on the event loop only."""

    def changed_since(self, user: int, moment: int) -> Sequence[Mapping[str, Any]]:
        """`m.presence` events of those whom a user may see and whose presence changed after a moment; from 0 all."""

    def synced(self, user: int, device: int | None, state: str, seconds: float) -> None:
        """A device of the user has called sync, which may wait for so many seconds: `state` is `online`, `unavailable`
        or `offline`."""


class PushRuleSource(Protocol):
    """A user's push rules, as clients get them in their account data (implemented by the push service)."""

    def changed_since(self, tx: ReadTransaction, user: int, since: int, until: int) -> Mapping[str, Any] | None:
        """The content of `m.push_rules` if it changed after `since` (from 0: always), else None."""


class DeviceNews(msgspec.Struct, frozen=True):
    """What end-to-end encryption has for one device: `to_device` are whole events in JSON; `changed` and `left` the
    users of `device_lists`; the key counts are those of the device now."""

    to_device: Sequence[bytes] = ()
    changed: Sequence[str] = ()
    left: Sequence[str] = ()
    one_time_keys: Mapping[str, int] = msgspec.field(default_factory=lambda: {"signed_curve25519": 0})
    unused_fallback_keys: Sequence[str] = ()
    is_news: bool = False
    """Whether a waiting client should be answered because of it."""
    messages_until: int | None = None
    """The position of the last message in `to_device` if there are more of them; else None."""


NO_DEVICE_NEWS = DeviceNews()
"""Nothing, for a device without keys."""


class DeviceNewsSource(Protocol):
    """To-device messages, device lists and keys (implemented by the encryption service)."""

    async def acknowledge(self, user: int, device: int | None, since: Point) -> None:
        """A device has everything up to a point: the messages that were kept for it until then can go."""

    def news(
        self,
        tx: ReadTransaction,
        user: int,
        device: int | None,
        since: Point | None,
        until: int,
        joined: Collection[int],
        touched: Sequence[int],
    ) -> DeviceNews:
        """What is new for a device after `since` (None: it starts afresh), up to `until`.

        Args:
            joined: the rooms that the user is in at `until`.
            touched: those of them in which something may have happened after `since`.
        """

    def keys_and_lists(
        self,
        tx: ReadTransaction,
        user: int,
        device: int | None,
        since: int | None,
        until: int,
        joined: Collection[int],
        touched: Sequence[int],
    ) -> DeviceNews:
        """The same for a position `since`, without messages."""

    def messages(
        self, tx: ReadTransaction, user: int, device: int, after: int, until: int, limit: int = ...
    ) -> tuple[list[bytes], int | None]:
        """The oldest messages (JSON) for a device at a position in (after, until], and the position of the last of
        them if there are more."""

    def keys_left(self, user: int, device: int | None) -> DeviceNews:
        """Only the key counts of a device, for the answer when there is no news. Called on the event loop."""


@dataclass(frozen=True, slots=True)
class Sources:
    """All of them together."""

    unread: UnreadSource
    receipts: ReceiptSource
    typing: TypingSource
    presence: PresenceSource
    push_rules: PushRuleSource
    devices: DeviceNewsSource
