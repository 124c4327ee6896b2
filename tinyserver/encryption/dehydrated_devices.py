"""Dehydrated devices: a device that sleeps on the server while the user has no other, and is woken by the next login.

Messages to it are kept for as long as it is there: whoever wakes it may break off and begin again.

spec: msc3814
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tinyserver.accounts.requester import Requester
from tinyserver.accounts.sessions import Origin, Sessions, check_device_id, check_device_name
from tinyserver.clock import Clock
from tinyserver.encryption.device_keys import KeyUpload, check_upload, store_upload
from tinyserver.encryption.device_news import MESSAGES_AT_ONCE, shown_message
from tinyserver.protocol.errors import BadJson, Forbidden, InvalidParam, NotFound, TooLarge
from tinyserver.storage import dehydrated_devices, devices, to_device
from tinyserver.storage.database import Database
from tinyserver.storage.dehydrated_devices import DehydratedRow
from tinyserver.storage.devices import Seen
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_DATA = 256 * 1024
"""Bytes of what a client keeps in the device."""
UNSTABLE_FEATURES = {"org.matrix.msc3814": True}

_TOKEN = re.compile(r"d([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class NewDehydratedDevice:
    """What a client puts to sleep: `data` is opaque but for its `algorithm`."""

    device_id: str
    data: Mapping[str, Any]
    display_name: str | None
    keys: KeyUpload


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Some messages, each an event in JSON, where to go on, and whether there are more."""

    events: list[bytes]
    next_batch: str
    has_more: bool


class DehydratedDevices:
    """The dehydrated devices of all users, at most one of each."""

    def __init__(self, db: Database, clock: Clock, sessions: Sessions) -> None:
        self._db = db
        self._clock = clock
        self._sessions = sessions

    async def put(self, requester: Requester, new: NewDehydratedDevice, origin: Origin) -> None:
        """Store a device with its keys, in the place of the one before.

        Raises:
            BadJson, InvalidParam, InvalidSignature, TooLarge: something is malformed, or the user has another device
                with this ID.
        """
        check_device_id(new.device_id)
        if new.display_name is not None:
            check_device_name(new.display_name)
        if not isinstance(new.data.get("algorithm"), str):
            raise BadJson("'device_data' must have an 'algorithm'.")
        if new.keys.device_keys is None:
            raise BadJson("'device_keys' are missing.")
        keys = check_upload(new.keys, requester.user_id, new.device_id)
        try:
            data = orjson.dumps(new.data)
        except orjson.JSONEncodeError as error:
            raise BadJson(f"'device_data' has a value that cannot be stored: {error}.") from error
        if len(data) > MAX_DATA:
            raise TooLarge(f"'device_data' has more than {MAX_DATA} bytes.")
        user = requester.user_nid

        def step(tx: WriteTransaction) -> None:
            self._remove(tx, user)
            if devices.find(tx, user, new.device_id) is not None:
                raise InvalidParam("You have another device with this ID.")
            seen = Seen(self._clock.now_ms(), origin.address, origin.agent)
            device = devices.add(tx, user, new.device_id, new.display_name, seen)
            dehydrated_devices.put(tx, user, device, data)
            store_upload(tx, user, device, new.device_id, keys)

        await self._db.write(step)

    def get(self, requester: Requester) -> dict[str, Any]:
        """The requester's dehydrated device as clients see it. Raises NotFound."""
        row = self._db.glance(lambda tx: dehydrated_devices.get(tx, requester.user_nid))
        if row is None:
            raise NotFound("You have no dehydrated device.")
        return {"device_id": row.device_id, "device_data": orjson.Fragment(row.data)}

    async def remove(self, requester: Requester) -> str:
        """Delete the requester's dehydrated device; its ID. Raises NotFound."""

        def step(tx: WriteTransaction) -> DehydratedRow | None:
            return self._remove(tx, requester.user_nid)

        removed = await self._db.write(step)
        if removed is None:
            raise NotFound("You have no dehydrated device.")
        return removed.device_id

    def messages(self, requester: Requester, device_id: str, after: str | None) -> MessagePage:
        """Messages that wait for the dehydrated device; they stay.

        Args:
            after: the `next_batch` of the page before.

        Raises:
            Forbidden: the device is another one, or there is none.
            InvalidParam: `after` is no such token.
        """
        start = 0
        if after is not None:
            match = _TOKEN.fullmatch(after)
            if match is None:
                raise InvalidParam("This is not a token that this server gave out.")
            start = int(match[1])
        until = self._db.position

        def step(tx: ReadTransaction) -> MessagePage:
            row = dehydrated_devices.get(tx, requester.user_nid)
            if row is None or row.device_id != device_id:
                raise Forbidden("This is not your dehydrated device.")
            found = to_device.waiting(tx, row.device, start, until, MESSAGES_AT_ONCE + 1)
            page = found[:MESSAGES_AT_ONCE]
            end = page[-1].position if page else start
            return MessagePage([shown_message(message) for message in page], f"d{end}", len(found) > len(page))

        return self._db.glance(step)

    def _remove(self, tx: WriteTransaction, user: int) -> DehydratedRow | None:
        row = dehydrated_devices.get(tx, user)
        if row is not None:
            self._sessions.remove_devices(tx, user, [row.device])
        return row
