"""Dehydrated devices: one of each user at most."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class DehydratedRow:
    """A dehydrated device: its number, its ID, and what its client keeps in it (a JSON object)."""

    device: int
    device_id: str
    data: bytes


def get(tx: ReadTransaction, user: int) -> DehydratedRow | None:
    """The dehydrated device of a user, or None."""
    row = tx.row(
        "SELECT h.device, d.device_id, h.data FROM dehydrated_devices h JOIN devices d ON d.nid = h.device "
        "WHERE h.user = ?",
        (user,),
    )
    return None if row is None else DehydratedRow(*row)


def put(tx: WriteTransaction, user: int, device: int, data: bytes) -> None:
    """Make a device the dehydrated one of its user."""
    tx.execute("INSERT OR REPLACE INTO dehydrated_devices (user, device, data) VALUES (?, ?, ?)", (user, device, data))


def remove(tx: WriteTransaction, user: int, device: int) -> None:
    """A device of the user goes: if it was the dehydrated one, there is none any more."""
    tx.execute("DELETE FROM dehydrated_devices WHERE user = ? AND device = ?", (user, device))
