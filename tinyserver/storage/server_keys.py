"""Signing keys of other servers, and their lists of keys as they signed them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class ServerKeyRow:
    """A key (32 bytes). `valid_until`: events up to this time may be signed with it; `expired`: when the server
    stopped to use it, or None; `fetched`: when we heard of it last. All in ms since 1970."""

    key_id: str
    public_key: bytes
    valid_until: int
    expired: int | None
    fetched: int


@dataclass(frozen=True, slots=True)
class KeyDocumentRow:
    """A signed list of keys, the text of a JSON object."""

    document: str
    valid_until: int
    fetched: int


def of_server(tx: ReadTransaction, server: str) -> list[ServerKeyRow]:
    """All keys that are known of a server."""
    rows = tx.rows(
        "SELECT key_id, public_key, valid_until, expired, fetched FROM server_keys WHERE server = ?", (server,)
    )
    return [ServerKeyRow(*row) for row in rows]


def put(tx: WriteTransaction, server: str, keys: Iterable[ServerKeyRow]) -> None:
    """Store keys; what was known under the same IDs is replaced."""
    tx.executemany(
        "INSERT INTO server_keys VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (server, key_id) DO UPDATE SET "
        "public_key = excluded.public_key, valid_until = excluded.valid_until, expired = excluded.expired, "
        "fetched = excluded.fetched",
        [(server, key.key_id, key.public_key, key.valid_until, key.expired, key.fetched) for key in keys],
    )


def document(tx: ReadTransaction, server: str) -> KeyDocumentRow | None:
    """The last list of keys of a server, or None."""
    row = tx.row("SELECT document, valid_until, fetched FROM server_key_documents WHERE server = ?", (server,))
    return None if row is None else KeyDocumentRow(*row)


def put_document(tx: WriteTransaction, server: str, row: KeyDocumentRow) -> None:
    """Store the last list of keys of a server."""
    tx.execute(
        "INSERT INTO server_key_documents VALUES (?, ?, ?, ?) ON CONFLICT (server) DO UPDATE SET "
        "document = excluded.document, valid_until = excluded.valid_until, fetched = excluded.fetched",
        (server, row.document, row.valid_until, row.fetched),
    )


def forget_oldest(tx: WriteTransaction, keep: int) -> None:
    """Forget the keys of the servers that were heard of longest ago, beyond the number to keep."""
    oldest = tx.rows(
        "SELECT server FROM server_key_documents ORDER BY fetched DESC LIMIT -1 OFFSET ?",
        (keep,),
    )
    tx.executemany("DELETE FROM server_keys WHERE server = ?", oldest)
    tx.executemany("DELETE FROM server_key_documents WHERE server = ?", oldest)
