"""The directory of published rooms.

spec: client-server-api#published-room-directory
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.directory.public_rooms import DirectoryPage, DirectoryQuery, PublicRooms

_LIST_PATH = "/_matrix/client/v3/publicRooms"
_ROOM_PATH = "/_matrix/client/v3/directory/list/room/{roomId}"


class ListQuery(msgspec.Struct):
    """The query of `GET /publicRooms`."""

    limit: int | None = None
    since: str | None = None
    server: str | None = None


class ServerQuery(msgspec.Struct):
    """The query of `POST /publicRooms`."""

    server: str | None = None


class DirectoryFilter(msgspec.Struct):
    """`filter` in the body of `POST /publicRooms`."""

    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class SearchBody(msgspec.Struct):
    """The body of `POST /publicRooms`."""

    limit: int | None = None
    since: str | None = None
    filter: DirectoryFilter | None = None
    include_all_networks: bool | None = None
    third_party_instance_id: str | None = None


class VisibilityBody(msgspec.Struct):
    """The body of `PUT /directory/list/room/{roomId}`."""

    visibility: Literal["public", "private"] = "public"


class PublicRoomsApi:
    """Listing rooms, and having them listed."""

    surface = Surface.CLIENT

    def __init__(self, public_rooms: PublicRooms) -> None:
        self._public_rooms = public_rooms

    @endpoint(
        "GET",
        _LIST_PATH,
        spec="client-server-api#get_matrixclientv3publicrooms",
        auth=Auth.NONE,
        query=ListQuery,
        limit=Limit.SEARCH,
    )
    async def list_rooms(self, call: Call[NoBody, ListQuery]) -> Answer:
        """A page of the directory."""
        query = DirectoryQuery(call.query.limit, call.query.since)
        return directory_answer(await self._public_rooms.query_server(call.query.server or None, query))

    @endpoint(
        "POST",
        _LIST_PATH,
        spec="client-server-api#post_matrixclientv3publicrooms",
        auth=Auth.USER,
        body=SearchBody,
        query=ServerQuery,
        limit=Limit.SEARCH,
        body_optional=True,
    )
    async def search(self, call: Call[SearchBody, ServerQuery]) -> Answer:
        """A page of what the directory has that fits a filter."""
        query = directory_query(call.body)
        return directory_answer(await self._public_rooms.query_server(call.query.server or None, query))

    @endpoint(
        "GET",
        _ROOM_PATH,
        spec="client-server-api#get_matrixclientv3directorylistroomroomid",
        auth=Auth.NONE,
        limit=Limit.OTHER,
    )
    async def visibility(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Whether a room is in the directory."""
        published = await self._public_rooms.is_published(call.path["roomId"])
        return {"visibility": "public" if published else "private"}

    @endpoint(
        "PUT",
        _ROOM_PATH,
        spec="client-server-api#put_matrixclientv3directorylistroomroomid",
        auth=Auth.USER,
        body=VisibilityBody,
        body_optional=True,
        suspended=False,
        limit=Limit.OTHER,
    )
    async def set_visibility(self, call: Call[VisibilityBody, NoQuery]) -> Answer:
        """Put a room into the directory, or take it out."""
        await self._public_rooms.publish(call.requester, call.path["roomId"], call.body.visibility == "public")
        return {}


def directory_query(body: SearchBody) -> DirectoryQuery:
    """What the body of a search asks for."""
    wanted = body.filter or DirectoryFilter()
    return DirectoryQuery(
        body.limit,
        body.since,
        wanted.generic_search_term,
        wanted.room_types,
        body.third_party_instance_id,
        bool(body.include_all_networks),
    )


def directory_answer(page: DirectoryPage | dict[str, Any]) -> Answer:
    """The answer that holds a page of the directory."""
    if isinstance(page, dict):
        return page
    answer: dict[str, Any] = {
        "chunk": [room.chunk() for room in page.rooms],
        "total_room_count_estimate": page.total,
    }
    if page.next is not None:
        answer["next_batch"] = page.next
    if page.previous is not None:
        answer["prev_batch"] = page.previous
    return answer
