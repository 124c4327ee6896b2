"""Endpoints as data, and the way from a path to its endpoint.

A class of the HTTP floor declares its endpoints on its methods::

    class ProfileApi:
        surface = Surface.CLIENT

        @endpoint("PUT", "/_matrix/client/v3/profile/{userId}/{keyName}", spec="client-server-api#profiles",
                  auth=Auth.USER, body=dict, limit=Limit.PROFILE)
        async def put_field(self, call: Call[dict[str, Any], NoQuery]) -> Answer: ...

and ``Router.add(ProfileApi(...))`` collects them.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
import orjson

from tinyserver.api.bodies import DEFAULT_BODY_LIMIT, BodyReader, QueryReader
from tinyserver.api.calls import AsgiApp, Call, NoQuery
from tinyserver.api.other_paths import meanings, others_of
from tinyserver.api.rate_limits import Limit
from tinyserver.protocol.errors import InvalidParam, Unrecognized

# What a handler returns: something to encode as JSON, JSON already encoded (bytes), or a Starlette response (any ASGI
# callable) for what is not JSON or has another status than 200.
Answer = dict[str, Any] | list[Any] | msgspec.Struct | orjson.Fragment | bytes | AsgiApp
Handler = Callable[[Call[Any, Any]], Awaitable[Answer]]
MethodT = TypeVar("MethodT", bound=Callable[[Any, Call[Any, Any]], Awaitable[Answer]])

_MAX_SEGMENTS = 32


class Auth(Enum):
    """Whether an endpoint wants an access token, and whose.

    Guests are refused, except where the endpoint says ``guests=True``. spec: client-server-api#guest-access
    """

    NONE = "none"  # a token is not even looked at
    OPTIONAL = "optional"  # without a token the call has no requester; a wrong token is an error
    USER = "user"
    ADMIN = "admin"  # a user who administers this server
    SERVER = "server"  # no user: another server, by the signature of the whole request; see ``Call.origin``


class Surface(Enum):
    """The parts of the server that a listener can serve; the values are those of ``serves`` in the configuration."""

    CLIENT = "client"
    FEDERATION = "federation"
    MEDIA = "media"
    ADMIN = "admin"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What one endpoint declares.

    ``path`` is written as in the spec: ``{name}`` is one segment that is not empty. Beyond the spec's notation, a last
    segment ``{name?}`` may be empty, and may be missing together with its slash; a path that ends in a slash also
    matches without it.
    """

    method: str
    path: str
    spec: str
    auth: Auth
    surface: Surface = Surface.CLIENT
    body: Any = None  # a msgspec Struct, ``dict`` for any JSON object, or None: the body is not read
    query: type[msgspec.Struct] | None = None
    limit: Limit | None = None
    guests: bool = False
    max_body: int = DEFAULT_BODY_LIMIT  # bytes
    body_optional: bool = False  # an empty body counts as {}
    long_poll: bool = False  # waits for news: cancelled when the client goes away
    suspended: bool = True  # whether users whose account is suspended can do it


class Api(Protocol):
    """A class whose methods are endpoints."""

    surface: Surface


def endpoint(
    method: str,
    path: str,
    *,
    spec: str,
    auth: Auth,
    body: Any = None,
    query: type[msgspec.Struct] | None = None,
    limit: Limit | None = None,
    guests: bool = False,
    max_body: int = DEFAULT_BODY_LIMIT,
    body_optional: bool = False,
    long_poll: bool = False,
    suspended: bool = True,
) -> Callable[[MethodT], MethodT]:
    """Declare a method as the handler of an endpoint; see :class:`Endpoint` for what the parameters mean.

    Can be stacked. The paths of older clients and of proposals stand in ``other_paths.py``.
    """
    declared = Endpoint(
        method,
        path,
        spec,
        auth,
        Surface.CLIENT,
        body,
        query,
        limit,
        guests,
        max_body,
        body_optional,
        long_poll,
        suspended,
    )

    def declare(function: MethodT) -> MethodT:
        earlier: tuple[Endpoint, ...] = getattr(function, "_endpoints", ())
        function._endpoints = (declared, *earlier)  # type: ignore[attr-defined]
        return function

    return declare


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint bound to the object that handles it, with its readers of query and body made ready."""

    endpoint: Endpoint
    handler: Handler
    read_query: QueryReader
    read_body: BodyReader | None


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A route at a node of the tree: the names of the segments on the way there, and whether a slash may follow."""

    route: Route
    names: tuple[str, ...]
    slash: bool
    empty: str | None = None  # the optional last parameter, where it is left out


