"""The ASGI application: from an HTTP request to a handler, and from its answer or error to an HTTP response."""

import asyncio
import logging
import secrets
from collections.abc import Iterable
from time import perf_counter
from typing import Any

from tinyserver.api.answers import CORS_HEADERS, JSON_HEADERS, encode_answer, with_cors
from tinyserver.api.bodies import BodyReader
from tinyserver.api.body_budget import BodyBudget
from tinyserver.api.calls import (
    AsgiApp,
    Authenticator,
    Call,
    ClientGone,
    Message,
    Receive,
    Scope,
    Send,
    ServerAuthenticator,
)
from tinyserver.api.client_addresses import ClientAddresses
from tinyserver.api.rate_limits import Limit, RateLimiter, address_key
from tinyserver.api.routing import Answer, Auth, Endpoint, Route, Router, Surface
from tinyserver.protocol.errors import (
    Forbidden,
    GuestAccessForbidden,
    MatrixError,
    MissingToken,
    ResourceLimitExceeded,
    TooLarge,
    Unknown,
    Unrecognized,
    UserSuspended,
)
from tinyserver.protocol.json_size import has_more_values
from tinyserver.storage.errors import StorageFailing, StorageFull, StorageReadOnly

logger = logging.getLogger(__name__)
request_log = logging.getLogger("tinyserver.requests")

_CLIENT_CLOSED = 499  # only ever logged
_INSUFFICIENT_STORAGE = 507
_UNAVAILABLE = 503
_REQUEST_TIMEOUT = 408
_BODY_SECONDS = 30.0  # for the body of another server's request to arrive, ...
_BODY_BYTES_PER_SECOND = 32 * 1024  # ... and longer for a large one
_MAX_VALUES = 300_000  # in it; memory for them is about 100 bytes each at most
_RETRY_SECONDS = 60  # when the disk cannot be written


def build_app(
    router: Router,
    authenticator: Authenticator,
    limiter: RateLimiter,
    *,
    surfaces: Iterable[Surface] = Surface,
    trusted_proxies: Iterable[str] = (),
    admin_contact: str = "",
    server_authenticator: ServerAuthenticator | None = None,
    body_budget: BodyBudget | None = None,
) -> AsgiApp:
    """The application of one listener.

    :param router: all endpoints; those that belong to none of ``surfaces`` are answered as unknown.
    :param authenticator: turns access tokens into requesters.
    :param trusted_proxies: addresses or networks whose ``X-Forwarded-For`` is believed. Raises ValueError for others.
    :param admin_contact: a URI that users are given when the disk is full.
    :param server_authenticator: checks the requests of other servers; without one their endpoints are unknown.
    :param body_budget: what the bodies of their requests may hold together, over all listeners.
    """
    addresses = ClientAddresses(trusted_proxies)
    return _App(
        router,
        authenticator,
        limiter,
        frozenset(surfaces),
        addresses,
        admin_contact,
        server_authenticator,
        body_budget or BodyBudget(),
    )


