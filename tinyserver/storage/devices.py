"""The devices of local users."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


class Seen(msgspec.Struct, frozen=True, gc=False):
    """When (ms since 1970), from where and with what a device was last used."""

    ts: int
    ip: str
    agent: str


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device; `nid` is the number by which sessions and events name it.

    A device that was signed in by OAuth names its client by number, and the scope that was granted.
    """

    nid: int
    user: int
    device_id: str
    display_name: str | None
    seen: Seen | None
    oauth_client: int | None = None
    oauth_scope: str | None = None


_COLUMNS = "nid, user, device_id, display_name, seen_ts, seen_ip, seen_agent, oauth_client, oauth_scope"


def _from_row(row: tuple[Any, ...]) -> DeviceRow:
    seen = None if row[4] is None else Seen(row[4], row[5] or "", row[6] or "")
    return DeviceRow(row[0], row[1], row[2], row[3], seen, row[7], row[8])


def find(tx: ReadTransaction, user: int, device_id: str) -> DeviceRow | None:
    """A user's device, or None."""
    row = tx.row(f"SELECT {_COLUMNS} FROM devices WHERE user = ? AND device_id = ?", (user, device_id))
    return None if row is None else _from_row(row)


def get(tx: ReadTransaction, nid: int) -> DeviceRow | None:
    """A device by its number, or None when it was deleted."""
    row = tx.row(f"SELECT {_COLUMNS} FROM devices WHERE nid = ?", (nid,))
    return None if row is None else _from_row(row)


def of_user(tx: ReadTransaction, user: int) -> list[DeviceRow]:
    """All devices of a user, by their IDs."""
    return [
        _from_row(row)
        for row in tx.execute(f"SELECT {_COLUMNS} FROM devices WHERE user = ? ORDER BY device_id", (user,))
    ]


def in_room(tx: ReadTransaction, room: int) -> list[tuple[int, int, str]]:
    """(user, number, device ID) of each device of the local users who are in a room."""
    return tx.rows(
        "SELECT d.user, d.nid, d.device_id FROM memberships m INDEXED BY memberships_local_in_room "
        "CROSS JOIN devices d ON d.user = m.user WHERE m.room = ? AND m.is_local = 1 AND m.membership = 4",
        (room,),
    )


def add(tx: WriteTransaction, user: int, device_id: str, display_name: str | None, seen: Seen | None) -> int:
    """Add a device that was used just now (None: never); its ID is free. Returns its number."""
    nid = tx.execute(
        "INSERT INTO devices (user, device_id, display_name, seen_ts, seen_ip, seen_agent) VALUES (?, ?, ?, ?, ?, ?)",
        (user, device_id, display_name, *((None, None, None) if seen is None else (seen.ts, seen.ip, seen.agent))),
    ).lastrowid
    assert nid is not None
    return nid


def of_oauth_family(tx: ReadTransaction, family_hash: bytes) -> DeviceRow | None:
    """The device whose refresh tokens have this in common (as SHA-256), or None."""
    # Without the second condition the index, which leaves out the empty ones, is not used.
    sql = f"SELECT {_COLUMNS} FROM devices WHERE oauth_family = ? AND oauth_family IS NOT NULL"
    row = tx.row(sql, (family_hash,))
    return None if row is None else _from_row(row)


def set_oauth(
    tx: WriteTransaction, nid: int, *, client: int | None, scope: str | None, family_hash: bytes | None
) -> None:
    """Note how a device was signed in; all None: not by OAuth."""
    tx.execute(
        "UPDATE devices SET oauth_client = ?, oauth_scope = ?, oauth_family = ? WHERE nid = ?",
        (client, scope, family_hash, nid),
    )


def rename(tx: WriteTransaction, nid: int, display_name: str) -> None:
    """Give a device another display name."""
    tx.execute("UPDATE devices SET display_name = ? WHERE nid = ?", (display_name, nid))


def set_seen(tx: WriteTransaction, seen: Iterable[tuple[int, Seen]]) -> None:
    """Store when devices (by number) were last used."""
    tx.executemany(
        "UPDATE devices SET seen_ts = ?, seen_ip = ?, seen_agent = ? WHERE nid = ?",
        ((each.ts, each.ip, each.agent, nid) for nid, each in seen),
    )


def newest_seen(tx: ReadTransaction) -> int:
    """When (ms) any device was last used, as far as it is stored; 0 if there is none: for clocks that jumped
    backwards."""
    return int(tx.value("SELECT max(seen_ts) FROM devices") or 0)


def remove(tx: WriteTransaction, nid: int) -> None:
    """Delete a device together with its sessions."""
    tx.execute("DELETE FROM sessions WHERE device = ?", (nid,))
    tx.execute("DELETE FROM devices WHERE nid = ?", (nid,))
