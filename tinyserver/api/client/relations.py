"""Relationships between events: the children of an event, and the threads of a room.

spec: client-server-api#relationships-api, client-server-api#querying-threads-in-a-room
"""

from __future__ import annotations

from typing import Literal

import msgspec
import orjson

from tinyserver.api.calls import Call, NoBody
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.rooms.relationships import RECURSION_DEPTH, ChildrenRequest, EventPage, Relationships


class ChildrenQuery(msgspec.Struct):
    """The query of `GET /relations`."""

    dir: Literal["b", "f"] = "b"
    start: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    limit: int | None = None
    recurse: bool | None = None


class ThreadsQuery(msgspec.Struct):
    """The query of `GET /threads`."""

    include: Literal["all", "participated"] = "all"
    start: str | None = msgspec.field(name="from", default=None)
    limit: int | None = None


class RelationsApi:
    """What relates to what."""

    surface = Surface.CLIENT

    def __init__(self, relationships: Relationships) -> None:
        self._relationships = relationships

    @endpoint(
        "GET",
        "/_matrix/client/v1/rooms/{roomId}/relations/{eventId}",
        spec="client-server-api#get_matrixclientv1roomsroomidrelationseventid",
        auth=Auth.USER,
        query=ChildrenQuery,
    )
    async def children(self, call: Call[NoBody, ChildrenQuery]) -> Answer:
        """The events that relate to an event."""
        return await self._children(call)

    @endpoint(
        "GET",
        "/_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}",
        spec="client-server-api#get_matrixclientv1roomsroomidrelationseventidreltype",
        auth=Auth.USER,
        query=ChildrenQuery,
    )
    async def children_by_relation(self, call: Call[NoBody, ChildrenQuery]) -> Answer:
        """The events that relate to an event in one way."""
        return await self._children(call)

    @endpoint(
        "GET",
        "/_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}",
        spec="client-server-api#get_matrixclientv1roomsroomidrelationseventidreltypeeventtype",
        auth=Auth.USER,
        query=ChildrenQuery,
    )
    async def children_by_type(self, call: Call[NoBody, ChildrenQuery]) -> Answer:
        """The events of one type that relate to an event in one way."""
        return await self._children(call)

    async def _children(self, call: Call[NoBody, ChildrenQuery]) -> Answer:
        path, query = call.path, call.query
        request = ChildrenRequest(
            rel_type=path.get("relType"),
            event_type=path.get("eventType"),
            backwards=query.dir == "b",
            recurse=query.recurse,
            start=query.start or None,
            stop=query.to or None,
            limit=query.limit,
        )
        page = await self._relationships.children(call.requester, path["roomId"], path["eventId"], request)
        if query.recurse is None:
            return _page(page)
        return _page(page, b',"recursion_depth":%d' % (RECURSION_DEPTH if query.recurse else 1))

    @endpoint(
        "GET",
        "/_matrix/client/v1/rooms/{roomId}/threads",
        spec="client-server-api#get_matrixclientv1roomsroomidthreads",
        auth=Auth.USER,
        query=ThreadsQuery,
        limit=Limit.OTHER,
    )
    async def threads(self, call: Call[NoBody, ThreadsQuery]) -> Answer:
        """The threads of a room."""
        query = call.query
        page = await self._relationships.threads(
            call.requester,
            call.path["roomId"],
            participated=query.include == "participated",
            start=query.start or None,
            limit=query.limit,
        )
        return _page(page)


def _page(page: EventPage, more: bytes = b"") -> bytes:
    parts = [b'{"chunk":[%b]' % b",".join(page.chunk)]
    if page.next_batch is not None:
        parts.append(b',"next_batch":' + orjson.dumps(page.next_batch))
    if page.prev_batch is not None:
        parts.append(b',"prev_batch":' + orjson.dumps(page.prev_batch))
    return b"".join((*parts, more, b"}"))
