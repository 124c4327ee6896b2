"""The bytes of files, named by their digest. An object store can take the place of the directory used here."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tinyserver.storage.errors import translate

BLOCK = 256 * 1024
"""Bytes that are read or written at a time: one change to a thread for each."""
RESERVE = 100 * 1024 * 1024
"""Bytes that are left free on the disk: messages must go on when there is no more space for files."""

Result = TypeVar("Result")


class Incoming(Protocol):
    """Content that has been written down and is not kept yet."""

    digest: bytes
    size: int
    path: Path
    """The file that it lies in until it is kept."""

    async def keep(self) -> None:
        """Make it a blob for good: afterwards it survives a power cut. Raises StorageError."""
        ...

    async def discard(self) -> None:
        """Forget it, unless it was kept."""
        ...


class Blob(Protocol):
    """Content that is there."""

    size: int

    def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces. Raises StorageError."""
        ...

    async def close(self) -> None:
        """Nobody reads it any more."""
        ...


class Blobs(Protocol):
    """Where content is kept."""

    async def receive(self, pieces: AsyncIterable[bytes]) -> Incoming:
        """Write down content that comes in pieces. Raises StorageError, and what the pieces raise."""
        ...

    async def open(self, digest: bytes) -> Blob | None:
        """The content with a digest, None if it is not there. Raises StorageError."""
        ...

    async def remove(self, digest: bytes) -> None:
        """Forget content; nothing happens if it is not there. Raises StorageError."""
        ...

    def as_file(self, digest: bytes) -> contextlib.AbstractAsyncContextManager[Path]:
        """The content as a local file, for as long as it is needed."""
        ...

    def new_file(self) -> Path:
        """A path at which another program can write a file that is then received with `adopt`."""
        ...

    async def adopt(self, path: Path) -> Incoming:
        """Receive what another program wrote at a path from `new_file`. Raises StorageError."""
        ...

    async def free_bytes(self) -> int:
        """How much more can be kept."""
        ...


class DirectoryBlobs:
    """Blobs as files: `ab/cdef...` for a digest that begins so, and `incoming/` for what is still being received.

    Args:
        directory: where; made with the first file.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming = directory / "incoming"
        self._threads: ThreadPoolExecutor | None = None

    async def clear_incoming(self) -> None:
        """Remove what an earlier run of the server was receiving when it ended."""
        await self._run(lambda: shutil.rmtree(self._incoming, ignore_errors=True))

    async def receive(self, pieces: AsyncIterable[bytes]) -> _IncomingFile:
        """See `Blobs.receive`."""
        incoming = _IncomingFile(self._incoming / secrets.token_hex(16), self._path, self._run)
        try:
            await incoming.write_all(pieces)
        except BaseException:
            await incoming.discard()
            raise
        return incoming

    async def open(self, digest: bytes) -> _File | None:
        """See `Blobs.open`."""
        try:
            descriptor, size = await self._run(lambda: _open(self._path(digest)))
        except FileNotFoundError:
            return None
        return _File(descriptor, size, self._run)

    async def remove(self, digest: bytes) -> None:
        """See `Blobs.remove`."""
        await self._run(lambda: self._path(digest).unlink(missing_ok=True))

    @contextlib.asynccontextmanager
    async def as_file(self, digest: bytes) -> AsyncIterator[Path]:
        """See `Blobs.as_file`."""
        yield self._path(digest)

    def new_file(self) -> Path:
        """See `Blobs.new_file`."""
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._incoming / secrets.token_hex(16)

    async def adopt(self, path: Path) -> _IncomingFile:
        """See `Blobs.adopt`."""
        incoming = _IncomingFile(path, self._path, self._run)
        try:
            await self._run(incoming.read_back)
        except BaseException:
            await incoming.discard()
            raise
        return incoming

    async def free_bytes(self) -> int:
        """See `Blobs.free_bytes`."""

        def free() -> int:
            existing = self._directory if self._directory.exists() else self._directory.parent
            return max(shutil.disk_usage(existing).free - RESERVE, 0)

        return await self._run(free)

    def close(self) -> None:
        """Nothing is asked for any more."""
        if self._threads is not None:
            self._threads.shutdown()

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._directory / name[:2] / name[2:]

    async def _run(self, work: Callable[[], Result]) -> Result:
        """On a thread: the disk may take its time. Raises StorageError."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(2, "media")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise translate(error, self._directory) from error


_Run = Callable[[Callable[[], Any]], Any]


class _IncomingFile:
    """A file that is being received."""

    def __init__(self, path: Path, final_path: Callable[[bytes], Path], run: _Run) -> None:
        self.digest = b""
        self.size = 0
        self.path = path
        self._final_path = final_path
        self._run = run
        self._hash = hashlib.sha256()
        self._kept = False

    async def write_all(self, pieces: AsyncIterable[bytes]) -> None:
        descriptor: int = await self._run(self._create)
        try:
            waiting: list[bytes] = []
            length = 0
            async for piece in pieces:
                waiting.append(piece)
                length += len(piece)
                if length >= BLOCK:
                    await self._run(lambda block=waiting: self._write(descriptor, block))  # type: ignore[misc]
                    waiting, length = [], 0
            await self._run(lambda: self._write(descriptor, waiting))
            await self._run(lambda: os.fsync(descriptor))
        finally:
            await self._run(lambda: os.close(descriptor))
        self.digest = self._hash.digest()

    def read_back(self) -> None:
        with self.path.open("rb") as file:
            while block := file.read(BLOCK):
                self._hash.update(block)
                self.size += len(block)
            os.fsync(file.fileno())
        self.digest = self._hash.digest()

    async def keep(self) -> None:
        """See `Incoming.keep`."""
        await self._run(self._keep)
        self._kept = True

    async def discard(self) -> None:
        """See `Incoming.discard`."""
        if not self._kept:
            await self._run(lambda: self.path.unlink(missing_ok=True))

    def _create(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def _write(self, descriptor: int, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._hash.update(piece)
            self.size += len(piece)
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]

    def _keep(self) -> None:
        final = self._final_path(self.digest)
        if final.exists():
            self.path.unlink(missing_ok=True)
            return
        new_directory = not final.parent.exists()
        final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.rename(final)
        _sync_directory(final.parent)
        if new_directory:
            _sync_directory(final.parent.parent)


class _File:
    """A file that is being read."""

    def __init__(self, descriptor: int, size: int, run: _Run) -> None:
        self.size = size
        self._descriptor = descriptor
        self._run = run

    async def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """See `Blob.chunks`."""
        while start < stop:
            block: bytes = await self._run(lambda at=start: os.pread(self._descriptor, min(BLOCK, stop - at), at))  # type: ignore[misc]
            if not block:
                return
            start += len(block)
            yield block

    async def close(self) -> None:
        """See `Blob.close`."""
        os.close(self._descriptor)


def _open(path: Path) -> tuple[int, int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return descriptor, os.fstat(descriptor).st_size


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
