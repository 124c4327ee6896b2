"""The accounts of this server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tinyserver.storage import names
from tinyserver.storage.memberships import Membership
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


@dataclass(frozen=True, slots=True)
class UserRow:
    """One account: `nid` is the number of its user ID, `password` a PHC string (None: no login by password),
    `created` milliseconds since 1970."""

    nid: int
    password: str | None
    is_admin: bool
    is_guest: bool
    is_deactivated: bool
    is_erased: bool
    is_locked: bool
    is_suspended: bool
    created: int


_COLUMNS = "nid, password, admin, guest, deactivated, erased, locked, suspended, created"


def get(tx: ReadTransaction, nid: int) -> UserRow | None:
    """The account with the number of its user ID, or None when that user is not of this server."""
    row = tx.row(f"SELECT {_COLUMNS} FROM users WHERE nid = ?", (nid,))
    return None if row is None else _from_row(row)


def _from_row(row: Sequence[Any]) -> UserRow:
    admin, guest, deactivated, erased, locked, suspended = map(bool, row[2:8])
    return UserRow(row[0], row[1], admin, guest, deactivated, erased, locked, suspended, row[8])


def find(tx: ReadTransaction, user_id: str) -> UserRow | None:
    """The account with a user ID, deactivated ones included, or None."""
    nid = names.find(tx, user_id)
    return None if nid is None else get(tx, nid)


def add(
    tx: WriteTransaction, user_id: str, password: str | None, created: int, *, admin: bool = False, guest: bool = False
) -> int:
    """Add an account; its user ID is free. Returns the nid of the user ID."""
    nid = names.intern(tx, user_id)
    tx.execute(
        "INSERT INTO users (nid, password, admin, guest, created) VALUES (?, ?, ?, ?, ?)",
        (nid, password, int(admin), int(guest), created),
    )
    if admin:
        tx.changed(Topic.ADMINISTRATION, nid)
    return nid


def all_after(tx: ReadTransaction, nid: int, limit: int) -> list[UserRow]:
    """The next accounts behind a number, of whatever kind."""
    sql = f"SELECT {_COLUMNS} FROM users WHERE nid > ? ORDER BY nid LIMIT ?"
    return [_from_row(row) for row in tx.execute(sql, (nid, limit))]


def people_after(tx: ReadTransaction, nid: int, limit: int) -> list[UserRow]:
    """The next accounts behind a number that somebody can log in to with a password."""
    sql = f"SELECT {_COLUMNS} FROM users WHERE nid > ? AND password IS NOT NULL ORDER BY nid LIMIT ?"
    return [_from_row(row) for row in tx.execute(sql, (nid, limit))]


def administrators_after(tx: ReadTransaction, nid: int, limit: int) -> list[UserRow]:
    """The next administrators behind a number."""
    sql = f"SELECT {_COLUMNS} FROM users WHERE nid > ? AND admin = 1 ORDER BY nid LIMIT ?"
    return [_from_row(row) for row in tx.execute(sql, (nid, limit))]


def count_people(tx: ReadTransaction) -> int:
    """How many accounts somebody can log in to with a password."""
    return int(tx.value("SELECT count(*) FROM users WHERE password IS NOT NULL"))


def any_registered(tx: ReadTransaction) -> bool:
    """Whether somebody has an account; guests do not count, nor do the users of application services."""
    return bool(
        tx.value("SELECT EXISTS (SELECT 1 FROM users WHERE guest = 0 AND (password IS NOT NULL OR deactivated))")
    )


def set_password(tx: WriteTransaction, nid: int, password: str | None) -> None:
    """Replace the stored password (a PHC string); None forbids the login by password."""
    tx.execute("UPDATE users SET password = ? WHERE nid = ?", (password, nid))


def upgrade_guest(tx: WriteTransaction, nid: int, password: str, *, admin: bool) -> None:
    """A guest became an ordinary account."""
    tx.execute("UPDATE users SET guest = 0, password = ?, admin = ? WHERE nid = ?", (password, int(admin), nid))
    if admin:
        tx.changed(Topic.ADMINISTRATION, nid)


def set_admin(tx: WriteTransaction, nid: int, admin: bool) -> None:
    """Note whether an account is an administrator's."""
    tx.execute("UPDATE users SET admin = ? WHERE nid = ?", (int(admin), nid))
    tx.changed(Topic.ADMINISTRATION, nid)


def set_suspended(tx: WriteTransaction, nid: int, suspended: bool) -> None:
    """Note whether an account is suspended."""
    tx.execute("UPDATE users SET suspended = ? WHERE nid = ?", (int(suspended), nid))


def set_locked(tx: WriteTransaction, nid: int, locked: bool) -> None:
    """Note whether an account is locked."""
    tx.execute("UPDATE users SET locked = ? WHERE nid = ?", (int(locked), nid))


def deactivate(tx: WriteTransaction, nid: int, *, erase: bool) -> None:
    """Close an account for ever; with `erase` its old events are to be redacted for newcomers."""
    tx.execute(
        "UPDATE users SET deactivated = 1, password = NULL, admin = 0, erased = max(erased, ?) WHERE nid = ?",
        (int(erase), nid),
    )


def deactivated_members(tx: ReadTransaction) -> Iterator[int]:
    """Deactivated users who are still in a room, invited, or knocking: their leaving was interrupted."""
    for row in tx.execute(
        "SELECT nid FROM users WHERE deactivated = 1 AND EXISTS (SELECT 1 FROM memberships "
        "WHERE user = users.nid AND is_local = 1 AND membership IN (?, ?, ?))",
        (int(Membership.JOIN), int(Membership.INVITE), int(Membership.KNOCK)),
    ):
        yield row[0]
