"""Which threads users have subscribed to.

spec: MSC4306
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """What a user wants of a thread (`root`: nid of its first event) since a position. `automatic` is None where they
    do not want to hear of it any more, else whether their client subscribed by itself."""

    room: int
    root: int
    automatic: bool | None
    position: int


def get(tx: ReadTransaction, user: int, root: int) -> SubscriptionRow | None:
    """What a user wants of a thread, or None if they never said."""
    row = tx.row(
        "SELECT room, root, automatic, position FROM thread_subscriptions WHERE user = ? AND root = ?", (user, root)
    )
    return None if row is None else _from_row(row)


def put(tx: WriteTransaction, user: int, room: int, root: int, *, automatic: bool | None) -> None:
    """Store what a user wants of a thread (None: nothing any more); the bell rings for the user."""
    position = tx.changed(Topic.USER, user)
    tx.execute(
        "INSERT INTO thread_subscriptions (user, root, room, automatic, position) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (user, root) DO UPDATE SET automatic = excluded.automatic, position = excluded.position",
        (user, root, room, None if automatic is None else int(automatic), position),
    )


def changed_between(tx: ReadTransaction, user: int, since: int, until: int, limit: int) -> list[SubscriptionRow]:
    """What changed at a position in (since, until], the newest first."""
    return [
        _from_row(row)
        for row in tx.rows(
            "SELECT room, root, automatic, position FROM thread_subscriptions WHERE user = ? AND position > ? "
            "AND position <= ? ORDER BY position DESC LIMIT ?",
            (user, since, until, limit),
        )
    ]


def count(tx: ReadTransaction, user: int) -> int:
    """Of how many threads a user has said what they want."""
    return int(tx.value("SELECT count(*) FROM thread_subscriptions WHERE user = ?", (user,)))


def _from_row(row: tuple[int, int, int | None, int]) -> SubscriptionRow:
    return SubscriptionRow(row[0], row[1], None if row[2] is None else bool(row[2]), row[3])
