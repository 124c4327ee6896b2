"""Messages from device to device: kept until the receiver says that it has them.

A queue has an end: who sends to a device that takes nothing away any more is asked to try again later, and nothing
that was accepted is ever dropped.

spec: client-server-api#send-to-device-messaging
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import orjson

from tinyserver.accounts.requester import Requester
from tinyserver.encryption.remote import RemoteToDevice, by_server
from tinyserver.protocol.errors import BadJson, InvalidParam, LimitExceeded, TooLarge
from tinyserver.storage import devices, names, to_device
from tinyserver.storage.database import Database
from tinyserver.storage.to_device import Delivery
from tinyserver.storage.transaction import WriteTransaction

log = logging.getLogger(__name__)

ALL_DEVICES = "*"
MAX_CONTENT = 65536
"""Bytes of one message."""
MAX_MESSAGES = 5000
"""How many messages one request may have."""
MAX_TYPE = 255
OVERFULL = 4
"""How many times over the limit other servers may fill the queue of a device."""
RETRY_AFTER_MS = 60_000

Messages = Mapping[str, Mapping[str, bytes]]
"""Contents (JSON objects) by user and device ID, which may be `*`."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait for one device."""

    messages: int = 50_000
    bytes: int = 100 * 1024 * 1024


class MessageFollower(Protocol):
    """Who has to do something about messages to devices, in their own step (implemented by application services)."""

    def note_messages(self, tx: WriteTransaction, deliveries: Sequence[Delivery]) -> None:
        """Messages are about to be queued."""


def check_content(content: msgspec.Raw | bytes) -> bytes:
    """A message as it is stored. Raises BadJson for what is no proper JSON object, TooLarge."""
    raw = bytes(content)
    if len(raw) > MAX_CONTENT:
        raise TooLarge(f"A message to a device can have {MAX_CONTENT} bytes at most.")
    try:
        # What is stored is sent on as it stands, within other JSON: it must be sound in every detail.
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadJson(f"A message is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BadJson("A message must be a JSON object.")
    return raw


class ToDevice:
    """Sends messages.

    Args:
        remote: the way to devices of users of other servers.
        server_name: this server.
        followers: who is told of messages to devices here.
    """

    def __init__(
        self,
        db: Database,
        remote: RemoteToDevice,
        server_name: str,
        limits: QueueLimits | None = None,
        followers: Sequence[MessageFollower] = (),
    ) -> None:
        self._followers = followers
        self._db = db
        self._remote = remote
        self._server_name = server_name
        self._limits = limits or QueueLimits()

    async def send(
        self, requester: Requester, event_type: str, txn_id: str, messages: Mapping[str, Mapping[str, msgspec.Raw]]
    ) -> None:
        """Send messages, all of them or none. The same request again does nothing.

        Raises:
            BadJson, TooLarge, InvalidParam: malformed.
            LimitExceeded: too much waits for one of the devices already.
        """
        if not event_type or len(event_type.encode()) > MAX_TYPE:
            raise InvalidParam(f"An event type has 1 to {MAX_TYPE} bytes.")
        if sum(map(len, messages.values())) > MAX_MESSAGES:
            raise TooLarge(f"A request can have {MAX_MESSAGES} messages at most. Send them in several requests.")
        checked = {
            user_id: {device_id: check_content(content) for device_id, content in contents.items()}
            for user_id, contents in messages.items()
        }
        _share_equal_contents(checked)
        servers = by_server(checked)
        local = servers.pop(self._server_name, {})
        digest = hashlib.blake2b(f"{event_type}\0{txn_id}".encode(), digest_size=16).digest()
        sending_device = requester.txn_scope

        def step(tx: WriteTransaction) -> None:
            if sending_device is not None and not to_device.is_new_request(tx, sending_device, digest):
                return
            self.deliver(tx, requester.user_id, event_type, local)
            for server, contents in servers.items():
                self._remote.queue(tx, server, requester.user_id, event_type, contents)

        await self._db.write(step)

    def deliver(
        self,
        tx: WriteTransaction,
        sender_id: str,
        event_type: str,
        messages: Messages,
        *,
        of_other_server: bool = False,
    ) -> None:
        """Queue checked messages for devices of this server, inside a step; unknown devices get nothing.

        Another server cannot be held up for the sake of one device that takes nothing away: it may fill the queue a
        few times over, and then the device gets no more.

        Raises:
            LimitExceeded: too much waits for one of them already.
        """
        deliveries: list[Delivery] = []
        for user_id, contents in messages.items():
            user = names.find(tx, user_id)
            if user is None:
                continue
            for_all = contents.get(ALL_DEVICES)
            if for_all is not None:
                for row in devices.of_user(tx, user):
                    deliveries.append(Delivery(user, row.nid, contents.get(row.device_id, for_all)))
                continue
            for device_id, content in contents.items():
                device = devices.find(tx, user, device_id)
                if device is not None:
                    deliveries.append(Delivery(user, device.nid, content))
        if of_other_server:
            deliveries = self._not_overfull(tx, deliveries)
        if deliveries:
            if not of_other_server:
                self._check_queues(tx, deliveries)
            for follower in self._followers:
                follower.note_messages(tx, deliveries)
            to_device.add(tx, names.intern(tx, sender_id), event_type, deliveries)

    def _not_overfull(self, tx: WriteTransaction, deliveries: list[Delivery]) -> list[Delivery]:
        queues = to_device.queues(tx, {delivery.device for delivery in deliveries})
        full = {
            device
            for device, queue in queues.items()
            if queue.messages >= OVERFULL * self._limits.messages or queue.bytes >= OVERFULL * self._limits.bytes
        }
        if full:
            log.warning("%d devices take no messages away: one of another server is not kept for them", len(full))
        return [delivery for delivery in deliveries if delivery.device not in full]

    def _check_queues(self, tx: WriteTransaction, deliveries: list[Delivery]) -> None:
        for queue in to_device.queues(tx, {delivery.device for delivery in deliveries}).values():
            if queue.messages >= self._limits.messages or queue.bytes >= self._limits.bytes:
                raise LimitExceeded(RETRY_AFTER_MS, "Too many messages wait for one of the devices. Try again later.")


def _share_equal_contents(messages: dict[str, dict[str, bytes]]) -> None:
    """Let equal contents be one object: they are stored once."""
    seen: dict[bytes, bytes] = {}
    for contents in messages.values():
        for device_id, content in contents.items():
            contents[device_id] = seen.setdefault(content, content)
