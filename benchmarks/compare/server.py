"""What the benchmark needs of a homeserver: to be set up in a directory, started, stopped and looked at."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from . import processes
from .http import Http, RequestFailed

SERVER_NAME = "bench.test"
SHARED_SECRET = "benchmark-registration-secret"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0


class BenchmarkError(Exception):
    """Something without which there is nothing to measure failed."""


@dataclass
class Spent:
    """What the server used during a `with server.measure()` block; complete after the block."""

    wall: float = 0.0
    cpu: float = 0.0
    written: int = 0


@dataclass(frozen=True)
class Started:
    """How long it took from the start of the process to its first answer, and the CPU seconds until then."""

    wall: float
    cpu: float


class Server(ABC):
    """One homeserver with its own directory and port."""

    name: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.http = Http(self.port)
        self._process: asyncio.subprocess.Process | None = None

    @abstractmethod
    async def configure(self) -> None:
        """Write configuration and keys into the empty directory."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command that serves until SIGTERM."""

    async def start(self) -> Started:
        """Start the process and wait for its first answer; BenchmarkError if there is none in START_TIMEOUT."""
        began = time.perf_counter()
        with (self.directory / "output.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command(), cwd=self.directory, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        while True:
            try:
                await self.http.request("GET", "/_matrix/client/versions")
                return Started(time.perf_counter() - began, processes.usage(self.pid).cpu)
            except RequestFailed as error:
                if self._process.returncode is not None or time.perf_counter() - began > START_TIMEOUT:
                    output = (self.directory / "output.log").read_text(errors="replace")[-3000:]
                    raise BenchmarkError(f"{self.name} did not start ({error}):\n{output}") from None
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not end it in STOP_TIMEOUT."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        self.http.close()
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BenchmarkError(f"{self.name} does not run")
        return self._process.pid

    def memory(self) -> processes.Memory:
        return processes.memory(self.pid)

    @contextlib.contextmanager
    def measure(self) -> Iterator[Spent]:
        """What the block costs the server: `with server.measure() as spent: ...`, then `spent.cpu`."""
        spent = Spent()
        before, began = processes.usage(self.pid), time.perf_counter()
        yield spent
        spent.wall = time.perf_counter() - began
        used = processes.usage(self.pid).since(before)
        spent.cpu, spent.written = used.cpu, used.written

    async def database_bytes_at_rest(self) -> int:
        """Stop the server; size of all its SQLite files, their write-ahead logs folded in."""
        await self.stop()
        total = 0
        for path in self.data_dir.rglob("*"):
            if _is_sqlite(path):
                with contextlib.closing(sqlite3.connect(path)) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                total += path.stat().st_size
        return total


def _is_sqlite(path: Path) -> bool:
    magic = b"SQLite format 3"
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


async def run_command(*command: str, cwd: Path, timeout: float = 60.0) -> str:
    """Run a command to its end and return what it printed.

    BenchmarkError if it fails, TimeoutError if it takes longer than `timeout` seconds.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode(errors="replace")
    if process.returncode != 0:
        raise BenchmarkError(f"{' '.join(command)} failed with {process.returncode}:\n{text[-3000:]}")
    return text
