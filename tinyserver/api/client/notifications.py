"""What the user was notified of.

spec: client-server-api#get_matrixclientv3notifications
"""

from __future__ import annotations

import msgspec
from orjson import Fragment

from tinyserver.api.calls import Call, NoBody
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.push.past import PastNotifications


class NotificationsQuery(msgspec.Struct):
    """Which page, and whether only highlights."""

    from_: str | None = msgspec.field(name="from", default=None)
    limit: int | None = None
    only: str | None = None


class NotificationsApi:
    """Listing notifications.

    :param notifications: finds them.
    """

    surface = Surface.CLIENT

    def __init__(self, notifications: PastNotifications) -> None:
        self._notifications = notifications

    @endpoint(
        "GET",
        "/_matrix/client/v3/notifications",
        spec="client-server-api#get_matrixclientv3notifications",
        auth=Auth.USER,
        query=NotificationsQuery,
    )
    async def notified(self, call: Call[NoBody, NotificationsQuery]) -> Answer:
        """A page of notifications."""
        query = call.query
        page = await self._notifications.page(
            call.requester, query.from_, query.limit, highlights_only=query.only == "highlight"
        )
        told = [
            {
                "actions": each.actions,
                "event": Fragment(each.event),
                "read": each.is_read,
                "room_id": each.room_id,
                "ts": each.ts,
            }
            for each in page.notifications
        ]
        return {"notifications": told} if page.next is None else {"notifications": told, "next_token": page.next}
