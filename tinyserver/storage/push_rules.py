"""What users have changed in their push rules.

spec: client-server-api#push-rules-api
"""

from __future__ import annotations

from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


def position_of(tx: ReadTransaction, user: int) -> int:
    """Where in the one order a user's rules were changed last; 0: never."""
    return int(tx.value("SELECT position FROM push_rules WHERE user = ?", (user,)) or 0)


def get(tx: ReadTransaction, user: int) -> bytes | None:
    """A user's changes (JSON in UTF-8); None: there are none."""
    changes: bytes | None = tx.value("SELECT changes FROM push_rules WHERE user = ?", (user,))
    return changes


def put(tx: WriteTransaction, user: int, changes: bytes, *, exact: bool) -> int:
    """Store a user's changes; the bell rings for the user. Returns the position of the change.

    Args:
        exact: whether notification classes tell all of what the rules say.
    """
    position = tx.changed(Topic.USER, user)
    tx.execute(
        "INSERT INTO push_rules (user, changes, exact, position) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (user) DO UPDATE SET changes = excluded.changes, exact = excluded.exact, "
        "position = excluded.position",
        (user, changes, int(exact), position),
    )
    return position


def inexact_users(tx: ReadTransaction) -> frozenset[int]:
    """The users whose rules must be asked about each single event. Reads the whole table: for the start."""
    return frozenset(row[0] for row in tx.execute("SELECT user FROM push_rules WHERE exact = 0"))
