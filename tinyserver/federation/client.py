"""Requests to other servers: found, signed, sent, and their answers taken with bounds.

    answer = await client.get("example.org", path_of("_matrix", "federation", "v1", "event", event_id))

Every failure is an `OutgoingError`: `Unreachable` (of which `BackingOff` says that nothing was tried), `TimedOut`,
`HttpError` (the other server's own error), `AnswerMalformed`, `AnswerTooLarge`. Failures that the next request would
meet as well make the server be left alone for a while; an answer ends that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from tinyserver.federation.destinations import Destinations
from tinyserver.federation.discovery import Discovery
from tinyserver.outgoing.errors import (
    AnswerMalformed,
    AnswerTooLarge,
    HttpError,
    OutgoingError,
    TimedOut,
    Unreachable,
)
from tinyserver.outgoing.http import HttpClient, StreamedAnswer
from tinyserver.outgoing.targets import Target
from tinyserver.protocol import canonical_json
from tinyserver.protocol.json_size import has_more_values
from tinyserver.protocol.request_auth import authorization, request_target
from tinyserver.protocol.signing import SigningKey

TIMEOUT = 60.0
"""Seconds for a request that says nothing else."""
MAX_BYTES = 4 * 1024 * 1024
"""The largest answer of a request that says nothing else. What can be larger is read with `stream`."""
MAX_VALUES = 300_000
"""How many JSON values an answer may hold, or one for each forty bytes that it may have: their memory is bounded so."""
MAX_ERROR_BYTES = 64 * 1024
MAX_ERROR_TEXT = 500
_GATEWAY_TROUBLE = (502, 503, 504)
_TOO_MANY = 429

Query = Mapping[str, str | int | bool | list[str]]


@dataclass(frozen=True, slots=True)
class Received:
    """An answer: the JSON value, and the headers by lower-case name."""

    content: Any
    headers: Mapping[str, str]


class FederationClient:
    """Talks to other servers as this one.

    Args:
        server_name: this server.
        key: what requests are signed with.
        http: makes the connections.
        discovery: finds the servers.
        destinations: who is left alone at the moment.
    """

    def __init__(
        self, server_name: str, key: SigningKey, http: HttpClient, discovery: Discovery, destinations: Destinations
    ) -> None:
        self._server_name = server_name
        self._key = key
        self._http = http
        self._discovery = discovery
        self._destinations = destinations

    def is_failing(self, destination: str) -> bool:
        """Whether a server could not be reached when it was last tried."""
        return self._destinations.state_of(destination) is not None

    def fails(self, destination: str) -> bool:
        """Whether the server failed lately: where there is a choice, others are asked first."""
        return self._destinations.state_of(destination) is not None

    async def get(
        self,
        destination: str,
        path: str,
        *,
        query: Query | None = None,
        timeout: float = TIMEOUT,
        max_bytes: int = MAX_BYTES,
        ignore_backoff: bool = False,
    ) -> dict[str, Any]:
        """The JSON object that a server answers to a GET.

        Args:
            destination: a server name.
            path: percent-encoded, see `tinyserver.protocol.request_auth.path_of`.
            timeout: seconds for everything together.
            ignore_backoff: ask even if the server failed lately.

        Raises:
            OutgoingError: there is no such answer.
        """
        answer = await self.send(
            "GET",
            destination,
            path,
            query=query,
            timeout=timeout,
            max_bytes=max_bytes,
            ignore_backoff=ignore_backoff,
        )
        return _object(answer)

    async def put(
        self,
        destination: str,
        path: str,
        content: Any,
        *,
        query: Query | None = None,
        timeout: float = TIMEOUT,
        max_bytes: int = MAX_BYTES,
        ignore_backoff: bool = False,
    ) -> dict[str, Any]:
        """As `get`, for a PUT with a JSON body. Raises OutgoingError, or CanonicalJsonError for what is no JSON."""
        answer = await self.send(
            "PUT",
            destination,
            path,
            content=content,
            query=query,
            timeout=timeout,
            max_bytes=max_bytes,
            ignore_backoff=ignore_backoff,
        )
        return _object(answer)

    async def post(
        self,
        destination: str,
        path: str,
        content: Any,
        *,
        query: Query | None = None,
        timeout: float = TIMEOUT,
        max_bytes: int = MAX_BYTES,
        ignore_backoff: bool = False,
        signed: bool = True,
    ) -> dict[str, Any]:
        """As `put`, for a POST; `signed=False` for the few endpoints that want no authentication."""
        answer = await self.send(
            "POST",
            destination,
            path,
            content=content,
            query=query,
            timeout=timeout,
            max_bytes=max_bytes,
            ignore_backoff=ignore_backoff,
            signed=signed,
        )
        return _object(answer)

    async def send(
        self,
        method: str,
        destination: str,
        path: str,
        *,
        content: Any = None,
        query: Query | None = None,
        timeout: float = TIMEOUT,
        max_bytes: int = MAX_BYTES,
        ignore_backoff: bool = False,
        signed: bool = True,
    ) -> Received:
        """What `get`, `put` and `post` do, with the headers and any JSON value as answer."""
        try:
            async with self.stream(
                method,
                destination,
                path,
                content=content,
                query=query,
                timeout=timeout,
                ignore_backoff=ignore_backoff,
                signed=signed,
            ) as answer:
                body = await answer.read(max_bytes)
            if has_more_values(body, max(MAX_VALUES, max_bytes // 40)):
                raise AnswerTooLarge(f"{destination} answered far too many values")
            return Received(canonical_json.loads(body), answer.headers)
        except canonical_json.JsonSyntaxError as syntax_error:
            error = AnswerMalformed(f"{destination} answered something that is not JSON")
            self._note(destination, error)
            raise error from syntax_error
        except TimedOut as late:
            self._note(destination, late)
            raise

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        destination: str,
        path: str,
        *,
        content: Any = None,
        query: Query | None = None,
        timeout: float = TIMEOUT,
        ignore_backoff: bool = False,
        signed: bool = True,
    ) -> AsyncIterator[StreamedAnswer]:
        """A successful answer whose body is read piece by piece inside the `async with` (`answer.chunks(max_bytes)`).

        Raises:
            OutgoingError: there is no successful answer, or it breaks off while it is read.
        """
        if not ignore_backoff:
            self._destinations.check(destination)
        uri = request_target(path, query)
        headers = {"Accept": "application/json"} if content is None else {"Content-Type": "application/json"}
        if signed:
            headers["Authorization"] = authorization(method, uri, self._server_name, destination, content, self._key)
        body = None if content is None else canonical_json.encode_lenient(content)
        deadline = asyncio.get_running_loop().time() + timeout
        async with contextlib.AsyncExitStack() as stack:
            try:
                target = await self._find(destination, timeout)
                left = deadline - asyncio.get_running_loop().time()
                sending = self._http.stream(method, target, uri, headers=headers, content=body, timeout=left)
                answer = await stack.enter_async_context(sending)
                if not 200 <= answer.status < 300:
                    raise await _error_of(answer)
            except OutgoingError as error:
                self._note(destination, error)
                raise
            # From here on the caller reads. Its own errors are none of the server's.
            answer.on_error = lambda error: self._note(destination, error)
            yield answer
        self._destinations.answered(destination)

    async def _find(self, destination: str, timeout: float) -> Target:
        try:
            async with asyncio.timeout(timeout):
                return await self._discovery.find(destination)
        except TimeoutError as error:
            raise TimedOut(f"{destination} could not be found within {timeout:g} s") from error

    def _note(self, destination: str, error: OutgoingError) -> None:
        """Tell the back-off what an error says about the server as a whole."""
        if isinstance(error, HttpError) and error.status == _TOO_MANY:
            self._destinations.failed(destination, str(error), retry_after=error.retry_after)
        elif isinstance(error, HttpError) and error.is_json and error.status not in _GATEWAY_TROUBLE:
            self._destinations.answered(destination)
        elif isinstance(error, AnswerTooLarge):
            return  # the server is there; it is the request that cannot be served
        elif isinstance(error, HttpError):
            # Not in JSON: a proxy in front of nothing, or no Matrix server at all. (Synapse knows an error that is an
            # empty string: 404 for an event that it does not have.)
            self._destinations.failed(destination, str(error), retry_after=error.retry_after)
        else:
            unreachable = isinstance(error, Unreachable)
            local = isinstance(error, Unreachable) and error.local
            self._destinations.failed(destination, str(error), local=local, cheap=unreachable)


def _object(answer: Received) -> dict[str, Any]:
    if not isinstance(answer.content, dict):
        raise AnswerMalformed("the answer is not a JSON object")
    return answer.content


async def _error_of(answer: StreamedAnswer) -> HttpError:
    """The error in an answer, whatever form it has. Raises Unreachable and TimedOut if it cannot be read."""
    errcode, message, is_json = None, "", False
    try:
        parsed = canonical_json.loads(await answer.read(MAX_ERROR_BYTES))
        is_json = True
        if isinstance(parsed, dict):
            given, text = parsed.get("errcode"), parsed.get("error")
            errcode = given[:100] if isinstance(given, str) else None
            message = text[:MAX_ERROR_TEXT] if isinstance(text, str) else ""
    except (canonical_json.JsonSyntaxError, AnswerTooLarge, AnswerMalformed):
        pass
    wait = answer.headers.get("retry-after", "")
    retry_after = float(wait) if wait.isdecimal() and len(wait) < 7 else None
    return HttpError(answer.status, errcode, message, retry_after, is_json=is_json)
