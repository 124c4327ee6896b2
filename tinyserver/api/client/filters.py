"""Filters that clients upload."""

from __future__ import annotations

from typing import Any

from tinyserver.accounts.filters import Filters
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint

_SPEC = "client-server-api#filtering"


class FiltersApi:
    """The filtering chapter."""

    surface = Surface.CLIENT

    def __init__(self, filters: Filters) -> None:
        self._filters = filters

    @endpoint(
        "POST", "/_matrix/client/v3/user/{userId}/filter", spec=_SPEC, auth=Auth.USER, body=dict, limit=Limit.OTHER
    )
    async def add(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Upload a filter."""
        return {"filter_id": await self._filters.add(call.requester, call.path["userId"], call.body)}

    @endpoint("GET", "/_matrix/client/v3/user/{userId}/filter/{filterId}", spec=_SPEC, auth=Auth.USER)
    async def get(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Read a filter."""
        return await self._filters.get(call.requester, call.path["userId"], call.path["filterId"])
