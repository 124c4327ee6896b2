"""Looking at spaces, and at rooms that one is not in.

spec: client-server-api#spaces, client-server-api#get_matrixclientv1room_summaryroomidoralias
"""

from __future__ import annotations

import msgspec

from tinyserver.api.calls import Call, NoBody
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.directory.spaces import HierarchyRequest, Spaces

_MAX_VIA = 20


class HierarchyQuery(msgspec.Struct):
    """Which part of a space is wanted."""

    suggested_only: bool = False
    limit: int | None = None
    max_depth: int | None = None
    from_: str | None = msgspec.field(name="from", default=None)


class SummaryQuery(msgspec.Struct):
    """Which servers may know the room."""

    via: list[str] = msgspec.field(default_factory=list)


class SpacesApi:
    """The spaces chapter, and summaries of single rooms.

    :param spaces: knows them.
    """

    surface = Surface.CLIENT

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces

    @endpoint(
        "GET",
        "/_matrix/client/v1/rooms/{roomId}/hierarchy",
        spec="client-server-api#get_matrixclientv1roomsroomidhierarchy",
        auth=Auth.USER,
        query=HierarchyQuery,
        limit=Limit.SEARCH,
    )
    async def hierarchy(self, call: Call[NoBody, HierarchyQuery]) -> Answer:
        """A page of the rooms under a space."""
        query = call.query
        request = HierarchyRequest(query.suggested_only, query.limit, query.max_depth, query.from_)
        page = await self._spaces.hierarchy(call.requester, call.path["roomId"], request)
        return {"rooms": page.rooms} if page.next is None else {"rooms": page.rooms, "next_batch": page.next}

    @endpoint(
        "GET",
        "/_matrix/client/v1/room_summary/{roomIdOrAlias}",
        spec="client-server-api#get_matrixclientv1room_summaryroomidoralias",
        auth=Auth.OPTIONAL,
        query=SummaryQuery,
        limit=Limit.SEARCH,
        guests=True,
    )
    async def summary(self, call: Call[NoBody, SummaryQuery]) -> Answer:
        """What one may know of a room before being in it; older clients find two keys under older names, too."""
        name, via = call.path["roomIdOrAlias"], call.query.via[:_MAX_VIA]
        told = await self._spaces.summary(call.optional_requester, name, via)
        older = {f"im.nheko.summary.{key}": told[key] for key in ("room_version", "encryption") if key in told}
        return told | older
