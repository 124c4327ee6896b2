"""What is wanted of pictures, and the process that looks at them (`picture_worker`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyserver.media.worker_process import WorkerDied, WorkerProcess


class WorkFailed(Exception):
    """The picture cannot be worked on.

    Args:
        too_large: it has more pixels, or takes more memory or time, than is allowed.
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


@dataclass(frozen=True, slots=True)
class Measured:
    """What a picture is."""

    content_type: str
    width: int
    height: int


class Workshop:
    """Has pictures worked on.

    Args:
        max_pixels: of a picture; larger ones are not decoded.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._process = WorkerProcess("tinyserver.media.picture_worker")

    async def make(self, source: Path, target: Path, size: Size) -> Made:
        """Make a thumbnail of the picture `source` in the file `target`.

        Raises:
            WorkFailed: it cannot be made.
            LimitExceeded: too many wait already.
        """
        answer = await self._ask({"source": str(source), "target": str(target), **asdict(size)})
        return Made(answer.get("type") or answer["original"], "original" in answer)

    async def measure(self, source: Path) -> Measured:
        """What kind of picture a file is, and how large. Raises WorkFailed and LimitExceeded."""
        answer = await self._ask({"source": str(source)})
        return Measured(answer["type"], answer["width"], answer["height"])

    async def close(self) -> None:
        """End the process."""
        await self._process.close()

    async def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = await self._process.ask({**order, "max_pixels": self._max_pixels})
        except WorkerDied as error:
            raise WorkFailed("the picture takes too much time or memory", too_large=True) from error
        if "error" in answer:
            raise WorkFailed(answer["error"], too_large=answer["error"] == "too large")
        return answer
