"""What accounts can be reached by elsewhere: mail addresses, in canonical form."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class ThreepidRow:
    """An address of an account; the times are ms since 1970."""

    medium: str
    address: str
    validated: int
    added: int


def of_user(tx: ReadTransaction, user: int) -> list[ThreepidRow]:
    """All addresses of a user (nid), the oldest first."""
    rows = tx.execute("SELECT medium, address, validated, added FROM threepids WHERE user = ?", (user,))
    return sorted((ThreepidRow(*row) for row in rows), key=lambda row: (row.added, row.address))


def user_of(tx: ReadTransaction, medium: str, address: str) -> int | None:
    """Whose address it is (nid), or None."""
    user: int | None = tx.value("SELECT user FROM threepids WHERE medium = ? AND address = ?", (medium, address))
    return user


def put(tx: WriteTransaction, user: int, row: ThreepidRow) -> None:
    """Give an address to a user (nid); when it is theirs already, only the times change."""
    tx.execute(
        "INSERT OR REPLACE INTO threepids (medium, address, user, validated, added) VALUES (?, ?, ?, ?, ?)",
        (row.medium, row.address, user, row.validated, row.added),
    )


def remove(tx: WriteTransaction, user: int, medium: str, address: str) -> bool:
    """Take an address from a user (nid); False when it was not theirs."""
    done = tx.execute("DELETE FROM threepids WHERE medium = ? AND address = ? AND user = ?", (medium, address, user))
    return done.rowcount > 0


def remove_all(tx: WriteTransaction, user: int) -> None:
    """Take all addresses from a user (nid)."""
    tx.execute("DELETE FROM threepids WHERE user = ?", (user,))
