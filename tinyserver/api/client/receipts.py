"""Read receipts and read markers."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.presence.presence import Presence
from tinyserver.protocol.errors import InvalidParam
from tinyserver.rooms.receipts import ReadMarkers, Receipts


class ReadMarkersBody(msgspec.Struct):
    """The body of `POST /read_markers`; `read_private_msc2285` is how older clients spell `m.read.private`."""

    fully_read: str | None = msgspec.field(name="m.fully_read", default=None)
    read: str | None = msgspec.field(name="m.read", default=None)
    read_private: str | None = msgspec.field(name="m.read.private", default=None)
    read_private_msc2285: str | None = msgspec.field(name="org.matrix.msc2285.read.private", default=None)


class ReceiptsApi:
    """The chapters on receipts and read markers."""

    surface = Surface.CLIENT

    def __init__(self, receipts: Receipts, presence: Presence) -> None:
        self._receipts = receipts
        self._presence = presence

    @endpoint(
        "POST",
        "/_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}",
        spec="client-server-api#receipts",
        auth=Auth.USER,
        body=dict,
        body_optional=True,
        limit=Limit.OTHER,
    )
    async def send(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Move a receipt."""
        thread_id = None
        if "thread_id" in call.body:
            thread_id = call.body["thread_id"]
            if not isinstance(thread_id, str) or not thread_id:
                raise InvalidParam("thread_id must be a non-empty string")
        path = call.path
        receipt_type = "m.read.private" if path["receiptType"] == _OLD_PRIVATE else path["receiptType"]
        await self._receipts.send(call.requester, path["roomId"], receipt_type, path["eventId"], thread_id)
        self._presence.active(call.requester.user_nid)
        return {}

    @endpoint(
        "POST",
        "/_matrix/client/v3/rooms/{roomId}/read_markers",
        spec="client-server-api#read-and-unread-markers",
        auth=Auth.USER,
        body=ReadMarkersBody,
        limit=Limit.OTHER,
    )
    async def set_markers(self, call: Call[ReadMarkersBody, NoQuery]) -> Answer:
        """Move the fully-read marker and receipts together."""
        body = call.body
        private = body.read_private if body.read_private is not None else body.read_private_msc2285
        await self._receipts.set_markers(
            call.requester, call.path["roomId"], ReadMarkers(body.fully_read, body.read, private)
        )
        self._presence.active(call.requester.user_nid)
        return {}


_OLD_PRIVATE = "org.matrix.msc2285.read.private"
