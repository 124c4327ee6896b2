"""Mail addresses of which somebody is proving to read their mails."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_SESSIONS = 10_000
"""So many are kept; the oldest make room."""


@dataclass(frozen=True, slots=True)
class EmailSessionRow:
    """A session; `attempt` is the last for which a mail was sent, the times are ms since 1970."""

    nid: int
    sid: str
    purpose: str
    address: str
    secret: bytes
    attempt: int
    next_link: str | None
    validated: int | None
    expires: int


_COLUMNS = "nid, sid, purpose, address, secret, attempt, next_link, validated, expires"


def _row(row: tuple[int, str, str, str, bytes, int, str | None, int | None, int] | None) -> EmailSessionRow | None:
    return None if row is None else EmailSessionRow(*row)


def find(tx: ReadTransaction, purpose: str, address: str, secret: bytes, now: int) -> EmailSessionRow | None:
    """The session by which a client (by the SHA-256 of its secret) proves an address, unless it has expired."""
    return _row(
        tx.row(
            f"SELECT {_COLUMNS} FROM email_sessions WHERE address = ? AND secret = ? AND purpose = ? AND expires > ?",
            (address, secret, purpose, now),
        )
    )


def by_sid(tx: ReadTransaction, sid: str, now: int) -> EmailSessionRow | None:
    """A session by its ID, unless it has expired."""
    return _row(tx.row(f"SELECT {_COLUMNS} FROM email_sessions WHERE sid = ? AND expires > ?", (sid, now)))


def by_token(tx: ReadTransaction, token: bytes, now: int) -> EmailSessionRow | None:
    """A session by the SHA-256 of what stands in its last mail, unless it has expired."""
    return _row(tx.row(f"SELECT {_COLUMNS} FROM email_sessions WHERE token = ? AND expires > ?", (token, now)))


def put(tx: WriteTransaction, row: EmailSessionRow, token: bytes | None, now: int) -> None:
    """Begin a session, or go on with the one of the same client, address and purpose: a mail with another token (by its
    SHA-256) is about to be sent. Sessions that have expired go."""
    tx.execute("DELETE FROM email_sessions WHERE expires <= ?", (now,))
    tx.execute(
        "INSERT INTO email_sessions (sid, purpose, address, secret, attempt, token, next_link, validated, expires) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (address, secret, purpose) DO UPDATE SET "
        "attempt = excluded.attempt, token = excluded.token, next_link = excluded.next_link, "
        "expires = excluded.expires",
        (
            row.sid,
            row.purpose,
            row.address,
            row.secret,
            row.attempt,
            token,
            row.next_link,
            row.validated,
            row.expires,
        ),
    )
    tx.execute("DELETE FROM email_sessions WHERE nid <= (SELECT max(nid) FROM email_sessions) - ?", (MAX_SESSIONS,))


def set_attempt(tx: WriteTransaction, sid: str, attempt: int) -> None:
    """Note for which attempt a mail was sent last."""
    tx.execute("UPDATE email_sessions SET attempt = ? WHERE sid = ?", (attempt, sid))


def validate(tx: WriteTransaction, nid: int, now: int, expires: int) -> None:
    """The address of a session is proved; it lasts until a time."""
    tx.execute("UPDATE email_sessions SET validated = ?, expires = ? WHERE nid = ?", (now, expires, nid))


def remove(tx: WriteTransaction, nid: int) -> bool:
    """End a session; False when there was none."""
    return tx.execute("DELETE FROM email_sessions WHERE nid = ?", (nid,)).rowcount > 0
