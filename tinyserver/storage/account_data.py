"""Account data: what a user's clients keep on the server, global or for one room.

spec: client-server-api#client-config
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tinyserver.storage import names
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction

_GLOBAL = 0
_REMOVED = b""
"""In place of a content: it was deleted."""
_Row = tuple[int, str, bytes, int]


@dataclass(frozen=True, slots=True)
class AccountDataRow:
    """One piece of account data: `room_id` is None for global data, `content` the JSON object in UTF-8, `position`
    the place in the one order where it became so."""

    room_id: str | None
    type: str
    content: bytes
    position: int


def get(tx: ReadTransaction, user: int, room_id: str | None, data_type: str) -> bytes | None:
    """The content (a JSON object in UTF-8) of one type, or None."""
    room = _find_room(tx, room_id)
    if room is None:
        return None
    content: bytes | None = tx.value(
        "SELECT content FROM account_data WHERE user = ? AND room = ? AND type = ?", (user, room, data_type)
    )
    return content or None


def get_row(tx: ReadTransaction, user: int, data_type: str) -> AccountDataRow | None:
    """Global data of one type, with its position, or None."""
    row = tx.row(
        "SELECT content, position FROM account_data WHERE user = ? AND room = ? AND type = ?",
        (user, _GLOBAL, data_type),
    )
    return None if row is None or row[0] == _REMOVED else AccountDataRow(None, data_type, row[0], row[1])


def put(tx: WriteTransaction, user: int, room_id: str | None, data_type: str, content: bytes) -> int:
    """Store the content of one type; the bell rings for the user. Returns its position."""
    room = _GLOBAL if room_id is None else names.intern(tx, room_id)
    position = tx.changed(Topic.USER, user)
    tx.execute(
        "INSERT INTO account_data (user, room, type, content, position) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (user, room, type) DO UPDATE SET content = excluded.content, position = excluded.position",
        (user, room, data_type, content, position),
    )
    return position


def remove(tx: WriteTransaction, user: int, room_id: str | None, data_type: str) -> None:
    """Delete the content of one type, if there is any; the bell rings for the user. That it was deleted is kept, for
    devices that have not heard of it."""
    if get(tx, user, room_id, data_type) is not None:
        put(tx, user, room_id, data_type, _REMOVED)


def changed_since(tx: ReadTransaction, user: int, since: int, until: int) -> list[AccountDataRow]:
    """What was stored or deleted at a position in (since, until], in that order; from 0 everything that the user has.
    What was deleted has the content `{}`."""
    rows = tx.execute(
        "SELECT room, type, content, position FROM account_data WHERE user = ? AND position > ? AND position <= ? "
        "ORDER BY position",
        (user, since, until),
    )
    return _rows(tx, rows if since else _kept(rows))


def of_room(tx: ReadTransaction, user: int, room_id: str | None) -> list[AccountDataRow]:
    """All data of one room, or (None) all global data, by type."""
    room = _find_room(tx, room_id)
    if room is None:
        return []
    rows = tx.execute(
        "SELECT room, type, content, position FROM account_data WHERE user = ? AND room = ?", (user, room)
    )
    return _rows(tx, _kept(rows))


def count(tx: ReadTransaction, user: int) -> int:
    """How many pieces of account data a user has, or had."""
    return int(tx.value("SELECT count(*) FROM account_data WHERE user = ?", (user,)))


def remove_all(tx: WriteTransaction, user: int) -> None:
    """Erase all account data of a user."""
    tx.execute("DELETE FROM account_data WHERE user = ?", (user,))


def _find_room(tx: ReadTransaction, room_id: str | None) -> int | None:
    return _GLOBAL if room_id is None else names.find(tx, room_id)


def _kept(rows: Iterable[_Row]) -> Iterable[_Row]:
    return (row for row in rows if row[2] != _REMOVED)


def _rows(tx: ReadTransaction, rows: Iterable[_Row]) -> list[AccountDataRow]:
    return [
        AccountDataRow(None if room == _GLOBAL else names.text(tx, room), data_type, content or b"{}", position)
        for room, data_type, content, position in rows
    ]
