"""What sync tells a device of encryption: messages for it, whose devices changed, and what is left of its own keys.

spec: client-server-api#e2e-extensions-to-sync, client-server-api#send-to-device-messaging
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import orjson

from tinyserver.bell import Bell
from tinyserver.encryption.device_keys import counts_of
from tinyserver.encryption.device_lists import NO_CHANGES, ListChanges, changes_between, joined_at
from tinyserver.rooms.tokens import Point
from tinyserver.storage import names, one_time_keys, to_device
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.one_time_keys import KeyState
from tinyserver.storage.to_device import Waiting
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction
from tinyserver.sync.sources import NO_DEVICE_NEWS, DeviceNews

MESSAGES_AT_ONCE = 100
"""How many messages a device gets with one answer."""
_CACHE_BYTES = 500_000
_ENTRY_BYTES = 500


@dataclass(frozen=True, slots=True)
class _DeviceState:
    """What a device has as of a position: it holds as long as the bell did not ring for its user."""

    position: int
    keys: KeyState
    oldest_message: int | None


def shown_message(message: Waiting) -> bytes:
    """The JSON of a message as its device gets it."""
    return b'{"type":%b,"sender":%b,"content":%b}' % (
        orjson.dumps(message.type),
        orjson.dumps(message.sender),
        message.content,
    )


class DeviceNewsReader:
    """Implements `DeviceNewsSource` of sync."""

    def __init__(self, db: Database, bell: Bell) -> None:
        self._db = db
        self._bell = bell
        self._states: BoundedCache[int, _DeviceState] = BoundedCache(_CACHE_BYTES, lambda state: _ENTRY_BYTES)

    async def acknowledge(self, user: int, device: int | None, since: Point) -> None:
        """A device has everything up to a point: its messages can go."""
        if device is None:
            return
        until = _delivered(since)
        state = self._known_state(user, device)
        if state is not None and (state.oldest_message is None or state.oldest_message > until):
            return
        oldest = self._db.glance(lambda tx: to_device.oldest(tx, device))
        if oldest is None or oldest > until:
            return

        def step(tx: WriteTransaction) -> None:
            to_device.remove(tx, device, until)
            tx.on_commit(lambda: self._states.drop(device))

        # On a full disk sync goes on: the token says what the device has, the messages go with the next one.
        with suppress(StorageError):
            await self._db.write(step)

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
        """What is new for a device after a point (None: it starts afresh), up to a position."""
        keys = self.keys_and_lists(tx, user, device, None if since is None else since.position, until, joined, touched)
        if device is None:
            return keys
        delivered = 0 if since is None else _delivered(since)
        messages, messages_until = self.messages(tx, user, device, delivered, until)
        return msgspec.structs.replace(
            keys, to_device=messages, is_news=keys.is_news or bool(messages), messages_until=messages_until
        )

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
        """The same without messages."""
        after = 0 if since is None else since
        lists = NO_CHANGES
        # Nobody comes or goes by messages alone.
        state_changed = self._bell.changes[Topic.STATE].changed
        touched = [room for room in touched if state_changed(room, after)]
        if since is not None and (touched or self._lists_may_have_changed(user, after)):
            lists = changes_between(tx, user, after, until, joined, touched)
        if device is None:
            return NO_DEVICE_NEWS if lists is NO_CHANGES else _with_lists(tx, lists)
        state = self._state(tx, user, device, until)
        changed, left = _texts(tx, lists)
        return DeviceNews(
            changed=changed,
            left=left,
            one_time_keys=counts_of(state.keys),
            unused_fallback_keys=state.keys.unused_fallback,
            is_news=bool(changed or left or state.keys.fallback_used > after),
        )

    def messages(
        self, tx: ReadTransaction, user: int, device: int, after: int, until: int, limit: int = MESSAGES_AT_ONCE
    ) -> tuple[list[bytes], int | None]:
        """The oldest messages (JSON) for a device at a position in (after, until], and the position of the last of
        them if there are more."""
        if self._state(tx, user, device, until).oldest_message is None:
            return [], None
        waiting = to_device.waiting(tx, device, after, until, limit + 1)
        has_more = len(waiting) > limit
        del waiting[limit:]
        return [shown_message(message) for message in waiting], waiting[-1].position if has_more else None

    def keys_left(self, user: int, device: int | None) -> DeviceNews:
        """What is left of a device's keys now, without anything else."""
        if device is None:
            return NO_DEVICE_NEWS
        state = self._known_state(user, device)
        if state is None:
            state = self._db.glance(lambda tx: self._state(tx, user, device, self._bell.position))
        return DeviceNews(one_time_keys=counts_of(state.keys), unused_fallback_keys=state.keys.unused_fallback)

    async def list_changes(self, user: int, since: int, until: int) -> tuple[list[str], list[str]]:
        """The users (IDs) whose devices changed for a user in (since, until], and those who left.

        spec: client-server-api#get_matrixclientv3keyschanges
        """

        def step(tx: ReadTransaction) -> tuple[list[str], list[str]]:
            joined = joined_at(tx, user, until)
            return _texts(tx, changes_between(tx, user, since, until, joined, joined))

        if since >= until:
            return [], []
        return await self._db.read(step)

    def _lists_may_have_changed(self, user: int, since: int) -> bool:
        bell = self._bell
        return (
            bell.newest((Topic.DEVICE_LIST,)) > since
            or bell.changes[Topic.DEVICE_LIST].complete_since > since
            or bell.changes[Topic.MEMBERSHIP].changed(user, since)
            or bell.changes[Topic.USER].changed(user, since)
        )

    def _known_state(self, user: int, device: int) -> _DeviceState | None:
        state = self._states.get(device)
        return None if state is None or self._bell.changes[Topic.USER].changed(user, state.position) else state

    def _state(self, tx: ReadTransaction, user: int, device: int, position: int) -> _DeviceState:
        state = self._known_state(user, device)
        if state is None:
            state = _DeviceState(position, one_time_keys.state(tx, device), to_device.oldest(tx, device))
            self._states.put(device, state)
        return state


def _delivered(since: Point) -> int:
    """The position up to which a device with a sync token has its messages."""
    return since.position if since.messages is None else since.messages


def _with_lists(tx: ReadTransaction, lists: ListChanges) -> DeviceNews:
    changed, left = _texts(tx, lists)
    return DeviceNews(changed=changed, left=left, is_news=True)


def _texts(tx: ReadTransaction, lists: ListChanges) -> tuple[list[str], list[str]]:
    if lists is NO_CHANGES:
        return [], []
    return list(names.texts(tx, lists.changed).values()), list(names.texts(tx, lists.left).values())
