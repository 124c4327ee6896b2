"""Tokens by which users prove to other services who they are.

spec: client-server-api#openid, server-server-api#openid
"""

from __future__ import annotations

import msgspec

from tinyserver.accounts.openid import LIFETIME_SECONDS, OpenIdTokens
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint


class OpenIdApi:
    """What the user asks for.

    Args:
        server_name: where the service has to ask whose a token is.
    """

    surface = Surface.CLIENT

    def __init__(self, tokens: OpenIdTokens, server_name: str) -> None:
        self._tokens = tokens
        self._server_name = server_name

    @endpoint(
        "POST",
        "/_matrix/client/v3/user/{userId}/openid/request_token",
        spec="client-server-api#post_matrixclientv3useruseridopenidrequest_token",
        auth=Auth.USER,
        limit=Limit.OTHER,
    )
    async def request_token(self, call: Call[NoBody, NoQuery]) -> Answer:
        """A token for the user."""
        token = await self._tokens.create(call.requester, call.path["userId"])
        return {
            "access_token": token,
            "token_type": "Bearer",
            "matrix_server_name": self._server_name,
            "expires_in": LIFETIME_SECONDS,
        }


class UserInfoQuery(msgspec.Struct):
    """The query of `GET /openid/userinfo`."""

    access_token: str


class UserInfoApi:
    """What the service asks for, which is no server that signs requests."""

    surface = Surface.FEDERATION

    def __init__(self, tokens: OpenIdTokens) -> None:
        self._tokens = tokens

    @endpoint(
        "GET",
        "/_matrix/federation/v1/openid/userinfo",
        spec="server-server-api#get_matrixfederationv1openiduserinfo",
        auth=Auth.NONE,
        query=UserInfoQuery,
        limit=Limit.OTHER,
    )
    async def user_info(self, call: Call[NoBody, UserInfoQuery]) -> Answer:
        """Whose token it is."""
        return {"sub": self._tokens.owner(call.query.access_token)}
