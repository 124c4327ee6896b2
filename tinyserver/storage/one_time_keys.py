"""One-time and fallback keys of devices.

spec: client-server-api#one-time-and-fallback-keys
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

REMEMBERED_CLAIMS = 200
"""How many claimed keys of a device and algorithm are remembered by their IDs."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A one-time or fallback key: `key` is its JSON, a string or an object."""

    algorithm: str
    key_id: str
    key: bytes


@dataclass(frozen=True, slots=True)
class KeyState:
    """What of a device's keys is left: unclaimed one-time keys by algorithm, the algorithms whose fallback key was
    not used yet, and the position where a fallback key was last used for the first time (0: never)."""

    counts: dict[str, int]
    unused_fallback: tuple[str, ...]
    fallback_used: int


def of_device(tx: ReadTransaction, device: int) -> dict[tuple[str, str], bytes]:
    """The unclaimed one-time keys of a device by (algorithm, key ID)."""
    return {
        (row[0], row[1]): row[2]
        for row in tx.execute("SELECT algorithm, key_id, key FROM one_time_keys WHERE device = ?", (device,))
    }


def was_claimed(tx: ReadTransaction, device: int, algorithm: str, key_id: str) -> bool:
    """Whether a key with this ID was given out lately."""
    return bool(
        tx.value(
            "SELECT EXISTS (SELECT 1 FROM claimed_keys WHERE device = ? AND algorithm = ? AND key_id = ?)",
            (device, algorithm, key_id),
        )
    )


def add(tx: WriteTransaction, device: int, keys: Sequence[PublicKey]) -> None:
    """Add one-time keys, after all those that are there."""
    position = tx.next_position()
    tx.executemany(
        "INSERT INTO one_time_keys (device, algorithm, position, key_id, key) VALUES (?, ?, ?, ?, ?)",
        ((device, key.algorithm, position, key.key_id, key.key) for key in keys),
    )


def claim(tx: WriteTransaction, device: int, algorithm: str, position: int) -> PublicKey | None:
    """Take the oldest one-time key of a device, or else its fallback key, which is used from then on.

    Args:
        position: of the claim, for what is remembered of it.
    """
    row = tx.row(
        "SELECT position, key_id, key FROM one_time_keys WHERE device = ? AND algorithm = ? ORDER BY position LIMIT 1",
        (device, algorithm),
    )
    if row is None:
        return _claim_fallback(tx, device, algorithm, position)
    uploaded, key_id, key = row
    tx.execute(
        "DELETE FROM one_time_keys WHERE device = ? AND algorithm = ? AND position = ? AND key_id = ?",
        (device, algorithm, uploaded, key_id),
    )
    tx.execute(
        "INSERT OR REPLACE INTO claimed_keys (device, algorithm, key_id, position) VALUES (?, ?, ?, ?)",
        (device, algorithm, key_id, position),
    )
    return PublicKey(algorithm, key_id, key)


def _claim_fallback(tx: WriteTransaction, device: int, algorithm: str, position: int) -> PublicKey | None:
    row = tx.row("SELECT key_id, key, used FROM fallback_keys WHERE device = ? AND algorithm = ?", (device, algorithm))
    if row is None:
        return None
    if row[2] is None:
        tx.execute(
            "UPDATE fallback_keys SET used = ? WHERE device = ? AND algorithm = ?", (position, device, algorithm)
        )
    return PublicKey(algorithm, row[0], row[1])


def forget_old_claims(tx: WriteTransaction, device: int, algorithm: str) -> None:
    """Remember no more than the newest claims."""
    tx.execute(
        "DELETE FROM claimed_keys WHERE device = ?1 AND algorithm = ?2 AND position <= (SELECT position "
        "FROM claimed_keys WHERE device = ?1 AND algorithm = ?2 ORDER BY position DESC LIMIT 1 OFFSET ?3)",
        (device, algorithm, REMEMBERED_CLAIMS),
    )


def put_fallback(tx: WriteTransaction, device: int, key: PublicKey) -> None:
    """Store the fallback key of an algorithm; the same one again stays used if it was."""
    tx.execute(
        "INSERT INTO fallback_keys (device, algorithm, key_id, key) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (device, algorithm) DO UPDATE SET key_id = excluded.key_id, key = excluded.key, used = NULL "
        "WHERE key_id <> excluded.key_id OR key <> excluded.key",
        (device, key.algorithm, key.key_id, key.key),
    )


def state(tx: ReadTransaction, device: int) -> KeyState:
    """What of a device's keys is left."""
    counts = dict(
        tx.execute("SELECT algorithm, count(*) FROM one_time_keys WHERE device = ? GROUP BY algorithm", (device,))
    )
    unused, used_at = [], 0
    for algorithm, used in tx.execute("SELECT algorithm, used FROM fallback_keys WHERE device = ?", (device,)):
        if used is None:
            unused.append(algorithm)
        else:
            used_at = max(used_at, used)
    return KeyState(counts, tuple(unused), used_at)


def remove(tx: WriteTransaction, device: int) -> None:
    """Delete all keys of a device."""
    tx.execute("DELETE FROM one_time_keys WHERE device = ?", (device,))
    tx.execute("DELETE FROM claimed_keys WHERE device = ?", (device,))
    tx.execute("DELETE FROM fallback_keys WHERE device = ?", (device,))
