"""Notices of the server to its users: the rooms for them, and what is yet to be sent."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """A notice that is being sent: `content` is that of the event in JSON, `recipient` a user's nid. Without one it is
    for those who have left the `room` (a nid) after the position `since`, and without a room for everybody. Users up to
    the nid `sent_to` have it: `sent` of them, while `failed` could not get it."""

    nid: int
    content: str
    recipient: int | None
    room: int | None
    since: int | None
    sent_to: int
    sent: int
    failed: int


_COLUMNS = "nid, content, recipient, room, since, sent_to, sent, failed"


def room_of(tx: ReadTransaction, user: int) -> int | None:
    """The room (nid) in which a user (nid) gets notices, or None."""
    room: int | None = tx.value("SELECT room FROM notice_rooms WHERE user = ?", (user,))
    return room


def set_room(tx: WriteTransaction, user: int, room: int) -> None:
    """Note in which room a user gets notices from now on."""
    tx.execute("INSERT OR REPLACE INTO notice_rooms (user, room) VALUES (?, ?)", (user, room))


def add(
    tx: WriteTransaction, content: str, recipient: int | None, *, room: int | None = None, since: int | None = None
) -> int:
    """Note a notice that is to be sent; its number. For the arguments see `NoticeRow`."""
    nid = tx.execute(
        "INSERT INTO notices (content, recipient, room, since) VALUES (?, ?, ?, ?)", (content, recipient, room, since)
    ).lastrowid
    assert nid is not None
    return nid


def get(tx: ReadTransaction, nid: int) -> NoticeRow | None:
    """A notice that is being sent, or None where it is sent or was never made."""
    row = tx.row(f"SELECT {_COLUMNS} FROM notices WHERE nid = ?", (nid,))
    return None if row is None else NoticeRow(*row)


def oldest(tx: ReadTransaction, limit: int) -> list[NoticeRow]:
    """The notices that wait the longest."""
    return [NoticeRow(*row) for row in tx.execute(f"SELECT {_COLUMNS} FROM notices ORDER BY nid LIMIT ?", (limit,))]


def advance(tx: WriteTransaction, nid: int, user: int, *, sent: bool) -> None:
    """A user has got a notice, or cannot get it."""
    column = "sent" if sent else "failed"
    tx.execute(f"UPDATE notices SET sent_to = ?, {column} = {column} + 1 WHERE nid = ?", (user, nid))


def remove(tx: WriteTransaction, nid: int) -> bool:
    """A notice is sent, or taken back; False where there was none."""
    return tx.execute("DELETE FROM notices WHERE nid = ?", (nid,)).rowcount > 0