class _App:
    def __init__(
        self,
        router: Router,
        authenticator: Authenticator,
        limiter: RateLimiter,
        surfaces: frozenset[Surface],
        addresses: ClientAddresses,
        admin_contact: str,
        server_authenticator: ServerAuthenticator | None,
        body_budget: BodyBudget,
    ) -> None:
        self._router = router
        self._authenticator = authenticator
        self._limiter = limiter
        self._surfaces = surfaces
        self._addresses = addresses
        self._admin_contact = admin_contact
        self._server_authenticator = server_authenticator
        self._body_budget = body_budget
        self._object_reader = BodyReader(dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served, not {scope['type']}")
        started = perf_counter()
        status = await self._respond(scope, receive, send)
        if request_log.isEnabledFor(logging.INFO):
            # The path without its query, which may hold a token; still percent-encoded, so it cannot forge log lines.
            request_log.info(
                "%s %s %d %.1f ms",
                scope["method"],
                scope["raw_path"].decode("ascii", "backslashreplace"),
                status,
                (perf_counter() - started) * 1000,
            )

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Answer the request; returns the status for the log."""
        if scope["method"] == "OPTIONS":
            return await _send(send, 204, CORS_HEADERS, b"")
        try:
            answer = await self._handle(scope, receive)
            if callable(answer):
                return await _send_response(answer, scope, receive, send)
            return await _send(send, 200, JSON_HEADERS, encode_answer(answer))
        except ClientGone:
            return _CLIENT_CLOSED
        except MatrixError as error:
            return await _send_error(send, error)
        except (StorageFull, StorageReadOnly, StorageFailing) as error:  # storage says in the log what is the matter
            return await _send_error(send, _storage_error(error, self._admin_contact))
        except Exception:
            error_id = secrets.token_hex(4)
            logger.exception(
                "error %s in %s %s", error_id, scope["method"], scope["raw_path"].decode("ascii", "replace")
            )
            message = f"Internal server error. The server's log has more about it under {error_id}."
            return await _send_error(send, MatrixError(message))

    async def _handle(self, scope: Scope, receive: Receive) -> Answer:
        route, path = self._router.match(scope["method"], scope["raw_path"])
        endpoint = route.endpoint
        if endpoint.surface not in self._surfaces:
            raise Unrecognized("This address of the server does not serve this endpoint.", status=404)
        call: Call[Any, Any] = Call(scope, receive, path, self._addresses.of(scope))
        if endpoint.auth is Auth.SERVER:
            size = min(call.announced_size, endpoint.max_body)
            async with self._body_budget.room(address_key(call.client_address), size):
                await self._authenticate_server(route, call, size)
                return await route.handler(call)
        if endpoint.auth is not Auth.NONE:
            await self._authenticate(endpoint, call)
        self._limit(endpoint, call)
        route.read_query.read(call)
        if route.read_body is not None:
            await route.read_body.read(call)
        if endpoint.long_poll:
            answer = await _while_connected(call, route)
            if endpoint.auth is not Auth.NONE:
                await self._authenticate(endpoint, call)  # whoever was logged out while waiting is told no more
            return answer
        return await route.handler(call)

    async def _authenticate(self, endpoint: Endpoint, call: Call[Any, Any]) -> None:
        token = call.access_token
        if token is None:
            if endpoint.auth is Auth.OPTIONAL:
                return
            raise MissingToken
        requester = await self._authenticator.authenticate(token, call)
        if requester.is_guest and not endpoint.guests:
            raise GuestAccessForbidden("Guests cannot do this. Register an account first.")
        if endpoint.auth is Auth.ADMIN and not requester.is_admin:
            raise Forbidden("Only administrators of this server can do this.")
        if requester.is_suspended and not endpoint.suspended:
            raise UserSuspended
        call.optional_requester = requester

    async def _authenticate_server(self, route: Route, call: Call[Any, Any], size: int) -> None:
        """Learn which server calls: its signature covers the body, which is therefore read first, and parsed once.

        :param size: bytes of the body at most.
        """
        if self._server_authenticator is None:
            raise Unrecognized("This server does not talk with other servers.", status=404)
        endpoint = route.endpoint
        content: Any = None

        async def read_content() -> Any:
            nonlocal content
            raw = await _read_in_time(call, endpoint.max_body, _BODY_SECONDS + size / _BODY_BYTES_PER_SECOND)
            if has_more_values(raw, _MAX_VALUES):
                raise TooLarge(f"The JSON of the request has more than {_MAX_VALUES} values.")
            content = self._object_reader.decode(raw) if raw else None
            return content

        call.origin = await self._server_authenticator.authenticate(call, read_content)
        self._limiter.spend(endpoint.limit or Limit.FEDERATION, call.origin)
        route.read_query.read(call)
        if route.read_body is not None:
            call.body = route.read_body.decode(b"") if content is None else route.read_body.convert(content)

    def _limit(self, endpoint: Endpoint, call: Call[Any, Any]) -> None:
        if endpoint.limit is None:
            return
        requester = call.optional_requester
        if requester is not None:
            if requester.is_rate_limited:
                self._limiter.spend(endpoint.limit, requester.user_id, is_admin=requester.is_admin)
            return
        token = call.access_token
        if token is None or not self._authenticator.is_exempt(token):
            self._limiter.spend(endpoint.limit, address_key(call.client_address))


async def _read_in_time(call: Call[Any, Any], limit: int, seconds: float) -> bytearray:
    """The whole body. Raises Unknown (408) where it does not come in time, and what `Call.stream` does."""
    try:
        async with asyncio.timeout(seconds):
            raw = bytearray()
            async for piece in call.stream(limit):
                raw += piece
            return raw
    except TimeoutError as error:
        late = Unknown("The body of the request did not arrive in time.", status=_REQUEST_TIMEOUT)
        late.headers["Connection"] = "close"
        raise late from error


async def _while_connected(call: Call[Any, Any], route: Route) -> Answer:
    """Run a handler that waits; it is cancelled when its client goes away. Raises ClientGone then."""
    handling = asyncio.current_task()
    assert handling is not None
    gone = False

    async def wait_until_gone() -> None:
        nonlocal gone
        try:
            while True:
                await call.receive()
        except ClientGone:
            gone = True
            handling.cancel()

    watching = asyncio.ensure_future(wait_until_gone())
    try:
        return await route.handler(call)
    except asyncio.CancelledError:
        if gone and handling.uncancel() == 0:  # else the server is stopping
            raise ClientGone from None
        raise
    finally:
        watching.cancel()


def _storage_error(error: StorageFull | StorageReadOnly | StorageFailing, admin_contact: str) -> MatrixError:
    """What a client is told when the disk does not take what it sent: nothing of that was stored."""
    if isinstance(error, StorageFull):
        told: MatrixError = ResourceLimitExceeded(
            admin_contact,
            "The server's disk is full; what you sent was not stored. It works again as soon as there is space.",
            status=_INSUFFICIENT_STORAGE,
        )
    else:
        told = Unknown(
            "The server's disk cannot be written; what you sent was not stored. Its administrator must look at it.",
            status=_UNAVAILABLE,
        )
    told.headers["Retry-After"] = str(_RETRY_SECONDS)
    return told


async def _send_error(send: Send, error: MatrixError) -> int:
    extra = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    return await _send(send, error.status, JSON_HEADERS + extra, encode_answer(error.body()))


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
    if status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode("ascii"))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return status


async def _send_response(response: AsgiApp, scope: Scope, receive: Receive, send: Send) -> int:
    """Let a Starlette response (or any ASGI callable) answer, with the CORS headers added."""
    status = 0

    async def send_with_cors(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            message = {**message, "headers": with_cors(message.get("headers", ()))}
        await send(message)

    await response(scope, receive, send_with_cors)
    return status
