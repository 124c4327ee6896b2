"""Schema and migrations: each version is a folder of .sql files, applied in one transaction.

`NNNN_name/` holds one file per aggregate; they run in alphabetical order. The version that a database has
stands in SQLite's `user_version`, stamped in the same transaction as the tables.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from pathlib import Path

from tinyserver.storage.errors import DatabaseTooNew

_FOLDER = re.compile(r"^(\d{4})_[a-z0-9_]+$")


def versions() -> list[tuple[int, Path]]:
    """All versions that this program knows, oldest first, each with its folder of .sql files."""
    found = []
    # Not importlib.resources, whose import costs more memory than all migrations.
    for entry in Path(__file__).parent.iterdir():
        match = _FOLDER.match(entry.name)
        if match and entry.is_dir():
            found.append((int(match[1]), entry))
    return sorted(found, key=lambda pair: pair[0])


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to the newest version.

    Raises:
        DatabaseTooNew: it is newer than this program; it is left untouched.
    """
    current = int(connection.execute("PRAGMA user_version").fetchone()[0])
    known = versions()
    newest = known[-1][0]
    if current > newest:
        raise DatabaseTooNew(
            f"the database has schema version {current}, this tinyserver knows up to {newest}: "
            "install the newer tinyserver again, or restore a backup made by this one"
        )
    if current == newest:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for version, folder in known:
            if version <= current:
                continue
            for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
                if file.name.endswith(".sql"):
                    for statement in _statements(file.read_text("utf-8")):
                        connection.execute(statement)
        if current == 0:
            connection.execute("INSERT INTO secrets VALUES ('trie', ?)", (secrets.token_bytes(16),))
        connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """The statements of a script (`executescript` would commit the open transaction)."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
