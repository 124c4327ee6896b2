"""Finding users by their names, and what two users have in common."""

from __future__ import annotations

from collections.abc import Sequence

from tinyserver.protocol.search_text import words
from tinyserver.storage import memberships, names
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_NAME = 256
"""How many characters of a name count."""


def note_member(tx: WriteTransaction, member: StoredEvent) -> None:
    """Let a user be found by the name in one of their member events, unless it is history: another has its place."""
    event = member.event
    if event.membership not in ("join", "invite") or not event.state_key or member.state_key_nid is None:
        return
    present = memberships.get(tx, member.room, member.state_key_nid)
    if member.rejected or (present is not None and present.event != member.nid):
        return
    name = event.content.get("displayname")
    localpart = event.state_key[1:].partition(":")[0]
    listed = words(localpart) + (words(name[:MAX_NAME]) if isinstance(name, str) else [])
    text = " ".join(dict.fromkeys(listed))
    if text != tx.value("SELECT words FROM user_words WHERE rowid = ?", (member.state_key_nid,)):
        tx.execute("INSERT OR REPLACE INTO user_words (rowid, words) VALUES (?, ?)", (member.state_key_nid, text))


def set_open(tx: WriteTransaction, room: int, *, is_open: bool) -> None:
    """Note whether everybody may join or read a room."""
    statement = (
        "INSERT OR IGNORE INTO open_rooms (room) VALUES (?)" if is_open else "DELETE FROM open_rooms WHERE room = ?"
    )
    tx.execute(statement, (room,))


def with_words(tx: ReadTransaction, reader: int, beginnings: Sequence[str], limit: int) -> list[tuple[int, str]]:
    """(nid, words) of users who have words that begin with each of these. If there are too many, some who have them
    whole come first, then those whom a local user (the reader) shares a room with."""
    begun = " ".join(f'"{beginning}"*' for beginning in beginnings)
    found = dict(tx.rows(_WITH_WORDS, (begun, limit)))
    if len(found) < limit:
        return list(found.items())
    whole = " ".join(f'"{beginning}"' for beginning in beginnings)
    first = dict(tx.rows(_WITH_WORDS, (whole, limit // 2)))
    first.update(tx.rows(_MET_WITH_WORDS, (begun, reader, limit)))
    return list((first | found).items())[:limit]


_WITH_WORDS = "SELECT rowid, words FROM user_words WHERE user_words MATCH ? LIMIT ?"
_MET_WITH_WORDS = (
    "SELECT rowid, words FROM user_words WHERE user_words MATCH ? AND +rowid IN ("
    "SELECT b.user FROM memberships a CROSS JOIN memberships b ON b.room = a.room "
    "WHERE a.user = ? AND a.is_local = 1 AND a.membership = 4 AND b.membership = 4) LIMIT ?"
)


def met_in(tx: ReadTransaction, user: int, other: int) -> int | None:
    """The nid of the member event of another user in a room that a local user is in, too; None if there is none."""
    event: int | None = tx.value(
        "SELECT b.event FROM memberships a CROSS JOIN memberships b ON b.room = a.room AND b.user = ? "
        "WHERE a.user = ? AND a.is_local = 1 AND a.membership = 4 AND b.membership = 4 LIMIT 1",
        (other, user),
    )
    return event


def seen_in(tx: ReadTransaction, other: int) -> int | None:
    """The nid of the member event of a user in a room that is open to everybody and that this server is in; None if
    there is none."""
    event: int | None = tx.value(
        "SELECT m.event FROM open_rooms o CROSS JOIN memberships m ON m.room = o.room AND m.user = ? "
        "CROSS JOIN memberships l INDEXED BY memberships_local_in_room ON l.room = m.room AND l.is_local = 1 "
        "WHERE m.membership = 4 AND l.membership = 4 LIMIT 1",
        (other,),
    )
    return event


_MUTUAL = (
    "FROM memberships a CROSS JOIN memberships b ON b.room = a.room AND b.user = ? "
    "WHERE a.user = ? AND a.is_local = 1 AND a.membership = 4 AND b.membership = 4"
)


def mutual_rooms(tx: ReadTransaction, user: int, other_id: str, after: int, limit: int) -> tuple[list[int], int]:
    """The nids of rooms that a local user and another one are in, in their order after one of them; and how many there
    are altogether."""
    other = names.find(tx, other_id)
    if other is None:
        return [], 0
    rows = tx.execute(f"SELECT a.room {_MUTUAL} AND a.room > ? ORDER BY a.room LIMIT ?", (other, user, after, limit))
    return [row[0] for row in rows], int(tx.value(f"SELECT count(*) {_MUTUAL}", (other, user)))
