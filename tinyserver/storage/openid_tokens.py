"""Tokens by which users prove to other services who they are."""

from __future__ import annotations

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def add(tx: WriteTransaction, digest: bytes, user: int, expires: int, now: int) -> None:
    """Keep a token of a user (a nid) until it expires (ms since 1970); those that have expired go."""
    tx.execute("DELETE FROM openid_tokens WHERE expires <= ?", (now,))
    tx.execute("INSERT INTO openid_tokens (digest, user, expires) VALUES (?, ?, ?)", (digest, user, expires))


def user_of(tx: ReadTransaction, digest: bytes, now: int) -> int | None:
    """Whose token it is (a nid), None if there is no such token that is valid at a time (ms since 1970)."""
    user: int | None = tx.value("SELECT user FROM openid_tokens WHERE digest = ? AND expires > ?", (digest, now))
    return user
