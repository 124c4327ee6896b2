"""Messages from device to device, to and from users of other servers: none is lost, and none is delivered twice.

spec: server-server-api#send-to-device-messaging
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from tinyserver.encryption.to_device import MAX_TYPE, RETRY_AFTER_MS, QueueLimits, ToDevice, check_content
from tinyserver.federation.transactions import Content
from tinyserver.protocol.errors import LimitExceeded, MatrixError
from tinyserver.protocol.identifiers import domain_of, is_valid_user_id
from tinyserver.storage import names, outgoing_messages, to_device
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import WriteTransaction

log = logging.getLogger(__name__)

EDU_BYTES = 48 * 1024
"""About how large one EDU gets, if it has several messages."""
MAX_MESSAGE_ID = 255
"""Characters; the specification says 32, and some send more."""
MAX_RECEIVED = 1000
"""How many messages of one EDU are taken."""


class OutgoingDeviceMessages:
    """Queues messages for other servers: the `RemoteToDevice` of encryption.

    A queue has an end: whoever sends to a server that has been away for too long is asked to try again later.
    """

    def __init__(self, limits: QueueLimits | None = None) -> None:
        self._limits = limits or QueueLimits()

    def queue(
        self,
        tx: WriteTransaction,
        server: str,
        sender: str,
        event_type: str,
        messages: Mapping[str, Mapping[str, bytes]],
    ) -> None:
        """Store messages (JSON objects by user and device ID, which may be `*`) in the sender's own step.

        Raises:
            LimitExceeded: too much waits for the server already.
        """
        nid = names.intern(tx, server)
        waiting = outgoing_messages.queue(tx, nid)
        if waiting.messages >= self._limits.messages or waiting.bytes >= self._limits.bytes:
            raise LimitExceeded(RETRY_AFTER_MS, f"Too many messages wait for {server}. Try again later.")
        for encoded in _encoded(messages):
            outgoing_messages.add(tx, nid, names.intern(tx, sender), event_type, encoded)


def _encoded(messages: Mapping[str, Mapping[str, bytes]]) -> Iterator[bytes]:
    """Messages as JSON objects of a moderate size."""
    users: list[bytes] = []
    size = 0
    for user_id, contents in messages.items():
        devices: list[bytes] = []
        for device_id, content in contents.items():
            if size + len(content) > EDU_BYTES and (users or devices):
                if devices:
                    users.append(_member(user_id, b"{%b}" % b",".join(devices)))
                yield b"{%b}" % b",".join(users)
                users, devices, size = [], [], 0
            devices.append(_member(device_id, content))
            size += len(content)
        if devices:
            users.append(_member(user_id, b"{%b}" % b",".join(devices)))
    if users:
        yield b"{%b}" % b",".join(users)


def _member(name: str, value: bytes) -> bytes:
    return b"%b:%b" % (orjson.dumps(name), value)


class ReceivedDeviceMessages:
    """Takes `m.direct_to_device`.

    Args:
        db: remembers which messages were taken.
        to_device: delivers.
    """

    def __init__(self, db: Database, to_device: ToDevice) -> None:
        self._db = db
        self._to_device = to_device

    async def take(self, origin: str, content: Content) -> None:
        """Queue the messages of an EDU for their devices, once."""
        sender, event_type, message_id = (content.get(name) for name in ("sender", "type", "message_id"))
        if not isinstance(sender, str) or not is_valid_user_id(sender) or domain_of(sender) != origin:
            return
        if not isinstance(event_type, str) or not 0 < len(event_type.encode("utf-8", "replace")) <= MAX_TYPE:
            return
        if not isinstance(message_id, str) or len(message_id) > MAX_MESSAGE_ID:
            return
        messages = _checked(content.get("messages"))
        if not messages:
            return
        digest = hashlib.blake2b(message_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()

        def step(tx: WriteTransaction) -> None:
            if to_device.is_new_message(tx, names.intern(tx, origin), digest):
                self._to_device.deliver(tx, sender, event_type, messages, of_other_server=True)

        await self._db.write(step)


def _checked(messages: Any) -> dict[str, dict[str, bytes]]:
    """What can be taken of the `messages` of an EDU."""
    found: dict[str, dict[str, bytes]] = {}
    count = 0
    for user_id, contents in messages.items() if isinstance(messages, dict) else ():
        for device_id, content in contents.items() if isinstance(contents, dict) else ():
            count += 1
            if count > MAX_RECEIVED:
                log.warning("an m.direct_to_device has more than %d messages: the others are left out", MAX_RECEIVED)
                return found
            try:
                found.setdefault(user_id, {})[device_id] = check_content(orjson.dumps(content))
            except (TypeError, MatrixError) as error:
                log.debug("a message to a device of %s cannot be taken: %s", user_id, error)
    return found
