"""Identity keys of the devices of local users.

spec: client-server-api#device-keys
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class DeviceKeysRow:
    """The keys of one device: `keys` is the JSON object of the keys with their signatures."""

    user: int
    device_id: str
    display_name: str | None
    keys: bytes


def get(tx: ReadTransaction, device: int) -> bytes | None:
    """The keys of a device (by number) as a JSON object, or None when it has none."""
    keys: bytes | None = tx.value("SELECT keys FROM device_keys WHERE device = ?", (device,))
    return keys


def put(tx: WriteTransaction, device: int, keys: bytes) -> None:
    """Store the keys of a device."""
    tx.execute("INSERT OR REPLACE INTO device_keys (device, keys) VALUES (?, ?)", (device, keys))


def remove(tx: WriteTransaction, device: int) -> bool:
    """Delete the keys of a device; whether it had any."""
    return tx.execute("DELETE FROM device_keys WHERE device = ?", (device,)).rowcount > 0


def of_users(tx: ReadTransaction, users: Iterable[int]) -> Iterator[DeviceKeysRow]:
    """The devices with keys of some users, one user after the other."""
    for row in tx.execute(
        "SELECT d.user, d.device_id, d.display_name, k.keys FROM json_each(?) AS wanted "
        "CROSS JOIN devices d ON d.user = wanted.value CROSS JOIN device_keys k ON k.device = d.nid",
        ("[" + ",".join(map(str, users)) + "]",),
    ):
        yield DeviceKeysRow(*row)
