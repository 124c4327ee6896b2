"""Whose an OpenID token of another server is. spec: server-server-api#openid"""

from __future__ import annotations

from tinyserver.federation.client import FederationClient
from tinyserver.outgoing.errors import AnswerMalformed
from tinyserver.protocol.request_auth import path_of

TIMEOUT = 10.0
MAX_BYTES = 64 * 1024


class OpenIdQueries:
    """Asks other servers.

    Args:
        client: requests to other servers.
    """

    def __init__(self, client: FederationClient) -> None:
        self._client = client

    async def openid_owner(self, server_name: str, token: str) -> str:
        """The user ID behind a token, as its server says. Raises OutgoingError."""
        path = path_of("_matrix", "federation", "v1", "openid", "userinfo")
        answer = await self._client.send(
            "GET",
            server_name,
            path,
            query={"access_token": token},
            timeout=TIMEOUT,
            max_bytes=MAX_BYTES,
            signed=False,
        )
        user_id = answer.content.get("sub") if isinstance(answer.content, dict) else None
        if not isinstance(user_id, str):
            raise AnswerMalformed("the answer does not say whose the token is")
        return user_id
