"""Going to a moment in a room's history.

spec: client-server-api#get_matrixclientv1roomsroomidtimestamp_to_event
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tinyserver.api.calls import Call, NoBody
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.rooms.moments import Moments


class MomentQuery(msgspec.Struct):
    """The query of `GET /timestamp_to_event`."""

    ts: int
    dir: Literal["f", "b"]


class MomentsApi:
    """Finding events by their time."""

    surface = Surface.CLIENT

    def __init__(self, moments: Moments) -> None:
        self._moments = moments

    @endpoint(
        "GET",
        "/_matrix/client/v1/rooms/{roomId}/timestamp_to_event",
        spec="client-server-api#get_matrixclientv1roomsroomidtimestamp_to_event",
        auth=Auth.USER,
        query=MomentQuery,
        limit=Limit.OTHER,
    )
    async def closest(self, call: Call[NoBody, MomentQuery]) -> Answer:
        """The event closest to a moment."""
        query = call.query
        found = await self._moments.closest(call.requester, call.path["roomId"], query.ts, backwards=query.dir == "b")
        return {"event_id": found.event_id, "origin_server_ts": found.origin_server_ts}
