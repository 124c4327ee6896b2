"""Pushers."""

from __future__ import annotations

from typing import Any

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.push.pushers import Pushers

_SPEC = "client-server-api#push-notifications"


class PushersApi:
    """Where users want to be told of events."""

    surface = Surface.CLIENT

    def __init__(self, pushers: Pushers) -> None:
        self._pushers = pushers

    @endpoint("GET", "/_matrix/client/v3/pushers", spec=_SPEC, auth=Auth.USER)
    async def get(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All pushers of the user."""
        return {"pushers": self._pushers.all_of(call.requester)}

    @endpoint("POST", "/_matrix/client/v3/pushers/set", spec=_SPEC, auth=Auth.USER, body=dict, limit=Limit.OTHER)
    async def set(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Create, change or delete a pusher."""
        await self._pushers.set(call.requester, call.body)
        return {}
