"""What the server and the user can do."""

from __future__ import annotations

from tinyserver.accounts.capabilities import Capabilities
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint


class CapabilitiesApi:
    """The capabilities chapter."""

    surface = Surface.CLIENT

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities

    @endpoint(
        "GET",
        "/_matrix/client/v3/capabilities",
        spec="client-server-api#capabilities-negotiation",
        auth=Auth.USER,
        guests=True,
        limit=Limit.OTHER,
    )
    async def capabilities(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All capabilities of the requester."""
        return {"capabilities": self._capabilities.of(call.requester)}
