"""Room aliases.

spec: client-server-api#room-aliases
"""

from __future__ import annotations

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.directory.aliases import Aliases

_PATH = "/_matrix/client/v3/directory/room/{roomAlias}"


class AliasBody(msgspec.Struct):
    """The body of `PUT /directory/room/{roomAlias}`."""

    room_id: str


class AliasesApi:
    """The aliases of rooms."""

    surface = Surface.CLIENT

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases

    @endpoint(
        "GET",
        _PATH,
        spec="client-server-api#get_matrixclientv3directoryroomroomalias",
        auth=Auth.NONE,
        limit=Limit.OTHER,
    )
    async def resolve(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The room behind an alias."""
        found = await self._aliases.resolve(call.path["roomAlias"])
        return {"room_id": found.room_id, "servers": found.servers}

    @endpoint(
        "PUT",
        _PATH,
        spec="client-server-api#put_matrixclientv3directoryroomroomalias",
        auth=Auth.USER,
        body=AliasBody,
        suspended=False,
        limit=Limit.OTHER,
    )
    async def add(self, call: Call[AliasBody, NoQuery]) -> Answer:
        """Make an alias."""
        await self._aliases.add(call.requester, call.path["roomAlias"], call.body.room_id)
        return {}

    @endpoint(
        "DELETE",
        _PATH,
        spec="client-server-api#delete_matrixclientv3directoryroomroomalias",
        auth=Auth.USER,
        suspended=False,
        limit=Limit.OTHER,
    )
    async def remove(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Take an alias away."""
        await self._aliases.remove(call.requester, call.path["roomAlias"])
        return {}

    @endpoint(
        "GET",
        "/_matrix/client/v3/rooms/{roomId}/aliases",
        spec="client-server-api#get_matrixclientv3roomsroomidaliases",
        auth=Auth.USER,
        limit=Limit.OTHER,
    )
    async def of_room(self, call: Call[NoBody, NoQuery]) -> Answer:
        """This server's aliases of a room."""
        return {"aliases": await self._aliases.of_room(call.requester, call.path["roomId"])}
