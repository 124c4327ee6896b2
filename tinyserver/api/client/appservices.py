"""What only application services ask for: pings, and their lists of rooms.

spec: application-service-api#client-server-api-extensions
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.appservices.networks import Networks
from tinyserver.appservices.ping import Ping


class PingBody(msgspec.Struct):
    """The body of `POST /appservice/{appserviceId}/ping`."""

    transaction_id: Annotated[str, msgspec.Meta(max_length=1024)] | None = None


class ListingBody(msgspec.Struct):
    """The body of `PUT /directory/list/appservice/{networkId}/{roomId}`."""

    visibility: Literal["public", "private"]


class AppservicesApi:
    """The endpoints."""

    surface = Surface.CLIENT

    def __init__(self, ping: Ping, networks: Networks) -> None:
        self._ping = ping
        self._networks = networks

    @endpoint(
        "POST",
        "/_matrix/client/v1/appservice/{appserviceId}/ping",
        spec="client-server-api#post_matrixclientv1appserviceappserviceidping",
        auth=Auth.USER,
        body=PingBody,
        limit=Limit.OTHER,
    )
    async def ping(self, call: Call[PingBody, NoQuery]) -> Answer:
        """Whether this server reaches the service."""
        duration = await self._ping.ping(call.requester, call.path["appserviceId"], call.body.transaction_id)
        return {"duration_ms": duration}

    @endpoint(
        "PUT",
        "/_matrix/client/v3/directory/list/appservice/{networkId}/{roomId}",
        spec="client-server-api#put_matrixclientv3directorylistappservicenetworkidroomid",
        auth=Auth.USER,
        body=ListingBody,
        suspended=False,
        limit=Limit.OTHER,
    )
    async def list_room(self, call: Call[ListingBody, NoQuery]) -> Answer:
        """Put a room into a network's list, or take it out."""
        listed = call.body.visibility == "public"
        await self._networks.list_room(call.requester, call.path["networkId"], call.path["roomId"], listed)
        return {}
