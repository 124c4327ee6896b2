"""The application services that are known, and what each of them is owed.

What is owed waits as a small row, written with what it tells of. Put into a transaction it leaves the queue in the
step that stores the transaction, and the transaction goes when it is acknowledged.

spec: application-service-api#pushing-events
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


class Kind(IntEnum):
    """What a row of the queue tells of, and what its `ref` is."""

    EVENT = 1
    """An event (nid)."""
    RECEIPTS = 2
    """The receipts of a room (nid) that moved at the row's position or later."""
    MESSAGES = 3
    """The messages to a device (nid) that came after the row's position."""


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A service; `registration` is JSON, or None where it stands in a file of the configuration. `token_hash` is the
    SHA-256 of its token."""

    nid: int
    service_id: str
    token_hash: bytes
    registration: str | None


@dataclass(frozen=True, slots=True)
class Owed:
    """A row of the queue."""

    position: int
    kind: Kind
    ref: int


@dataclass(frozen=True, slots=True)
class StoredTransaction:
    """A transaction that is being sent; `body` is JSON."""

    txn_id: str
    body: bytes


def all_services(tx: ReadTransaction) -> list[ServiceRow]:
    """Every service; administrators add them, so they are few."""
    return [ServiceRow(*row) for row in tx.execute("SELECT nid, service_id, token_hash, registration FROM appservices")]


def put(tx: WriteTransaction, service_id: str, token_hash: bytes, registration: str | None) -> int:
    """Add a service, or give it another registration; its number."""
    tx.execute(
        "INSERT INTO appservices (service_id, token_hash, registration, lists_until) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (service_id) DO UPDATE SET token_hash = excluded.token_hash, registration = excluded.registration",
        (service_id, token_hash, registration, tx.next_position()),
    )
    nid: int = tx.value("SELECT nid FROM appservices WHERE service_id = ?", (service_id,))
    return nid


def remove(tx: WriteTransaction, service: int) -> None:
    """Forget a service, and what it is owed."""
    tx.execute("DELETE FROM appservices WHERE nid = ?", (service,))
    tx.execute("DELETE FROM appservice_queue WHERE service = ?", (service,))
    tx.execute("DELETE FROM appservice_transactions WHERE service = ?", (service,))
    tx.execute("DELETE FROM appservice_rooms WHERE service = ?", (service,))


def list_room(tx: WriteTransaction, service: int, network: str, room: int) -> None:
    """Put a room into a service's list for a network."""
    tx.execute(
        "INSERT OR IGNORE INTO appservice_rooms (service, network, room) VALUES (?, ?, ?)", (service, network, room)
    )


def unlist_room(tx: WriteTransaction, service: int, network: str, room: int) -> None:
    """Take a room out of a service's list for a network."""
    tx.execute("DELETE FROM appservice_rooms WHERE service = ? AND network = ? AND room = ?", (service, network, room))


def unlist_everywhere(tx: WriteTransaction, room: int) -> None:
    """Take a room out of all lists of services."""
    tx.execute("DELETE FROM appservice_rooms WHERE room = ?", (room,))


def owe(tx: WriteTransaction, service: int, position: int, kind: Kind, ref: int) -> None:
    """Have something told to a service; the bell rings for it. Nothing that waits already is put in twice."""
    tx.execute(
        "INSERT INTO appservice_queue (service, position, kind, ref) SELECT nid, ?, ?, ? FROM appservices "
        "WHERE nid = ? ON CONFLICT DO NOTHING",
        (position, int(kind), ref, service),
    )
    tx.changed(Topic.APPSERVICE, service, position)


def owed(tx: ReadTransaction, service: int, limit: int) -> list[Owed]:
    """The oldest of what a service is owed."""
    return [
        Owed(row[0], Kind(row[1]), row[2])
        for row in tx.rows(
            "SELECT position, kind, ref FROM appservice_queue WHERE service = ? ORDER BY position LIMIT ?",
            (service, limit),
        )
    ]


def take(tx: WriteTransaction, service: int, until: int) -> None:
    """Take from the queue what is owed up to a position: it is in a transaction now."""
    tx.execute("DELETE FROM appservice_queue WHERE service = ? AND position <= ?", (service, until))


def transaction(tx: ReadTransaction, service: int) -> StoredTransaction | None:
    """The transaction that is being sent to a service."""
    row = tx.row("SELECT txn_id, body FROM appservice_transactions WHERE service = ?", (service,))
    return None if row is None else StoredTransaction(*row)


def begin_transaction(tx: WriteTransaction, service: int, new: StoredTransaction) -> None:
    """Store a transaction before it is sent; none is under way."""
    tx.execute(
        "INSERT INTO appservice_transactions (service, txn_id, body) VALUES (?, ?, ?)", (service, new.txn_id, new.body)
    )


def end_transaction(tx: WriteTransaction, service: int, txn_id: str) -> None:
    """The service has a transaction."""
    tx.execute("DELETE FROM appservice_transactions WHERE service = ? AND txn_id = ?", (service, txn_id))


def lists_until(tx: ReadTransaction, service: int) -> int | None:
    """Up to which position a service was told whose devices changed; None: there is no such service any more."""
    position: int | None = tx.value("SELECT lists_until FROM appservices WHERE nid = ?", (service,))
    return position


def set_lists_until(tx: WriteTransaction, service: int, position: int) -> None:
    """Note up to which position a service is told whose devices changed."""
    tx.execute("UPDATE appservices SET lists_until = ? WHERE nid = ?", (position, service))


def waiting(tx: ReadTransaction, service: int) -> tuple[int, int | None]:
    """How many events wait for a service outside of a transaction, and the nid of the oldest: all rows are counted."""
    count, oldest = tx.row(
        "SELECT count(*), min(position) FROM appservice_queue WHERE service = ? AND kind = 1", (service,)
    )
    if not count:
        return 0, None
    ref: int = tx.value("SELECT ref FROM appservice_queue WHERE service = ? AND position = ?", (service, oldest))
    return count, ref
