"""Which server makes a request: the signature in its Authorization header.

spec: server-server-api#request-authentication
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tinyserver.api.calls import Call
from tinyserver.api.rate_limits import Limit, RateLimiter, address_key
from tinyserver.federation.destinations import Destinations
from tinyserver.federation.key_ring import KeyRing
from tinyserver.protocol.errors import Unauthorized
from tinyserver.protocol.request_auth import AuthorizationError, XMatrix, is_x_matrix, parse_authorization
from tinyserver.protocol.signing import SignatureError

_LARGE = 128 * 1024  # bytes of a body that would hold up the event loop


class SignedRequests:
    """Authenticates servers for the HTTP floor.

    :param server_name: this server.
    :param key_ring: the keys of the others.
    :param destinations: learns who is there.
    :param limiter: bounds how many unknown servers one address can make us ask for keys.
    """

    def __init__(self, server_name: str, key_ring: KeyRing, destinations: Destinations, limiter: RateLimiter) -> None:
        self._server_name = server_name
        self._key_ring = key_ring
        self._destinations = destinations
        self._limiter = limiter

    async def authenticate(self, call: Call[Any, Any], read_content: Callable[[], Awaitable[Any]]) -> str:
        """The server that signed the request. Raises Unauthorized, LimitExceeded, or what reading the body raises."""
        claim = self._claim(call)
        if not self._key_ring.knows(claim.origin, claim.key_id):
            self._limiter.spend(Limit.KEY_QUERY, address_key(call.client_address))
        content = await read_content()
        try:
            await self._key_ring.check_request(
                claim, call.method, call.target, content, large=call.announced_size > _LARGE
            )
        except SignatureError as error:
            raise Unauthorized(f"The request is not signed as it must be: {error}.") from error
        self._destinations.contacted(claim.origin)
        return claim.origin

    def _claim(self, call: Call[Any, Any]) -> XMatrix:
        """What the request says about its origin, as far as it can be meant for this server."""
        headers = [value.decode("latin-1") for name, value in call.scope["headers"] if name == b"authorization"]
        ours = next(filter(is_x_matrix, headers), None)
        if ours is None:
            raise Unauthorized("Requests of servers need an Authorization header with the scheme X-Matrix.")
        try:
            claim = parse_authorization(ours)
        except AuthorizationError as error:
            raise Unauthorized(f"The request cannot be authenticated: {error}.") from error
        if claim.destination not in (None, self._server_name):
            raise Unauthorized("The request is meant for another server.")
        if claim.origin == self._server_name:
            raise Unauthorized("The request claims to come from this server itself.")
        return claim
