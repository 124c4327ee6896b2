"""Presence."""

from __future__ import annotations

from typing import Literal

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.presence.presence import Presence

_PATH = "/_matrix/client/v3/presence/{userId}/status"
_SPEC = "client-server-api#presence"


class PresenceBody(msgspec.Struct):
    """The body of `PUT /presence/{userId}/status`."""

    presence: Literal["online", "unavailable", "offline"]
    status_msg: str | None = None


class PresenceApi:
    """The chapter on presence."""

    surface = Surface.CLIENT

    def __init__(self, presence: Presence) -> None:
        self._presence = presence

    @endpoint("GET", _PATH, spec=_SPEC, auth=Auth.USER)
    async def get(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The presence of a user."""
        return self._presence.get(call.requester, call.path["userId"])

    @endpoint("PUT", _PATH, spec=_SPEC, auth=Auth.USER, body=PresenceBody, limit=Limit.OTHER)
    async def put(self, call: Call[PresenceBody, NoQuery]) -> Answer:
        """Set one's own presence."""
        self._presence.put(call.requester, call.path["userId"], call.body.presence, call.body.status_msg)
        return {}
