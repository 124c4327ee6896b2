"""The HTTP client for every request that this server makes: bounded in connections, time and bytes.

httpcore keeps the connections; it is imported with the first request, and all connections are closed when nothing was
asked for a while. Redirects are not followed, except where `fetch` is told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin
from weakref import WeakValueDictionary

from tinyserver.outgoing.addresses import AddressPolicy
from tinyserver.outgoing.dns import Resolver
from tinyserver.outgoing.errors import AnswerMalformed, AnswerTooLarge, OutgoingError, TimedOut, Unreachable
from tinyserver.outgoing.targets import Target, target_of_url
from tinyserver.outgoing.tls import TlsClient
from tinyserver.version import NAME, VERSION

if TYPE_CHECKING:
    import httpcore

MAX_CONNECTIONS = 100
MAX_CONNECTIONS_PER_TARGET = 8
MAX_IDLE_CONNECTIONS = 16
IDLE_SECONDS = 60.0
CONNECT_SECONDS = 10.0
STALL_SECONDS = 30.0
"""An answer that brings nothing for so long is given up, whatever its whole time."""
SLOW_SECONDS = 30.0
SLOWEST = 1024
"""Bytes per second that an answer must bring from `SLOW_SECONDS` after its beginning on: who says a byte now and then
would else hold connections for as long as the longest answers may take."""
_REDIRECTS = (301, 302, 303, 307, 308)
_GZIP = 16 + zlib.MAX_WBITS

Content = bytes | AsyncIterable[bytes] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: `headers` by lower-case name, `body` decoded from its transfer and content encoding."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class StreamedAnswer:
    """An answer whose body has not been read yet."""

    def __init__(self, status: int, headers: Mapping[str, str], stream: AsyncIterable[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.on_error: Callable[[OutgoingError], None] = lambda error: None
        """Called with what breaks the reading, before it is raised."""
        self._stream = stream

    async def chunks(self, max_bytes: int) -> AsyncIterator[bytes]:
        """The decoded body in pieces.

        Raises:
            AnswerTooLarge: it has more than `max_bytes`; what came before has been handed out.
            AnswerMalformed: its content encoding is broken, or none that was asked for.
            Unreachable, TimedOut: the connection broke or stalled.
        """
        try:
            async for piece in self._decoded(max_bytes):
                yield piece
        except OutgoingError as error:
            self.on_error(error)
            raise

    async def read(self, max_bytes: int) -> bytes:
        """The whole decoded body. Raises as `chunks` does."""
        return b"".join([piece async for piece in self.chunks(max_bytes)])

    async def _decoded(self, max_bytes: int) -> AsyncIterator[bytes]:
        announced = self.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:18]) > max_bytes:
            raise AnswerTooLarge(f"the answer has {announced[:18]} bytes; at most {max_bytes} are taken")
        decoder = _decoder(self.headers.get("content-encoding", ""))
        left = max_bytes
        taken, begun = 0, asyncio.get_running_loop().time()
        with _translated():
            async for raw in self._stream:
                taken += len(raw)
                elapsed = asyncio.get_running_loop().time() - begun
                if elapsed > SLOW_SECONDS and taken < elapsed * SLOWEST:
                    raise TimedOut(f"the answer is too slow: {taken} bytes in {elapsed:.0f} s")
                for piece in decoder.decode(raw, left):
                    left -= len(piece)
                    if left < 0:
                        raise AnswerTooLarge(f"the answer has more than {max_bytes} bytes")
                    yield piece
            decoder.finish()


class HttpClient:
    """Makes requests.

    Args:
        resolver: names to addresses.
        policy: which addresses may be connected to.
        tls: the certificates.
    """

    def __init__(self, resolver: Resolver, policy: AddressPolicy, tls: TlsClient) -> None:
        self._resolver = resolver
        self._policy = policy
        self._tls = tls
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._open = 0
        self._idle: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def request(
        self,
        method: str,
        target: Target,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Content = None,
        timeout: float,
        max_bytes: int,
    ) -> Answer:
        """Make a request and read its whole answer, whatever its status.

        Args:
            path: path and query, percent-encoded.
            timeout: seconds for everything together.
            max_bytes: the largest body that is taken.

        Raises:
            Unreachable, TimedOut, AnswerTooLarge, AnswerMalformed.
        """
        async with self.stream(method, target, path, headers=headers, content=content, timeout=timeout) as answer:
            return Answer(answer.status, answer.headers, await answer.read(max_bytes))

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout: float,
        max_bytes: int,
        max_redirects: int = 0,
    ) -> Answer:
        """Make a request to a URL, following redirects (of GET, and never from https to http).

        Raises:
            Unreachable, TimedOut, AnswerTooLarge, AnswerMalformed.
        """
        try:
            async with asyncio.timeout(timeout):
                for _ in range(max_redirects + 1):
                    target, path = target_of_url(url)
                    answer = await self.request(
                        method, target, path, headers=headers, content=content, timeout=timeout, max_bytes=max_bytes
                    )
                    location = answer.headers.get("location")
                    if answer.status not in _REDIRECTS or not location or not max_redirects:
                        return answer
                    moved = urljoin(url, location)
                    if target.scheme == "https" and not moved.startswith("https://"):
                        raise AnswerMalformed(f"{url} redirects from https to something else")
                    url = moved
        except TimeoutError as error:
            raise TimedOut(f"no answer within {timeout:g} s") from error
        except ValueError as error:  # urljoin, of a hostile Location
            raise AnswerMalformed(f"a redirect is malformed: {error}") from error
        raise AnswerMalformed(f"more than {max_redirects} redirects")

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        target: Target,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Content = None,
        timeout: float,
    ) -> AsyncIterator[StreamedAnswer]:
        """Make a request whose answer is read piece by piece inside the `async with`.

        Args:
            timeout: seconds for everything together, the reading included.

        Raises:
            Unreachable, TimedOut.
        """
        try:
            async with asyncio.timeout(timeout), self._turn(target):
                response = await self._send(method, target, path, headers or {}, content)
                try:
                    yield StreamedAnswer(response.status, _headers(response), _body(response))
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise TimedOut(f"no whole answer from {target.host_header} within {timeout:g} s") from error

    async def close(self) -> None:
        """Close all connections."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.aclose()
        await asyncio.gather(*self._closing)

    async def _send(
        self, method: str, target: Target, path: str, headers: Mapping[str, str], content: Content
    ) -> httpcore.Response:
        import httpcore

        all_headers = {
            "Host": target.host_header,
            "User-Agent": f"{NAME}/{VERSION}",
            "Accept-Encoding": "gzip",
            **headers,
        }
        if isinstance(content, bytes):
            all_headers["Content-Length"] = str(len(content))
        elif content is not None and "Content-Length" not in all_headers:
            all_headers["Transfer-Encoding"] = "chunked"
        url = httpcore.URL(
            scheme=target.scheme.encode("ascii"),
            host=target.pool_key().encode("ascii"),
            port=1,
            target=path.encode("ascii"),
        )
        request = httpcore.Request(
            method,
            url,
            headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in all_headers.items()],
            content=content,
            extensions={
                "sni_hostname": target.tls_name,
                "timeout": {
                    "connect": CONNECT_SECONDS,
                    "read": STALL_SECONDS,
                    "write": STALL_SECONDS,
                    "pool": STALL_SECONDS,
                },
            },
        )
        with _translated():
            try:
                return await self._connections().handle_async_request(request)
            except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError):
                # A kept connection that the other side has just closed looks like this. Once more, on a new one,
                # where asking twice does no harm.
                if method not in ("GET", "PUT", "HEAD") or not (content is None or isinstance(content, bytes)):
                    raise
            return await self._connections().handle_async_request(request)

    def _connections(self) -> httpcore.AsyncConnectionPool:
        if self._pool is None:
            import httpcore

            from tinyserver.outgoing.network import Network

            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=self._tls.context(),
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_IDLE_CONNECTIONS,
                keepalive_expiry=IDLE_SECONDS,
                network_backend=Network(self._resolver, self._policy, self._tls),
            )
        return self._pool

    @contextlib.asynccontextmanager
    async def _turn(self, target: Target) -> AsyncIterator[None]:
        """A place among the few requests that one target gets at once."""
        key = target.pool_key()
        turns = self._turns.get(key)
        if turns is None:
            turns = self._turns[key] = asyncio.Semaphore(MAX_CONNECTIONS_PER_TARGET)
        self._open += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        try:
            async with turns:
                yield
        finally:
            self._open -= 1
            if not self._open:
                self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._nothing_to_do)

    def _nothing_to_do(self) -> None:
        self._idle = None
        pool, self._pool = self._pool, None
        if pool is not None:
            closing = asyncio.ensure_future(pool.aclose())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def _headers(response: httpcore.Response) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _body(response: httpcore.Response) -> AsyncIterable[bytes]:
    return response.aiter_stream()


