"""The built-in push gateway for UnifiedPush."""

from __future__ import annotations

from typing import Any

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.protocol.errors import Unknown
from tinyserver.push.pushers import NOTIFY_PATH
from tinyserver.push.unifiedpush import UnifiedPush

_SPEC = "push-gateway-api#post_matrixpushv1notify"


class PushGatewayApi:
    """The push gateway API."""

    surface = Surface.CLIENT

    def __init__(self, gateway: UnifiedPush) -> None:
        self._gateway = gateway

    @endpoint("GET", NOTIFY_PATH, spec=_SPEC, auth=Auth.NONE)
    async def discover(self, call: Call[NoBody, NoQuery]) -> Answer:
        """By this clients know a gateway for UnifiedPush."""
        return {"unifiedpush": {"gateway": "matrix"}}

    @endpoint("POST", NOTIFY_PATH, spec=_SPEC, auth=Auth.NONE, body=dict, limit=Limit.OTHER)
    async def notify(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Pass a notification on."""
        try:
            return {"rejected": await self._gateway.notify(call.body)}
        except OutgoingError as error:
            raise Unknown("The distributor cannot be reached.", status=502) from error
