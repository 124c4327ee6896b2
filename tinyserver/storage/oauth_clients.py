"""Clients that registered themselves for signing in with a web browser."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A client; `nid` is the number by which devices name it, `metadata` JSON, `registered` in ms."""

    nid: int
    client_id: str
    metadata: str
    registered: int


def find(tx: ReadTransaction, client_id: str) -> ClientRow | None:
    """A client by its ID, or None."""
    row = tx.row("SELECT nid, client_id, metadata, registered FROM oauth_clients WHERE client_id = ?", (client_id,))
    return None if row is None else ClientRow(*row)


def get(tx: ReadTransaction, nid: int) -> ClientRow | None:
    """A client by its number, or None."""
    row = tx.row("SELECT nid, client_id, metadata, registered FROM oauth_clients WHERE nid = ?", (nid,))
    return None if row is None else ClientRow(*row)


def add(tx: WriteTransaction, client_id: str, metadata: str, now: int) -> None:
    """Store a client that is not there yet."""
    tx.execute(
        "INSERT INTO oauth_clients (client_id, metadata, registered) VALUES (?, ?, ?)", (client_id, metadata, now)
    )


def renew(tx: WriteTransaction, nid: int, now: int) -> None:
    """A client that is there has registered again."""
    tx.execute("UPDATE oauth_clients SET registered = ? WHERE nid = ?", (now, nid))


def count(tx: ReadTransaction) -> int:
    """How many there are."""
    return int(tx.value("SELECT count(*) FROM oauth_clients"))


def drop_unused(tx: WriteTransaction, *, older_than: int, now: int, at_most: int) -> int:
    """Look at the oldest clients and drop those that no device uses; the others count as registered now.

    Args:
        older_than: in ms; younger ones are not looked at.
        at_most: how many are looked at.

    Returns:
        How many were dropped.
    """
    dropped = 0
    oldest = tx.rows(
        "SELECT nid FROM oauth_clients WHERE registered < ? ORDER BY registered LIMIT ?", (older_than, at_most)
    )
    for (nid,) in oldest:
        if tx.row("SELECT 1 FROM devices WHERE oauth_client = ? LIMIT 1", (nid,)) is None:
            tx.execute("DELETE FROM oauth_clients WHERE nid = ?", (nid,))
            dropped += 1
        else:
            tx.execute("UPDATE oauth_clients SET registered = ? WHERE nid = ?", (now, nid))
    return dropped