class _Identity:
    def decode(self, raw: bytes, left: int) -> list[bytes]:
        return [raw]

    def finish(self) -> None:
        """Any end is a good one: the length is HTTP's affair."""


class _Gunzip:
    """Gzip whose output is bounded while it is made: a few bytes may stand for a gigabyte."""

    def __init__(self) -> None:
        self._decompress = zlib.decompressobj(_GZIP)

    def decode(self, raw: bytes, left: int) -> list[bytes]:
        try:
            piece = self._decompress.decompress(raw, left + 1)
        except zlib.error as error:
            raise AnswerMalformed(f"the answer is no gzip: {error}") from error
        return [piece] if piece else []

    def finish(self) -> None:
        if not self._decompress.eof:
            raise AnswerMalformed("the gzip of the answer ends too soon")


def _decoder(encoding: str) -> _Identity | _Gunzip:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return _Identity()
    if encoding in ("gzip", "x-gzip"):
        return _Gunzip()
    raise AnswerMalformed(f"the answer has the content encoding {encoding[:40]!r}, which was not asked for")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """httpcore's errors in our words."""
    import httpcore

    try:
        yield
    except OutgoingError:
        raise
    except httpcore.TimeoutException as error:
        raise TimedOut(str(error) or "no answer in time") from error
    except httpcore.ProtocolError as error:
        if "disconnected" in str(error):
            raise Unreachable(str(error)) from error
        raise AnswerMalformed(f"the answer is no HTTP: {error}") from error
    except (httpcore.NetworkError, httpcore.ProxyError, OSError) as error:
        raise Unreachable(str(error) or "the connection broke") from error
