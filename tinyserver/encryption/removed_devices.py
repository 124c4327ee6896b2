"""What goes with a device: its keys, the messages that wait for it, what it was sent, and the trust of others in it.

spec: client-server-api#device-management
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyserver.storage import (
    dehydrated_devices,
    device_keys,
    device_lists,
    devices,
    one_time_keys,
    sliding_connections,
    to_device,
)
from tinyserver.storage.transaction import WriteTransaction


class RemovedDevices:
    """Told of every device that goes or is renamed; a `DeviceListener` of sessions."""

    def devices_removed(self, tx: WriteTransaction, user: int, removed: Sequence[int]) -> None:
        """Delete everything that hangs on devices (by number) of a user."""
        changed: list[str] = []
        for device in removed:
            row = devices.get(tx, device)
            if device_keys.remove(tx, device) and row is not None:
                changed.append(row.device_id)
            one_time_keys.remove(tx, device)
            to_device.remove_all(tx, device)
            dehydrated_devices.remove(tx, user, device)
            sliding_connections.remove_all(tx, device)
        if changed:
            device_lists.note_change(tx, user, changed)

    def device_renamed(self, tx: WriteTransaction, user: int, device: int) -> None:
        """The name is shown with the keys."""
        row = devices.get(tx, device)
        if row is not None and device_keys.get(tx, device) is not None:
            device_lists.note_change(tx, user, [row.device_id])
