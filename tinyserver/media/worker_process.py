"""A program in a process of its own that does one thing at a time: what strangers send is decoded there.

It is started when there is work, and let go when there has been none for a while. Each order and each answer is a JSON
object on a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

from tinyserver.protocol.errors import LimitExceeded

ORDER_SECONDS = 30.0
"""An order that takes longer is given up."""
IDLE_SECONDS = 20.0
MAX_ANSWER = 1024 * 1024
MAX_WAITING = 50
"""Orders that may wait for their turn."""


class WorkerDied(Exception):
    """The program took too long, or ended: it met something that it could not stand."""


class _Ended(WorkerDied):
    """The program ended without an answer."""


class WorkerProcess:
    """Has orders carried out, one after the other.

    Args:
        module: the program, as for `python -m`.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """The answer to an order.

        Raises:
            WorkerDied: there is none.
            LimitExceeded: too many wait already.
        """
        if self._waiting >= MAX_WAITING:
            raise LimitExceeded(2000, "The server has many pictures to look at; try again")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._ask(order)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End the process."""
        async with self._turn:
            await self._end()

    async def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        if self._idle is not None:
            self._idle.cancel()
        was_there = self._process is not None
        try:
            return await self._try(order)
        except _Ended:
            if not was_there:
                raise
        # It may have been ended while it had nothing to do, as by a system that is short of memory.
        return await self._try(order)

    async def _try(self, order: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] | None = None
        try:
            async with asyncio.timeout(ORDER_SECONDS):
                line = await self._exchange(json.dumps(order).encode() + b"\n")
            answer = json.loads(line)
        except ConnectionError as error:
            raise _Ended(f"{self._module} has ended") from error
        except (TimeoutError, OSError, ValueError) as error:
            raise WorkerDied(f"{self._module} gave no answer") from error
        finally:
            if answer is None:  # also if cancelled: its next answer would be to another question
                await self._end()
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._rest)
        return answer

    async def _exchange(self, line: bytes) -> bytes:
        process = self._process
        if process is None:
            process = self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=MAX_ANSWER,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line)
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            raise ConnectionResetError
        return line

    def _rest(self) -> None:
        """Let the process go, unless it has work: it ends when its input does."""
        if self._process is not None and not self._turn.locked():
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None

    async def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
