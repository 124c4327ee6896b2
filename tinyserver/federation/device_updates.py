"""What other servers tell of changes to their users' devices and cross-signing keys.

A change that follows on what is kept is applied; after a gap the whole list is fetched again.

spec: server-server-api#device-management
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.federation.remote_devices import RemoteDeviceLists, put_signing_keys
from tinyserver.federation.told_devices import MAX_NAME, device_of, signing_keys_of, stream_id_of
from tinyserver.federation.transactions import Content
from tinyserver.protocol.identifiers import domain_of, is_valid_user_id
from tinyserver.storage import device_lists, names, remote_devices
from tinyserver.storage.database import Database
from tinyserver.storage.remote_devices import RemoteDevice
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class _Update:
    """An `m.device_list_update` whose form is right; `device` None: the device is gone or has no keys."""

    user_id: str
    device_id: str
    stream: int
    prev: frozenset[int]
    device: RemoteDevice | None


class DeviceUpdates:
    """Takes `m.device_list_update` and `m.signing_key_update`.

    Args:
        db: where lists are kept.
        lists: fetches lists again.
    """

    def __init__(self, db: Database, lists: RemoteDeviceLists) -> None:
        self._db = db
        self._lists = lists

    async def take_list_update(self, origin: str, content: Content) -> None:
        """A device of a user of another server changed."""
        update = _checked(origin, content)
        if update is None:
            return
        if await self._db.write(lambda tx: _apply(tx, origin, update)):
            self._lists.resync(origin)

    async def take_signing_keys(self, origin: str, content: Content) -> None:
        """The cross-signing keys of a user of another server changed."""
        user_id = content.get("user_id")
        if not isinstance(user_id, str) or not is_valid_user_id(user_id) or domain_of(user_id) != origin:
            return
        keys = signing_keys_of(user_id, content)

        def step(tx: WriteTransaction) -> None:
            user = _followed(tx, origin, user_id)
            if user is None or not keys:
                return
            if remote_devices.get(tx, user) is None or put_signing_keys(tx, user, keys):
                device_lists.note_news(tx, user)

        await self._db.write(step)


def _checked(origin: str, content: Content) -> _Update | None:
    user_id, device_id = content.get("user_id"), content.get("device_id")
    if not isinstance(user_id, str) or not is_valid_user_id(user_id) or domain_of(user_id) != origin:
        return None
    stream, prev = stream_id_of(content.get("stream_id")), content.get("prev_id", [])
    if not isinstance(device_id, str) or len(device_id) > MAX_NAME or stream is None or not isinstance(prev, list):
        return None
    device = None
    if content.get("deleted") is not True:
        device = device_of(user_id, device_id, content.get("keys"), content.get("device_display_name"))
    known = frozenset(each for each in prev if stream_id_of(each) is not None)
    return _Update(user_id, device_id, stream, known, device)


def _followed(tx: ReadTransaction, origin: str, user_id: str) -> int | None:
    """The number of a user of a server who shares a room with a local user; None for anybody else."""
    server, user = names.find(tx, origin), names.find(tx, user_id)
    if server is None or user is None or not remote_devices.is_followed(tx, server, user):
        return None
    return user


def _apply(tx: WriteTransaction, origin: str, update: _Update) -> bool:
    """Take a change; whether the list has to be fetched again."""
    user = _followed(tx, origin, update.user_id)
    if user is None:
        return False
    kept = remote_devices.get(tx, user)
    if kept is not None and not kept.is_stale and kept.stream == update.stream:
        return False  # it was sent again
    device_lists.note_news(tx, user)
    if kept is None:
        return False
    if not kept.is_stale and kept.stream in update.prev:
        remote_devices.put_device(tx, user, update.device_id, update.device, update.stream)
        return False
    remote_devices.mark_stale(tx, user)
    return True
