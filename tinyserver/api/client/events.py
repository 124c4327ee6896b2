"""Single events.

spec: client-server-api#getting-events-for-a-room
"""

from __future__ import annotations

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.rooms.history import RoomHistory


class EventsApi:
    """Reading one event by its ID."""

    surface = Surface.CLIENT

    def __init__(self, history: RoomHistory) -> None:
        self._history = history

    @endpoint(
        "GET",
        "/_matrix/client/v3/rooms/{roomId}/event/{eventId}",
        spec="client-server-api#get_matrixclientv3roomsroomideventeventid",
        auth=Auth.USER,
        guests=True,
    )
    async def event(self, call: Call[NoBody, NoQuery]) -> Answer:
        """An event of a room."""
        return await self._history.event(call.requester, call.path["roomId"], call.path["eventId"])

    @endpoint(
        "GET",
        "/_matrix/client/v3/events/{eventId}",
        spec="client-server-api#get_matrixclientv3eventseventid",
        auth=Auth.USER,
    )
    async def event_by_id(self, call: Call[NoBody, NoQuery]) -> Answer:
        """An event of any room (deprecated)."""
        return await self._history.event_by_id(call.requester, call.path["eventId"])
