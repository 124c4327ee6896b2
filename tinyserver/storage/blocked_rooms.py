"""Rooms that administrators have closed to the users of this server."""

from __future__ import annotations

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def is_blocked(tx: ReadTransaction, room_id: str) -> bool:
    """Whether users of this server are kept out of a room."""
    return tx.value("SELECT 1 FROM blocked_rooms WHERE room_id = ?", (room_id,)) is not None


def after(tx: ReadTransaction, room_id: str, limit: int) -> list[tuple[str, int, str | None]]:
    """The next blocked rooms behind an ID: their IDs, since when (ms since 1970), and why."""
    return tx.rows(
        "SELECT room_id, ts, reason FROM blocked_rooms WHERE room_id > ? ORDER BY room_id LIMIT ?", (room_id, limit)
    )


def block(tx: WriteTransaction, room_id: str, ts: int, reason: str | None, *, emptying: bool) -> None:
    """Keep users of this server out of a room. `emptying`: those who are in it have to leave from now on."""
    tx.execute(
        "INSERT INTO blocked_rooms (room_id, ts, reason, position, emptying) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (room_id) DO UPDATE SET reason = ifnull(excluded.reason, reason), "
        "position = iif(emptying, position, excluded.position), emptying = max(emptying, excluded.emptying)",
        (room_id, ts, reason, tx.next_position(), int(emptying)),
    )


def unblock(tx: WriteTransaction, room_id: str) -> bool:
    """Let users of this server in again; False where they were not kept out."""
    return tx.execute("DELETE FROM blocked_rooms WHERE room_id = ?", (room_id,)).rowcount > 0


def emptying(tx: ReadTransaction) -> list[tuple[str, str | None]]:
    """The rooms that users of this server have yet to leave, with the reason that they hear."""
    return tx.rows("SELECT room_id, reason FROM blocked_rooms WHERE emptying = 1 ORDER BY room_id")


def is_emptying(tx: ReadTransaction, room_id: str) -> bool:
    """Whether users of this server have yet to leave a room."""
    return bool(tx.value("SELECT emptying FROM blocked_rooms WHERE room_id = ?", (room_id,)))


def emptied(tx: WriteTransaction, room_id: str) -> int | None:
    """All users of this server have left a room; the position after which they had to. None: it is not blocked."""
    tx.execute("UPDATE blocked_rooms SET emptying = 0 WHERE room_id = ?", (room_id,))
    position: int | None = tx.value("SELECT position FROM blocked_rooms WHERE room_id = ?", (room_id,))
    return position
