"""Access and refresh tokens, as hashes.

A refresh adds a row that names the one it came from in `replaces`. Both are valid until a token of the new one is
used: then the old one goes, so a client that never saw the answer to its refresh can repeat it.

spec: client-server-api#refreshing-access-tokens
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A pair of tokens. Times are ms since 1970, None is never; `can_refresh` is whether there is a refresh token."""

    nid: int
    user: int
    device: int
    access_expires: int | None
    can_refresh: bool
    refresh_expires: int | None
    replaces: int | None


_COLUMNS = "nid, user, device, access_expires, refresh_hash IS NOT NULL, refresh_expires, replaces"


def _from_row(row: tuple[int, int, int, int | None, int, int | None, int | None] | None) -> SessionRow | None:
    return None if row is None else SessionRow(row[0], row[1], row[2], row[3], bool(row[4]), row[5], row[6])


def of_access_token(tx: ReadTransaction, access_hash: bytes) -> SessionRow | None:
    """The session with the SHA-256 of an access token, or None."""
    return _from_row(tx.row(f"SELECT {_COLUMNS} FROM sessions WHERE access_hash = ?", (access_hash,)))


def of_refresh_token(tx: ReadTransaction, refresh_hash: bytes) -> SessionRow | None:
    """The session with the SHA-256 of a refresh token, or None."""
    return _from_row(tx.row(f"SELECT {_COLUMNS} FROM sessions WHERE refresh_hash = ?", (refresh_hash,)))


def add(
    tx: WriteTransaction,
    *,
    user: int,
    device: int,
    access_hash: bytes,
    access_expires: int | None,
    refresh_hash: bytes | None,
    refresh_expires: int | None,
    replaces: int | None = None,
) -> int:
    """Add a session; returns its number."""
    nid = tx.execute(
        "INSERT INTO sessions (user, device, access_hash, access_expires, refresh_hash, refresh_expires, replaces) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (user, device, access_hash, access_expires, refresh_hash, refresh_expires, replaces),
    ).lastrowid
    assert nid is not None
    return nid


def confirm(tx: WriteTransaction, session: SessionRow) -> None:
    """A token of the session was used: what it replaces goes, with whatever else was made from that."""
    tx.execute("DELETE FROM sessions WHERE device = ? AND nid <> ?", (session.device, session.nid))
    tx.execute("UPDATE sessions SET replaces = NULL WHERE nid = ?", (session.nid,))


def remove_unused(tx: WriteTransaction, session: SessionRow) -> None:
    """Drop what earlier refreshes of the session made and nobody used."""
    tx.execute("DELETE FROM sessions WHERE device = ? AND replaces = ?", (session.device, session.nid))


def remove_of_device(tx: WriteTransaction, device: int) -> None:
    """Drop all sessions of a device; the device stays."""
    tx.execute("DELETE FROM sessions WHERE device = ?", (device,))
