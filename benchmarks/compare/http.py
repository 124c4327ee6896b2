"""A lean HTTP/1.1 client for one server: keep-alive connections, raw asyncio, httptools.

The load driver shares the machine with the server it measures, so a request must cost it next to nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
import orjson

REQUEST_TIMEOUT = 60.0


class RequestFailed(Exception):
    """The server answered with a status other than 200, or not at all."""


class _Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._chunks: list[bytes] = []
        self.reusable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(RequestFailed(f"connection lost: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        self.reusable = self.reusable and self._parser.should_keep_alive()
        body = b"".join(self._chunks)
        self._chunks.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), body))

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()


class Http:
    """Requests to one server on the loopback interface; connections are opened as needed and kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()

    async def request(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """The decoded JSON answer; `body` is encoded as JSON.

        Raises RequestFailed on any status other than 200, a lost connection, or after REQUEST_TIMEOUT.
        """
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                status, answer = await self._exchange(_encode(method, path, body, token))
        except TimeoutError:
            raise RequestFailed(f"{method} {path}: no answer in {REQUEST_TIMEOUT} s") from None
        except OSError as error:
            raise RequestFailed(f"{method} {path}: {error}") from error
        if status != 200:
            raise RequestFailed(f"{method} {path}: {status} {answer[:500].decode(errors='replace')}")
        return orjson.loads(answer)

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        connection = await self._connect()
        self._busy.add(connection)
        try:
            answer = await connection.exchange(request)
        except BaseException:
            connection.close()
            raise
        finally:
            self._busy.discard(connection)
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    async def _connect(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection

    def close(self) -> None:
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()


def _encode(method: str, path: str, body: Any, token: str | None) -> bytes:
    payload = b"" if body is None else orjson.dumps(body)
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if token is not None:
        head += f"Authorization: Bearer {token}\r\n"
    if method != "GET":
        head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
    return head.encode() + b"\r\n" + payload
