"""What sliding sync remembers of each connection of a device. What is in it is the business of `sync.sliding`."""

from __future__ import annotations

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def get(tx: ReadTransaction, device: int, conn_id: str) -> bytes | None:
    """What is stored of a connection, or None."""
    sent: bytes | None = tx.value(
        "SELECT sent FROM sliding_connections WHERE device = ? AND conn_id = ?", (device, conn_id)
    )
    return sent


def put(tx: WriteTransaction, device: int, conn_id: str, sent: bytes, at_most: int) -> None:
    """Store what was sent on a connection of a device that exists; of its connections only those written last stay.

    Args:
        at_most: how many connections a device may have.
    """
    if tx.value("SELECT 1 FROM devices WHERE nid = ?", (device,)) is None:
        return
    tx.execute(
        "INSERT OR REPLACE INTO sliding_connections (device, conn_id, written, sent) VALUES (?, ?, ?, ?)",
        (device, conn_id, tx.next_position(), sent),
    )
    tx.execute(
        "DELETE FROM sliding_connections WHERE device = ?1 AND written <= (SELECT written FROM sliding_connections "
        "WHERE device = ?1 ORDER BY written DESC LIMIT 1 OFFSET ?2)",
        (device, at_most),
    )


def remove(tx: WriteTransaction, device: int, conn_id: str) -> None:
    """Forget a connection."""
    tx.execute("DELETE FROM sliding_connections WHERE device = ? AND conn_id = ?", (device, conn_id))


def remove_all(tx: WriteTransaction, device: int) -> None:
    """Forget all connections of a device."""
    tx.execute("DELETE FROM sliding_connections WHERE device = ?", (device,))
