"""`/initialSync` and `/events`: what clients used before `/sync`, and what peeking still uses.

spec: client-server-api#syncing, client-server-api#room-previews
"""

from __future__ import annotations

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.long_answers import json_list
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.api.timeouts import seconds
from tinyserver.rooms.tokens import parse_token
from tinyserver.sync.legacy import LegacySync
from tinyserver.sync.requests import Reader


class InitialSyncQuery(msgspec.Struct):
    """The parameters of `/initialSync`."""

    limit: int | None = None
    archived: bool = False


class EventsQuery(msgspec.Struct):
    """The parameters of `/events`; `timeout` is in milliseconds."""

    start: str | None = msgspec.field(name="from", default=None)
    timeout: int = 0
    room_id: str | None = None


class LegacySyncApi:
    """The deprecated endpoints for following rooms.

    :param legacy: answers them.
    """

    surface = Surface.CLIENT

    def __init__(self, legacy: LegacySync) -> None:
        self._legacy = legacy

    @endpoint(
        "GET",
        "/_matrix/client/v3/initialSync",
        spec="client-server-api#get_matrixclientv3initialsync",
        auth=Auth.USER,
        query=InitialSyncQuery,
    )
    async def initial_sync(self, call: Call[NoBody, InitialSyncQuery]) -> bytes:
        """All rooms of the user."""
        return await self._legacy.initial_sync(_reader(call), call.query.limit, archived=call.query.archived)

    @endpoint(
        "GET",
        "/_matrix/client/v3/rooms/{roomId}/initialSync",
        spec="client-server-api#get_matrixclientv3roomsroomidinitialsync",
        auth=Auth.USER,
        guests=True,
    )
    async def room_initial_sync(self, call: Call[NoBody, NoQuery]) -> Answer:
        """One room, also for those who peek."""
        snapshot = await self._legacy.room_initial_sync(call.requester, call.path["roomId"])
        return json_list(snapshot.prefix, snapshot.state, b"]}")

    @endpoint(
        "GET",
        "/_matrix/client/v3/events",
        spec="client-server-api#get_matrixclientv3events",
        auth=Auth.USER,
        query=EventsQuery,
        guests=True,
        long_poll=True,
    )
    async def events(self, call: Call[NoBody, EventsQuery]) -> bytes:
        """The next events: of all rooms of the user, or (`room_id`) of one room, perhaps only peeked into."""
        query = call.query
        since = parse_token(query.start) if query.start else None
        timeout = seconds(query.timeout)
        if query.room_id is not None:
            return await self._legacy.room_events(call.requester, query.room_id, since, timeout)
        return await self._legacy.events(_reader(call), since, timeout)


def _reader(call: Call[NoBody, object]) -> Reader:
    requester = call.requester
    return Reader(requester.user_id, requester.user_nid, requester.device_nid)
