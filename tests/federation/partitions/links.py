"""The ways between servers: TCP connections that can be cut, refused or held up while they are used."""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum

_PIECE = 16 * 1024


class Way(Enum):
    """What becomes of connections."""

    OPEN = "open"
    REFUSED = "refused"
    """New ones end at once, as do those that were there."""
    SILENT = "silent"
    """They stay, but nothing goes over them."""


class Link:
    """One direction: a port at which one server finds another. `breaks` counts the connections that were broken off."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._flows = asyncio.Event()
        self._flows.set()
        self._way = Way.OPEN
        self._open: set[asyncio.StreamWriter] = set()
        self._cut_after: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.breaks = 0
        self.port = 0

    async def __aenter__(self) -> Link:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        self.become(Way.REFUSED)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def become(self, way: Way) -> None:
        """Fail, or work again. What stood still in silence is broken off then, as by a router that starts again."""
        if way is Way.REFUSED or self._way is Way.SILENT:
            self.cut()
        self._way = way
        if way is Way.SILENT:
            self._flows.clear()
        else:
            self._flows.set()

    def cut(self) -> None:
        """Break off all connections."""
        self.breaks += len(self._open)
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    def cut_after(self, size: int) -> None:
        """Break off all connections when so many bytes more have come back: in the middle of an answer."""
        self._cut_after = size

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connect(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._way is Way.REFUSED:
            writer.transport.abort()
            return
        self._open.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            back, onward = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(onward)
            await asyncio.gather(self._pass_on(reader, onward, back=False), self._pass_on(back, writer, back=True))
        except OSError:
            pass
        finally:
            for each in (writer, onward):
                if each is not None:
                    self._open.discard(each)
                    each.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                await self._flows.wait()
                if back and self._cut_after is not None:
                    self._cut_after -= len(piece)
                    if self._cut_after < 0:
                        self._cut_after = None
                        self.cut()
                        return
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()
