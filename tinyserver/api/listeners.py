"""Sockets: uvicorn's HTTP protocol on every configured address, without uvicorn's own main loop.

That loop wakes up ten times a second, takes over signals and drains one server only. Here an idle server sleeps, and
all listeners of the process stop together.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

from uvicorn.config import Config as UvicornConfig
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tinyserver.api.calls import AsgiApp
from tinyserver.config import Listener, parse_address

UNIX = "unix:"

_HEAD_SECONDS = 30.0  # for the head of a request to arrive
_HEAD_BYTES = 64 * 1024
_STALL_SECONDS = 60.0  # in which the other side must take so much of an answer that waits for it:
_STALL_BYTES = 16 * 1024
_IDLE_SECONDS = 75  # how long a connection may wait for its next request
_JOINED_BYTES = 64 * 1024  # a body of up to so many bytes is copied behind its head
_BACKLOG = 256


class ListenError(Exception):
    """An address cannot be listened at; the message says which, and why."""


class HttpListener:
    """One ``[[listen]]`` section at work.

    :param listener: its configuration; the address may also be ``unix:`` and the path of a socket file.
    :param app: the ASGI application that answers.
    """

    def __init__(self, listener: Listener, app: AsgiApp) -> None:
        self._listener = listener
        path = listener.address.removeprefix(UNIX)
        self._socket_file = Path(path) if path != listener.address else None
        self._tls = _tls_context(listener)
        self._state = _State()
        self._config = UvicornConfig(
            app,
            http=_GuardedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,  # it would write tokens
            proxy_headers=False,
            timeout_keep_alive=_IDLE_SECONDS,
            limit_concurrency=listener.max_connections,
        )
        self._config.load()
        self._servers: list[asyncio.Server] = []

    @property
    def url(self) -> str:
        """Where it listens, with the real port; "" before :meth:`open`."""
        if not self._servers:
            return ""
        if self._socket_file is not None:
            return self._listener.address
        host, port = self._servers[0].sockets[0].getsockname()[:2]
        return f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    async def open(self) -> None:
        """Accept connections from now on. Raises ListenError."""
        loop = asyncio.get_running_loop()
        try:
            if self._socket_file is not None:
                local = _unix_socket(self._socket_file)
                self._servers.append(await loop.create_unix_server(self._protocol, sock=local, backlog=_BACKLOG))
                return
            for opened in _sockets(self._listener.address):
                self._servers.append(
                    await loop.create_server(self._protocol, sock=opened, ssl=self._tls, backlog=_BACKLOG)
                )
        except OSError as error:
            raise ListenError(
                f"cannot listen at {self._listener.address}: {error.strerror or error}. "
                "Is another program (or another tinyserver) using this address?"
            ) from error

    def reload_certificate(self) -> None:
        """Read certificate and key again; new connections use them. Raises ListenError and keeps the old ones."""
        if self._tls is not None:
            _tls_context(self._listener)  # a broken file must not break the context in use
            _load_certificate(self._tls, self._listener)

    def stop_accepting(self) -> None:
        """Take no more connections, and close each one that there is after the request it is busy with."""
        for server in self._servers:
            server.close()
        if self._socket_file is not None:
            with contextlib.suppress(OSError):  # on a disk that has become read-only; the next start replaces it
                self._socket_file.unlink(missing_ok=True)
        for connection in list(self._state.connections):
            connection.shutdown()

    async def finish(self, seconds: float) -> None:
        """Wait until every request is answered and its connection closed; after ``seconds`` cancel what is left."""
        try:
            async with asyncio.timeout(seconds):
                await self._state.all_closed.wait()
        except TimeoutError:
            for task in list(self._state.tasks):
                task.cancel()
            await asyncio.gather(*self._state.tasks, return_exceptions=True)

    def _protocol(self) -> asyncio.Protocol:
        return _GuardedProtocol(self._config, self._state, {})


class _State(ServerState):
    """What uvicorn's connections of one listener share."""

    def __init__(self) -> None:
        self._date = (0, b"")
        super().__init__()
        self.connections = _Connections()
        self.all_closed = self.connections.all_closed

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The Date header, made once for each second in which something is answered."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode("ascii"))
        return [(b"date", self._date[1])]

    @default_headers.setter
    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """uvicorn's constructor sets an empty list."""


