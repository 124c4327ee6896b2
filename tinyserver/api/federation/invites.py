"""Invites of other servers for users of this one.

spec: server-server-api#inviting-to-a-room
"""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.rate_limits import Limit, RateLimiter
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.federation.participation.invites import InboundInvites

_FIRST_VERSION = "1"


class InviteBody(msgspec.Struct):
    """The body of an invite: the room's version, the event, and what identifies the room."""

    room_version: str
    event: dict[str, Any]
    invite_room_state: list[Any] = []


class InvitesApi:
    """Where other servers bring invites.

    :param invites: takes them.
    :param limiter: each origin may invite so often.
    """

    surface = Surface.FEDERATION

    def __init__(self, invites: InboundInvites, limiter: RateLimiter) -> None:
        self._invites = invites
        self._limiter = limiter

    @endpoint(
        "PUT",
        "/_matrix/federation/v2/invite/{roomId}/{eventId}",
        spec="server-server-api#put_matrixfederationv2inviteroomideventid",
        auth=Auth.SERVER,
        body=InviteBody,
    )
    async def put_invite(self, call: Call[InviteBody, NoQuery]) -> Answer:
        """An invite to a room of any version."""
        self._limiter.spend(Limit.INVITE, call.origin)
        body = call.body
        signed = await self._invites.receive(
            call.origin,
            call.path["roomId"],
            call.path["eventId"],
            body.room_version,
            body.event,
            body.invite_room_state,
        )
        return {"event": signed}

    @endpoint(
        "PUT",
        "/_matrix/federation/v1/invite/{roomId}/{eventId}",
        spec="server-server-api#put_matrixfederationv1inviteroomideventid",
        auth=Auth.SERVER,
        body=dict,
    )
    async def put_invite_v1(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """An invite to a room of the first versions: the body is the event."""
        self._limiter.spend(Limit.INVITE, call.origin)
        unsigned = call.body.get("unsigned")
        state = unsigned.get("invite_room_state") if isinstance(unsigned, dict) else None
        signed = await self._invites.receive(
            call.origin, call.path["roomId"], call.path["eventId"], _FIRST_VERSION, call.body, state
        )
        return [200, {"event": signed}]
