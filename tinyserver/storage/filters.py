"""Filters that clients uploaded."""

from __future__ import annotations

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def get(tx: ReadTransaction, user: int, number: int) -> bytes | None:
    """A user's filter (a JSON object in UTF-8) by its number, or None."""
    content: bytes | None = tx.value("SELECT content FROM filters WHERE user = ? AND number = ?", (user, number))
    return content


def find(tx: ReadTransaction, user: int, content: bytes) -> int | None:
    """The number of a filter with just this content, or None."""
    number: int | None = tx.value("SELECT number FROM filters WHERE user = ? AND content = ?", (user, content))
    return number


def count(tx: ReadTransaction, user: int) -> int:
    """How many filters a user has."""
    return int(tx.value("SELECT count(*) FROM filters WHERE user = ?", (user,)))


def add(tx: WriteTransaction, user: int, content: bytes) -> int:
    """Store a filter; returns its number."""
    number = int(tx.value("SELECT coalesce(max(number), 0) + 1 FROM filters WHERE user = ?", (user,)))
    tx.execute("INSERT INTO filters (user, number, content) VALUES (?, ?, ?)", (user, number, content))
    return number


def remove_all(tx: WriteTransaction, user: int) -> None:
    """Erase all filters of a user."""
    tx.execute("DELETE FROM filters WHERE user = ?", (user,))
