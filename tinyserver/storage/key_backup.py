"""Server-side key backups: versions, and the sessions that they keep.

spec: client-server-api#server-side-key-backups
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyserver.storage import names
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class BackupRow:
    """One version of a user's backup: `nid` is its number here, `auth_data` a JSON object."""

    nid: int
    version: int
    algorithm: str
    auth_data: bytes
    etag: int
    count: int
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class SessionRow:
    """The backed up key of one session: `session_data` is a JSON object."""

    room_id: str
    session_id: str
    first_message_index: int
    forwarded_count: int
    is_verified: bool
    session_data: bytes


_COLUMNS = "nid, version, algorithm, auth_data, etag, count, deleted"


def _backup(row: tuple[int, int, str, bytes, int, int, int] | None) -> BackupRow | None:
    return None if row is None else BackupRow(*row[:6], is_deleted=bool(row[6]))


def latest(tx: ReadTransaction, user: int) -> BackupRow | None:
    """The newest backup of a user that is not deleted, or None."""
    return _backup(
        tx.row(
            f"SELECT {_COLUMNS} FROM key_backups WHERE user = ? AND deleted = 0 ORDER BY version DESC LIMIT 1", (user,)
        )
    )


def get(tx: ReadTransaction, user: int, version: int) -> BackupRow | None:
    """A version of a user's backup, deleted ones included, or None."""
    return _backup(tx.row(f"SELECT {_COLUMNS} FROM key_backups WHERE user = ? AND version = ?", (user, version)))


def create(tx: WriteTransaction, user: int, algorithm: str, auth_data: bytes) -> int:
    """Begin a new backup; its version, which the user never had before."""
    version = 1 + int(tx.value("SELECT max(version) FROM key_backups WHERE user = ?", (user,)) or 0)
    tx.execute(
        "INSERT INTO key_backups (user, version, algorithm, auth_data) VALUES (?, ?, ?, ?)",
        (user, version, algorithm, auth_data),
    )
    return version


def set_auth_data(tx: WriteTransaction, backup: int, auth_data: bytes) -> None:
    """Replace the algorithm's data of a backup (by number)."""
    tx.execute("UPDATE key_backups SET auth_data = ? WHERE nid = ?", (auth_data, backup))


def mark_deleted(tx: WriteTransaction, backup: int) -> None:
    """Hide a backup (by number) for ever; its sessions are deleted by `purge`."""
    tx.execute("UPDATE key_backups SET deleted = 1, auth_data = x'7b7d', count = 0 WHERE nid = ?", (backup,))


def purge(tx: WriteTransaction, user: int, limit: int) -> bool:
    """Delete sessions of the user's deleted backups, no more than `limit`; whether there are more."""
    for (backup,) in tx.rows("SELECT nid FROM key_backups WHERE user = ? AND deleted = 1", (user,)):
        end = tx.row(
            "SELECT room, session FROM backed_up_sessions WHERE backup = ? ORDER BY room, session LIMIT 1 OFFSET ?",
            (backup, limit),
        )
        if end is not None:
            tx.execute("DELETE FROM backed_up_sessions WHERE backup = ? AND (room, session) < (?, ?)", (backup, *end))
            return True
        limit -= tx.execute("DELETE FROM backed_up_sessions WHERE backup = ?", (backup,)).rowcount
    return False


def store(tx: WriteTransaction, backup: int, sessions: Sequence[SessionRow]) -> None:
    """Keep sessions in a backup (by number); one that is there already is only replaced by a better one: verified
    rather than not, then with a lower first index, then forwarded less often."""
    rows = [
        (
            backup,
            names.intern(tx, row.room_id),
            row.session_id,
            row.first_message_index,
            row.forwarded_count,
            int(row.is_verified),
            row.session_data,
        )
        for row in sessions
    ]
    changed = tx.executemany(
        "UPDATE backed_up_sessions SET first_message_index = ?4, forwarded_count = ?5, is_verified = ?6, "
        "session_data = ?7 WHERE backup = ?1 AND room = ?2 AND session = ?3 "
        "AND (?6, first_message_index, forwarded_count) > (is_verified, ?4, ?5)",
        rows,
    ).rowcount
    added = tx.executemany(
        "INSERT OR IGNORE INTO backed_up_sessions (backup, room, session, first_message_index, forwarded_count, "
        "is_verified, session_data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        rows,
    ).rowcount
    if changed + added > 0:
        tx.execute("UPDATE key_backups SET etag = etag + 1, count = count + ? WHERE nid = ?", (max(added, 0), backup))


def session(tx: ReadTransaction, backup: int, room_id: str, session_id: str) -> SessionRow | None:
    """The key of one session, or None."""
    room = names.find(tx, room_id)
    row = tx.row(
        "SELECT first_message_index, forwarded_count, is_verified, session_data FROM backed_up_sessions "
        "WHERE backup = ? AND room = ? AND session = ?",
        (backup, room, session_id),
    )
    return None if row is None else SessionRow(room_id, session_id, row[0], row[1], bool(row[2]), row[3])


def sessions_after(
    tx: ReadTransaction, backup: int, after: tuple[int, str], room: int | None, limit: int
) -> tuple[list[SessionRow], tuple[int, str]]:
    """Some of the sessions of a backup, room by room.

    Args:
        after: where the last call ended; (0, "") to begin.
        room: only those of one room (the number of its ID's name).

    Returns:
        At most `limit` sessions, and where to go on.
    """
    if room is None:
        where, parameters = "(room, session) > (?, ?)", (backup, *after, limit)
    else:
        where, parameters = "room = ? AND session > ?", (backup, room, after[1], limit)
    rows = tx.rows(
        "SELECT room, session, first_message_index, forwarded_count, is_verified, session_data "
        f"FROM backed_up_sessions WHERE backup = ? AND {where} ORDER BY room, session LIMIT ?",
        parameters,
    )
    found = [SessionRow(names.text(tx, row[0]), row[1], row[2], row[3], bool(row[4]), row[5]) for row in rows]
    return found, (rows[-1][0], rows[-1][1]) if rows else after


def remove(tx: WriteTransaction, backup: int, room_id: str | None, session_id: str | None) -> None:
    """Delete the key of one session, those of a room, or all of a backup (by number)."""
    where: str = "backup = ?"
    parameters: list[int | str] = [backup]
    if room_id is not None:
        where += " AND room = ?"
        parameters.append(names.find(tx, room_id) or 0)
    if session_id is not None:
        where += " AND session = ?"
        parameters.append(session_id)
    removed = tx.execute(f"DELETE FROM backed_up_sessions WHERE {where}", parameters).rowcount
    if removed > 0:
        tx.execute("UPDATE key_backups SET etag = etag + 1, count = count - ? WHERE nid = ?", (removed, backup))
