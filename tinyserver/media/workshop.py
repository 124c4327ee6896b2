"""The process that decodes pictures: started when one comes, one order at a time, ended when none comes for a while."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyserver.protocol.errors import LimitExceeded

ORDER_SECONDS = 30.0
"""A picture that takes longer is given up."""
IDLE_SECONDS = 20.0
MAX_WAITING = 50
"""Orders that may wait for their turn."""


class WorkFailed(Exception):
    """The thumbnail cannot be made.

    Args:
        too_large: the picture has more pixels, or takes more memory, than is allowed.
    """

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


@dataclass(frozen=True, slots=True)
class Size:
    """What a thumbnail must at least be, in pixels, and how it gets there."""

    width: int
    height: int
    crop: bool
    animated: bool


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an order: a file of a content type, or the picture itself, which serves as it is."""

    content_type: str
    is_original: bool


class Workshop:
    """Has thumbnails made.

    Args:
        max_pixels: of a picture; larger ones are not decoded.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def make(self, source: Path, target: Path, size: Size) -> Made:
        """Make a thumbnail of the picture `source` in the file `target`.

        Raises:
            WorkFailed: it cannot be made.
            LimitExceeded: too many wait already.
        """
        if self._waiting >= MAX_WAITING:
            raise LimitExceeded(2000, "Many pictures are waiting for their thumbnails")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._make({"source": str(source), "target": str(target), **asdict(size)})
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End the process."""
        async with self._turn:
            await self._end()

    async def _make(self, order: dict[str, Any]) -> Made:
        if self._idle is not None:
            self._idle.cancel()
        try:
            async with asyncio.timeout(ORDER_SECONDS):
                answer = await self._ask({**order, "max_pixels": self._max_pixels})
        except TimeoutError as error:
            await self._end()
            raise WorkFailed("the picture takes too long") from error
        except BaseException:  # cancelled, or the process died: its next answer would be to another question
            await self._end()
            raise
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._rest)
        if "error" in answer:
            raise WorkFailed(answer["error"], too_large=answer["error"] == "too large")
        return Made(answer.get("type") or answer["original"], "original" in answer)

    async def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        if process is None:
            process = self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tinyserver.media.picture_worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
        except OSError:
            line = b""
        if not line:
            await self._end()
            raise WorkFailed("the picture cannot be decoded within the memory there is", too_large=True)
        answer: dict[str, Any] = json.loads(line)
        return answer

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
