"""Messages from device to device."""

from __future__ import annotations

import msgspec

from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.encryption.to_device import ToDevice

MAX_BODY = 8 * 1024 * 1024


class SendBody(msgspec.Struct):
    """The body of `PUT /sendToDevice`: contents by user and device ID."""

    messages: dict[str, dict[str, msgspec.Raw]]


class ToDeviceApi:
    """The send-to-device chapter."""

    surface = Surface.CLIENT

    def __init__(self, to_device: ToDevice) -> None:
        self._to_device = to_device

    @endpoint(
        "PUT",
        "/_matrix/client/v3/sendToDevice/{eventType}/{txnId}",
        spec="client-server-api#send-to-device-messaging",
        auth=Auth.USER,
        body=SendBody,
        max_body=MAX_BODY,
        guests=True,
        limit=Limit.OTHER,
    )
    async def send(self, call: Call[SendBody, NoQuery]) -> Answer:
        """Send messages to devices."""
        path = call.path
        await self._to_device.send(call.requester, path["eventType"], path["txnId"], call.body.messages)
        return {}
