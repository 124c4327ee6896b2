"""One HTTP request as a handler sees it: path, query and body are parsed, typed and checked, the requester is known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import InvalidParam, TooLarge

if TYPE_CHECKING:
    from starlette.requests import Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

BodyT = TypeVar("BodyT", covariant=True)
QueryT = TypeVar("QueryT", covariant=True)

_MAX_QUERY_PARAMETERS = 200


class NoBody(msgspec.Struct):
    """The body type of an endpoint that reads no body, or that reads it by itself with :meth:`Call.stream`."""


class NoQuery(msgspec.Struct):
    """The query type of an endpoint without query parameters."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete: nobody is left to answer."""


class Call(Generic[BodyT, QueryT]):
    """What a handler gets.

    ``path`` holds the parameters of the path, percent-decoded. ``body`` and ``query`` are instances of the types that
    the endpoint declares. ``raw_body`` is the body as it came (empty unless the endpoint declares a body type).
    ``client_address`` is the address of the client itself, also behind a trusted reverse proxy ("" where unknown).
    ``scope`` and ``receive`` are the ASGI ones, for handlers that stream.
    """

    __slots__ = (
        "_headers",
        "_origin",
        "_parameters",
        "_receive",
        "body",
        "client_address",
        "optional_requester",
        "path",
        "query",
        "raw_body",
        "scope",
    )

    body: BodyT
    query: QueryT

    def __init__(self, scope: Scope, receive: Receive, path: dict[str, str], client_address: str) -> None:
        self.scope = scope
        self.path = path
        self.client_address = client_address
        self.raw_body = b""
        self.optional_requester: Requester | None = None
        self._receive = receive
        self._origin: str | None = None
        self._headers: dict[str, str] | None = None
        self._parameters: dict[str, list[str]] | None = None

    @property
    def requester(self) -> Requester:
        """Who calls. An endpoint with ``Auth.NONE`` has none; with ``Auth.OPTIONAL`` ask ``optional_requester``.

        Raises RuntimeError where there is none: the endpoint's declaration and its handler disagree.
        """
        if self.optional_requester is None:
            raise RuntimeError("this endpoint does not authenticate its caller")
        return self.optional_requester

    @property
    def origin(self) -> str:
        """The name of the server that calls, where the endpoint has ``Auth.SERVER``. Raises RuntimeError elsewhere."""
        if self._origin is None:
            raise RuntimeError("this endpoint does not authenticate a server")
        return self._origin

    @origin.setter
    def origin(self, server_name: str) -> None:
        self._origin = server_name

    @property
    def target(self) -> str:
        """The path and the query as they stand in the request: what another server signs."""
        query: bytes = self.scope["query_string"]
        target: bytes = self.scope["raw_path"] + (b"?" + query if query else b"")
        return target.decode("latin-1")

    @property
    def method(self) -> str:
        """The HTTP method as it came, upper case."""
        method: str = self.scope["method"]
        return method

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name; the values of a repeated one are joined with a comma."""
        if self._headers is None:
            headers: dict[str, str] = {}
            for raw_name, raw_value in self.scope["headers"]:
                name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            self._headers = headers
        return self._headers

    @property
    def query_parameters(self) -> dict[str, list[str]]:
        """All query parameters as text, each with its values in the order of the URL.

        Raises InvalidParam for a query that is not percent-encoded UTF-8, or that is absurdly long.
        """
        if self._parameters is None:
            parameters: dict[str, list[str]] = {}
            raw: bytes = self.scope["query_string"]
            try:
                pairs = parse_qsl(
                    raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_PARAMETERS
                )
            except ValueError as error:
                raise InvalidParam(
                    "The query of the URL is not valid percent-encoded UTF-8, or is too long."
                ) from error
            for name, value in pairs:
                parameters.setdefault(name, []).append(value)
            self._parameters = parameters
        return self._parameters

    @property
    def access_token(self) -> str | None:
        """The token of the Authorization header, or else of the query. spec: client-server-api#using-access-tokens"""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
        if b"access_token=" in self.scope["query_string"]:
            return next(iter(self.query_parameters.get("access_token", ())), None)
        return None

    @property
    def announced_size(self) -> int:
        """Bytes of the body as far as they are known before it comes: a huge number where it is told in pieces."""
        announced = self.headers.get("content-length", "")
        if announced.isdecimal():
            return int(announced[:18])
        return 10**18 if "transfer-encoding" in self.headers else 0

    async def receive(self) -> Message:
        """The next ASGI message of the request. Raises ClientGone when the client has closed the connection."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    async def stream(self, limit: int) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive, for handlers that never hold it whole.

        :param limit: bytes; raises TooLarge as soon as more than that was announced or has come. Raises ClientGone.
        """
        announced = self.headers.get("content-length", "")
        if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
            raise TooLarge(f"The request is larger than {limit} bytes, which is the most that is taken here.")
        size, more = 0, True
        while more:
            message = await self.receive()
            piece: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(piece)
            if size > limit:
                raise TooLarge(f"The request is larger than {limit} bytes, which is the most that is taken here.")
            if piece:
                yield piece

    @property
    def request(self) -> Request:
        """The raw Starlette request, for the rare handler that needs more than this class gives."""
        # Starlette's request brings forms, cookies and anyio with it, 3 MB: imported by those who need it.
        from starlette.requests import Request

        return Request(self.scope, self.receive)


class ServerAuthenticator(Protocol):
    """How the HTTP floor learns which server calls; needed where endpoints have ``Auth.SERVER``."""

    async def authenticate(self, call: Call[Any, Any], read_content: Callable[[], Awaitable[Any]]) -> str:
        """The name of the server that signed the request.

        :param read_content: reads the body and gives the JSON object in it, or None for a request without a body;
            to be called once, after everything that can be refused without it.

        Raises Unauthorized or another MatrixError.
        """
        ...


class Authenticator(Protocol):
    """How the HTTP floor learns who calls. The accounts service gives the implementation."""

    async def authenticate(self, token: str, call: Call[Any, Any]) -> Requester:
        """The requester of an access token. ``call`` is for those who look further (``?user_id=``, the address).

        Raises UnknownToken, UserLocked, Forbidden or another MatrixError.
        """
        ...

    def is_exempt(self, token: str) -> bool:
        """Whether requests that need no access token, but have this one, are free of rate limits."""
        ...
