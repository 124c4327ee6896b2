"""Invites by address between servers, and what identity servers tell.

spec: server-server-api#third-party-invites
"""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.rate_limits import Limit, RateLimiter
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.federation.participation.third_party_invites import ThirdPartyExchange

_BOUND = "/_matrix/federation/v1/3pid/onbind"
_SPEC = "server-server-api#third-party-invites"


class BoundBody(msgspec.Struct):
    """The body of `PUT /3pid/onbind`: a user has proved an address for which invites wait."""

    medium: str
    address: str
    mxid: str
    invites: list[Any]


class ThirdPartyInvitesApi:
    """The two ways in.

    :param exchange: does it.
    :param limiter: each origin may ask so often.
    """

    surface = Surface.FEDERATION

    def __init__(self, exchange: ThirdPartyExchange, limiter: RateLimiter) -> None:
        self._exchange = exchange
        self._limiter = limiter

    @endpoint(
        "PUT",
        "/_matrix/federation/v1/exchange_third_party_invite/{roomId}",
        spec=_SPEC,
        auth=Auth.SERVER,
        body=dict,
    )
    async def exchange(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Invite a user of another server who was invited by address."""
        self._limiter.spend(Limit.INVITE, call.origin)
        await self._exchange.exchange(call.origin, call.path["roomId"], call.body)
        return {}

    # What is told here proves itself: each invite is signed, and judged by the server of who sent it. The
    # specification of identity servers says POST, and that is what they do; that of servers says PUT.
    @endpoint("PUT", _BOUND, spec=_SPEC, auth=Auth.NONE, body=BoundBody, limit=Limit.INVITE)
    @endpoint("POST", _BOUND, spec=_SPEC, auth=Auth.NONE, body=BoundBody, limit=Limit.INVITE)
    async def bound(self, call: Call[BoundBody, NoQuery]) -> Answer:
        """An identity server tells that a user of this server has proved an address."""
        await self._exchange.bound(call.body.mxid, call.body.invites)
        return {}
