"""The server's own account, and how far it has got with what administrators told it in their room."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class OwnAccountRow:
    """The account (a user's nid); `room` is the administrators', if there is one. Messages in it up to `place` were
    taken; the one with the nid `running` is being done. Up to the report with the number `reported` they were told."""

    account: int
    room: int | None
    place: int
    running: int | None
    reported: int


def get(tx: ReadTransaction) -> OwnAccountRow | None:
    """The account, or None where there is none yet."""
    row = tx.row("SELECT account, room, place, running, reported FROM own_account LIMIT 1")
    return None if row is None else OwnAccountRow(*row)


def set_account(tx: WriteTransaction, account: int) -> None:
    """Note which account it is from now on; it begins without a room."""
    tx.execute("DELETE FROM own_account")
    tx.execute("INSERT INTO own_account (account) VALUES (?)", (account,))


def set_room(tx: WriteTransaction, room: int) -> None:
    """Note the administrators' room."""
    tx.execute("UPDATE own_account SET room = ?, place = 0, running = NULL", (room,))


def begin(tx: WriteTransaction, place: int, running: int) -> None:
    """A command in the room is about to be done: it will not be begun again."""
    tx.execute("UPDATE own_account SET place = ?, running = ?", (place, running))


def finish(tx: WriteTransaction) -> None:
    """The command is done and answered."""
    tx.execute("UPDATE own_account SET running = NULL")


def pass_over(tx: WriteTransaction, place: int) -> None:
    """Messages up to a place are no commands."""
    tx.execute("UPDATE own_account SET place = ?", (place,))


def set_reported(tx: WriteTransaction, number: int) -> None:
    """The administrators have been told of the reports up to a number."""
    tx.execute("UPDATE own_account SET reported = ?", (number,))


def warned_at(tx: ReadTransaction, kind: str) -> int | None:
    """When the administrators were warned of something last (ms since 1970)."""
    ts: int | None = tx.value("SELECT ts FROM warnings WHERE kind = ?", (kind,))
    return ts


def set_warned(tx: WriteTransaction, kind: str, ts: int) -> None:
    """Note that the administrators are warned of something."""
    tx.execute("INSERT OR REPLACE INTO warnings (kind, ts) VALUES (?, ?)", (kind, ts))
