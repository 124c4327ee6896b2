"""Commands about the server itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tinyserver.administration.commands import Caller, Reply, command
from tinyserver.administration.rendering import listed, size
from tinyserver.data_directory import DataDirectory
from tinyserver.storage import accounts, media, rooms
from tinyserver.storage.database import Database
from tinyserver.version import NAME, VERSION


class ServerCommands:
    """The server: its version, and how it is doing.

    Args:
        db: what it stores.
        data: where it stores that.
        monotonic: seconds of a clock that only runs forward.
        started: when the server was started, by that clock.
    """

    def __init__(self, db: Database, data: DataDirectory, monotonic: Callable[[], float], started: float) -> None:
        self._db = db
        self._data = data
        self._monotonic = monotonic
        self._started = started

    @command("server version", "show the version of the server")
    async def version(self, caller: Caller) -> Reply:
        """Name and version."""
        return Reply(f"{NAME} {VERSION}")

    @command("server stats", "show how much there is of what, and what the server needs")
    async def stats(self, caller: Caller) -> Reply:
        """Numbers of things, memory and disk space."""
        people, known_rooms, copies = await self._db.read(
            lambda tx: (accounts.count_people(tx), rooms.count(tx), media.bytes_of(tx, media.CACHE))
        )
        memory = _memory()
        facts = {
            "version": VERSION,
            "running for": _duration(self._monotonic() - self._started),
            "memory": None if memory is None else size(memory),
            "people": people,
            "rooms": known_rooms,
            "database": size(_size(self._data.database) + _size(self._data.database.with_name("tinyserver.db-wal"))),
            "copies and thumbnails": size(copies),
            "free on the disk": size(shutil.disk_usage(self._data.path).free),
        }
        return Reply(listed(facts))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _memory() -> int | None:
    """Bytes of memory that the process occupies, or None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {rest // 60} min"
