"""A copy of the database as it is at one moment, ready to take its place."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tinyserver.storage.errors import CorruptDatabase, translate

POSITIONS_AHEAD = 2**28
"""How far the copy's counter is ahead of the original's: beyond every position that the original gives out before it is
lost. Devices then ask the restored server only for what is behind it, and are told all of what comes afterwards."""


def take(database: Path, copy: Path) -> None:
    """Copy a database, which a server may be writing meanwhile, into a new file.

    One-time keys are left out: some of them may be given out before the copy is used, and none may be given out
    twice. Clients upload new ones.

    Raises:
        StorageError: it cannot be read or written, or is damaged.
    """
    try:
        with (
            closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            # In one go: whoever writes meanwhile goes on in the write-ahead log.
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
            with target:
                target.execute("UPDATE counters SET value = value + ? WHERE name = 'position'", (POSITIONS_AHEAD,))
                target.execute("DELETE FROM one_time_keys")
            found: str = target.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise CorruptDatabase(f"the database is damaged: {found}")
    except sqlite3.Error as error:
        raise translate(error, copy.parent) from error
