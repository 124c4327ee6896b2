"""Spaces for other servers. spec: server-server-api#spaces"""

from __future__ import annotations

import msgspec

from tinyserver.api.calls import Call, NoBody
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.federation.serving.spaces import ServedSpaces


class HierarchyQuery(msgspec.Struct):
    """Whether only suggested children are wanted."""

    suggested_only: bool = False


class SpacesApi:
    """Telling of a space and its children.

    :param spaces: knows them.
    """

    surface = Surface.FEDERATION

    def __init__(self, spaces: ServedSpaces) -> None:
        self._spaces = spaces

    @endpoint(
        "GET",
        "/_matrix/federation/v1/hierarchy/{roomId}",
        spec="server-server-api#get_matrixfederationv1hierarchyroomid",
        auth=Auth.SERVER,
        query=HierarchyQuery,
    )
    async def get_hierarchy(self, call: Call[NoBody, HierarchyQuery]) -> Answer:
        """A space and its children."""
        only = call.query.suggested_only
        return await self._spaces.hierarchy(call.origin, call.path["roomId"], suggested_only=only)
