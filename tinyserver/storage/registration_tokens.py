"""Tokens that allow to make an account."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class RegistrationTokenRow:
    """A token: `uses_allowed` None is any number, `expires` (ms since 1970) None is never. The account that is made
    with a token that `makes_admin` administers the server."""

    token: str
    uses_allowed: int | None
    uses: int
    expires: int | None
    makes_admin: bool

    def is_valid(self, now: int) -> bool:
        """Whether the token can be used at a time (ms since 1970)."""
        return (self.uses_allowed is None or self.uses < self.uses_allowed) and (
            self.expires is None or now < self.expires
        )


_COLUMNS = "token, uses_allowed, uses, expires, makes_admin"


def _from_row(row: tuple[str, int | None, int, int | None, int]) -> RegistrationTokenRow:
    return RegistrationTokenRow(row[0], row[1], row[2], row[3], bool(row[4]))


def get(tx: ReadTransaction, token: str) -> RegistrationTokenRow | None:
    """A token, also one that is no longer valid, or None."""
    row = tx.row(f"SELECT {_COLUMNS} FROM registration_tokens WHERE token = ?", (token,))
    return None if row is None else _from_row(row)


def all_tokens(tx: ReadTransaction) -> list[RegistrationTokenRow]:
    """Every token, in the order of its text; administrators make them, so they are few."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM registration_tokens")
    return [_from_row(row) for row in rows]


def add(
    tx: WriteTransaction, token: str, *, uses_allowed: int | None, expires: int | None, makes_admin: bool = False
) -> None:
    """Add a token that does not exist yet."""
    tx.execute(
        "INSERT INTO registration_tokens (token, uses_allowed, expires, makes_admin) VALUES (?, ?, ?, ?)",
        (token, uses_allowed, expires, int(makes_admin)),
    )


def count_use(tx: WriteTransaction, token: str) -> None:
    """An account was made with the token."""
    tx.execute("UPDATE registration_tokens SET uses = uses + 1 WHERE token = ?", (token,))


def remove(tx: WriteTransaction, token: str) -> bool:
    """Delete a token; False when there was none."""
    return tx.execute("DELETE FROM registration_tokens WHERE token = ?", (token,)).rowcount > 0


def remove_admin_tokens(tx: WriteTransaction) -> None:
    """Delete the tokens that make administrators: they are for the first account only."""
    tx.execute("DELETE FROM registration_tokens WHERE makes_admin = 1")