class _Connections(set[Any]):
    """A set that tells when its last connection has gone."""

    def __init__(self) -> None:
        super().__init__()
        self.all_closed = asyncio.Event()
        self.all_closed.set()

    def add(self, connection: Any) -> None:
        super().add(connection)
        self.all_closed.clear()

    def discard(self, connection: Any) -> None:
        super().discard(connection)
        if not self:
            self.all_closed.set()


class _GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit in bytes and in seconds for the head of a request, and one in seconds for an
    answer that is not taken.

    Without them, a client that never finishes its headers, or does not read, holds a connection and memory for ever.
    """

    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _untaken = 0
    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_deadline()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > _HEAD_BYTES:
            self.transport.close()
        elif self._in_head and self._deadline is None:
            self._start_deadline()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._untaken = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(_STALL_SECONDS, self._look_what_was_taken)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_stall()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self._end_stall()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, _OneWrite(cycle).send)

        super()._start_asgi_task(cycle, answer)

    def _look_what_was_taken(self) -> None:
        left = self.transport.get_write_buffer_size()
        if left > self._untaken - _STALL_BYTES:
            self.transport.abort()
            return
        self._untaken = left
        self._stalled = self.loop.call_later(_STALL_SECONDS, self._look_what_was_taken)

    def _end_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def _end_head(self) -> None:
        self._in_head, self._head_bytes = False, 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _OneWrite:
    """Sends the head of an answer together with its body: uvicorn would hand them to the kernel one by one, and a write
    to a socket costs as much as all the rest of answering a small request.

    :param cycle: uvicorn's request and answer; asked to write both, with this object in place of its transport.
    """

    __slots__ = ("_closing", "_cycle", "_head", "_written")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._head: Any = None
        self._written: list[bytes] = []
        self._closing = False

    async def send(self, message: Any) -> None:
        """An ASGI message of the application."""
        cycle = self._cycle
        if self._head is None and message["type"] == "http.response.start":
            self._head = message
            return
        head, self._head = self._head, ()
        if not head:
            await cycle.send(message)
            return
        if message.get("more_body") or len(message.get("body", b"")) > _JOINED_BYTES:
            await cycle.send(head)
            await cycle.send(message)
            return
        transport, cycle.transport = cycle.transport, self  # type: ignore[assignment]
        try:
            await cycle.send(head)
            await cycle.send(message)
        finally:
            cycle.transport = transport
        if self._written:
            transport.write(b"".join(self._written))
        if self._closing:
            transport.close()

    def write(self, data: bytes) -> None:
        """What the cycle writes."""
        self._written.append(data)

    def close(self) -> None:
        """The cycle closes the connection: after what was written."""
        self._closing = True

    def is_closing(self) -> bool:
        """Whether the cycle has closed the connection."""
        return self._closing


@contextlib.contextmanager
def unix_socket_address(path: Path) -> Iterator[str]:
    """An address to bind or connect to for a socket file whose path may be longer than the 107 bytes for addresses."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _unix_socket(path: Path) -> socket.socket:
    """A socket file that only its owner can open; one that an earlier process left behind is replaced."""
    path.unlink(missing_ok=True)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        with unix_socket_address(path) as address:
            opened.bind(address)
    except OSError:
        opened.close()
        raise
    finally:
        os.umask(mask)
    opened.listen(_BACKLOG)
    return opened


def _sockets(address: str) -> list[socket.socket]:
    """Bound sockets for an address; ``[::]`` takes IPv4 as well, a host name all of its addresses that can be had."""
    host, port = parse_address(address)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, _, _, _, where in dict.fromkeys(found):
        try:
            dual = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
            sockets.append(
                socket.create_server((str(where[0]), port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
            )
        except OSError as error:
            failure = error
    if failure is not None and (not sockets or failure.errno == errno.EADDRINUSE):
        for opened in sockets:
            opened.close()
        raise failure
    return sockets


def _tls_context(listener: Listener) -> ssl.SSLContext | None:
    if not listener.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_certificate(context, listener)
    return context


def _load_certificate(context: ssl.SSLContext, listener: Listener) -> None:
    try:
        context.load_cert_chain(listener.tls_certificate, listener.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ListenError(
            f"the certificate {listener.tls_certificate} with the key {listener.tls_key} cannot be used: {error}"
        ) from error