class _Node:
    __slots__ = ("leaves", "literals", "parameter")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.leaves: dict[str, _Leaf] = {}  # by method


class Router:
    """All endpoints in a tree of path segments: finding one takes as many steps as its path has segments."""

    def __init__(self) -> None:
        self._root = _Node()
        self._routes: list[Route] = []

    def add(self, api: Api) -> None:
        """Add every endpoint of ``api``. Raises ValueError for one that is there already, or has no proper path."""
        for name in dir(type(api)):
            for declared in getattr(getattr(type(api), name), "_endpoints", ()):
                self._add(replace(declared, surface=api.surface), getattr(api, name))

    def routes(self) -> list[Endpoint]:
        """Every endpoint as data, sorted by path and method."""
        return sorted((route.endpoint for route in self._routes), key=lambda found: (found.path, found.method))

    def match(self, method: str, raw_path: bytes) -> tuple[Route, dict[str, str]]:
        """The route of a request and the decoded parameters of its path.

        :param raw_path: the path as it came, still percent-encoded.

        Literal segments win over parameters, HEAD is answered as GET, and a path that is not declared is looked up by
        its other meanings (``other_paths.py``: ``r0`` is ``v3``). Raises Unrecognized, with status 404 for an unknown
        path and 405 for a known one with another method, and InvalidParam for a path that is not UTF-8.
        """
        segments = _split(raw_path)
        slash = len(segments) > 1 and segments[-1] == ""
        if slash:
            segments.pop()
        if method == "HEAD":
            method = "GET"
        allowed: set[str] = set()
        if len(segments) <= _MAX_SEGMENTS:
            for meant in meanings(segments):
                for node, values in _walk(self._root, meant, 0):
                    leaf = node.leaves.get(method)
                    if leaf is not None and (leaf.slash or not slash):
                        path = dict(zip(leaf.names, values, strict=True))
                        if leaf.empty is not None:
                            path[leaf.empty] = ""
                        return leaf.route, path
                    allowed.update(method for method, other in node.leaves.items() if other.slash or not slash)
        if allowed:
            raise Unrecognized(
                "This endpoint has no such method.", status=405, headers={"Allow": ", ".join(sorted(allowed))}
            )
        raise Unrecognized("This server has no such endpoint.", status=404)

    def _add(self, declared: Endpoint, handler: Handler) -> None:
        query = QueryReader(declared.query or NoQuery)
        body = None
        if declared.body is not None:
            body = BodyReader(declared.body, declared.max_body, optional=declared.body_optional)
        route = Route(declared, handler, query, body)
        self._put(route, declared.method, declared.path)
        self._routes.append(route)
        for method, path in others_of(declared.method, declared.path):
            self._put(route, method, path)

    def _put(self, route: Route, method: str, path: str) -> None:
        segments = path.split("/")
        if segments.pop(0) != "" or not segments:
            raise ValueError(f"the path {path} does not start with a slash")
        slash = segments[-1] == "" and len(segments) > 1
        if slash:
            segments.pop()
        node, names = self._root, tuple[str, ...]()
        for segment in segments:
            if segment.startswith("{"):
                name = segment.removeprefix("{").removesuffix("}")
                if name.endswith("?"):
                    name = name.removesuffix("?")
                    _put(node, _Leaf(route, names, slash=True, empty=name), method, path)
                names = (*names, name)
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        _put(node, _Leaf(route, names, slash), method, path)


def _put(node: _Node, leaf: _Leaf, method: str, path: str) -> None:
    if method in node.leaves:
        raise ValueError(f"{method} {path} is declared twice (other_paths.py counts)")
    node.leaves[method] = leaf


def _split(raw_path: bytes) -> list[str]:
    """The segments of a path, each percent-decoded by itself, so that ``%2F`` stays inside its segment."""
    raw_segments = raw_path.split(b"/")[1:] or [b""]
    try:
        return [(unquote_to_bytes(segment) if b"%" in segment else segment).decode("utf-8") for segment in raw_segments]
    except UnicodeDecodeError as error:
        raise InvalidParam("The path of the URL is not percent-encoded UTF-8.") from error


def _walk(node: _Node, segments: list[str], index: int) -> Iterator[tuple[_Node, list[str]]]:
    """Every node that the segments lead to, with the values of the parameters on the way; literals first."""
    if index == len(segments):
        yield node, []
        return
    segment = segments[index]
    literal = node.literals.get(segment)
    if literal is not None:
        yield from _walk(literal, segments, index + 1)
    if node.parameter is not None and segment:
        for found, values in _walk(node.parameter, segments, index + 1):
            yield found, [segment, *values]
