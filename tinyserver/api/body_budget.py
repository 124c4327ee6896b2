"""What the bodies of requests may hold of memory together: many who send large ones at a time cannot exhaust a small
machine. Who finds no room waits before its body is read, and is then told to come again later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tinyserver.freed_memory import expect_large, give_back
from tinyserver.protocol.errors import LimitExceeded

TOTAL = 16 * 1024 * 1024
"""Bytes of all bodies together; what is parsed from them takes a few times that."""
OF_ONE = TOTAL // 2
"""Bytes of the bodies from one address."""
FREE = 64 * 1024
"""Bodies up to so many bytes are taken in any case: the number of connections bounds them."""
PATIENCE = 10.0
RETRY_AFTER_MS = 5000


class BodyBudget:
    """Room for bodies, given out and taken back. One for all listeners. Lives on the event loop."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._total = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @contextlib.asynccontextmanager
    async def room(self, address: str, size: int) -> AsyncIterator[None]:
        """Hold room for a body while it is read and dealt with.

        Args:
            address: who sends it.
            size: bytes, at most `OF_ONE`.

        Raises:
            LimitExceeded: there is none within some seconds.
        """
        if size <= FREE:
            yield
            return
        try:
            async with asyncio.timeout(PATIENCE):
                while not self._fits(address, size):
                    await self._something_freed()
        except TimeoutError as error:
            raise LimitExceeded(RETRY_AFTER_MS) from error
        expect_large()
        self._hold(address, size)
        try:
            yield
        finally:
            self._hold(address, -size)
            if not self._total:
                asyncio.get_running_loop().call_soon(give_back)
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)

    async def _something_freed(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    def _fits(self, address: str, size: int) -> bool:
        return self._total + size <= TOTAL and self._held.get(address, 0) + size <= OF_ONE

    def _hold(self, address: str, size: int) -> None:
        self._total += size
        held = self._held.get(address, 0) + size
        if held:
            self._held[address] = held
        else:
            self._held.pop(address, None)
