"""Pushers: where users want to be told of events, and up to where each was told."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

HTTP, EMAIL = "http", "email"
"""The kinds of pushers."""


@dataclass(frozen=True, slots=True)
class PusherSettings:
    """What a client says of a pusher; `device` is the number of the device that it goes with."""

    device: int | None
    app_id: str
    pushkey: str
    kind: str
    app_display_name: str
    device_display_name: str
    profile_tag: str | None
    lang: str
    data: Mapping[str, Any]
    enabled: bool


@dataclass(frozen=True, slots=True)
class PusherRow:
    """A pusher of a user (nid). Everything up to the position `sent` is dealt with, `badge` is the unread count told
    last. One that fails does so since `failing_since`, and is tried at `retry_at` (ms since 1970) after `pause`."""

    nid: int
    user: int
    settings: PusherSettings
    set_ts: int
    sent: int
    badge: int
    failing_since: int | None
    retry_at: int
    pause: int


_COLUMNS = (
    "nid, user, device, app_id, pushkey, kind, app_display_name, device_display_name, profile_tag, lang, data, "
    "enabled, set_ts, sent, badge, failing_since, retry_at, pause"
)


def _from_row(row: tuple[Any, ...]) -> PusherRow:
    settings = PusherSettings(*(*row[2:10], json.loads(row[10]), bool(row[11])))
    return PusherRow(row[0], row[1], settings, *row[12:18])


def get(tx: ReadTransaction, nid: int) -> PusherRow | None:
    """A pusher by its number, or None when it was deleted."""
    row = tx.row(f"SELECT {_COLUMNS} FROM pushers WHERE nid = ?", (nid,))
    return None if row is None else _from_row(row)


def find(tx: ReadTransaction, user: int, app_id: str, pushkey: str) -> PusherRow | None:
    """A user's pusher by what clients name it by, or None."""
    row = tx.row(
        f"SELECT {_COLUMNS} FROM pushers WHERE user = ? AND app_id = ? AND pushkey = ?", (user, app_id, pushkey)
    )
    return None if row is None else _from_row(row)


def of_user(tx: ReadTransaction, user: int) -> list[PusherRow]:
    """All pushers of a user, the oldest first."""
    return [
        _from_row(row) for row in tx.execute(f"SELECT {_COLUMNS} FROM pushers WHERE user = ? ORDER BY nid", (user,))
    ]


def has_pushkey(tx: ReadTransaction, pushkey: str) -> bool:
    """Whether anybody here has a pusher with this pushkey."""
    return bool(tx.value("SELECT EXISTS (SELECT 1 FROM pushers WHERE pushkey = ?)", (pushkey,)))


def active(tx: ReadTransaction) -> list[tuple[int, str, int]]:
    """(number, kind, time in ms before which it is left alone) of every pusher that is on."""
    return tx.rows("SELECT nid, kind, retry_at FROM pushers WHERE enabled = 1")


def any_at_all(tx: ReadTransaction) -> bool:
    """Whether there is a pusher."""
    return bool(tx.value("SELECT EXISTS (SELECT 1 FROM pushers)"))


def in_room(tx: ReadTransaction, room: int) -> list[tuple[int, str]]:
    """(number, kind) of the pushers, as far as they are on, of a room's local members."""
    return [
        (row[0], row[1])
        for row in tx.execute(
            "SELECT p.nid, p.kind FROM memberships m INDEXED BY memberships_local_in_room CROSS JOIN pushers p "
            "ON p.user = m.user WHERE m.room = ? AND m.is_local = 1 AND m.membership IN (3, 4) AND p.enabled = 1",
            (room,),
        )
    ]


def of_users(tx: ReadTransaction, users: Iterable[int]) -> list[tuple[int, str]]:
    """(number, kind) of the pushers, as far as they are on, of some users."""
    return [
        (row[0], row[1])
        for user in users
        for row in tx.execute("SELECT nid, kind FROM pushers WHERE user = ? AND enabled = 1", (user,))
    ]


def add(tx: WriteTransaction, user: int, settings: PusherSettings, now_ms: int, sent: int) -> int:
    """Add a pusher; its number."""
    nid = tx.execute(
        f"INSERT INTO pushers ({_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, NULL, 0, 0)",
        (user, *_columns(settings), now_ms, sent),
    ).lastrowid
    assert nid is not None
    return nid


def change(tx: WriteTransaction, nid: int, settings: PusherSettings, now_ms: int, sent: int) -> None:
    """Give a pusher other settings; it is tried again at once."""
    tx.execute(
        "UPDATE pushers SET device = ?, app_id = ?, pushkey = ?, kind = ?, app_display_name = ?, "
        "device_display_name = ?, profile_tag = ?, lang = ?, data = ?, enabled = ?, set_ts = ?, sent = ?, "
        "retry_at = 0, pause = 0 WHERE nid = ?",
        (*_columns(settings), now_ms, sent, nid),
    )


def _columns(settings: PusherSettings) -> tuple[Any, ...]:
    return (
        settings.device,
        settings.app_id,
        settings.pushkey,
        settings.kind,
        settings.app_display_name,
        settings.device_display_name,
        settings.profile_tag,
        settings.lang,
        json.dumps(settings.data),
        int(settings.enabled),
    )


def remove(tx: WriteTransaction, nid: int) -> None:
    """Delete a pusher."""
    tx.execute("DELETE FROM pushers WHERE nid = ?", (nid,))


def remove_of_others(tx: WriteTransaction, user: int, app_id: str, pushkey: str) -> None:
    """Delete the pushers of all users but one with this app ID and pushkey."""
    tx.execute("DELETE FROM pushers WHERE pushkey = ? AND app_id = ? AND user <> ?", (pushkey, app_id, user))


def remove_emails(tx: WriteTransaction, user: int, address: str | None = None) -> None:
    """Delete the pushers of a user (nid) that send mails: to an address, or all."""
    tx.execute(
        "DELETE FROM pushers WHERE user = ?1 AND kind = 'email' AND (?2 IS NULL OR pushkey = ?2)", (user, address)
    )


def remove_of_devices(tx: WriteTransaction, devices: Collection[int]) -> None:
    """Delete the pushers that go with devices (by number)."""
    tx.executemany("DELETE FROM pushers WHERE device = ? AND device IS NOT NULL", [(device,) for device in devices])


def note_sent(tx: WriteTransaction, nid: int, sent: int, badge: int) -> None:
    """A pusher works, and has dealt with everything up to a position; it was told an unread count."""
    tx.execute(
        "UPDATE pushers SET sent = max(sent, ?), badge = ?, failing_since = NULL, retry_at = 0, "
        "pause = 0 WHERE nid = ?",
        (sent, badge, nid),
    )


def note_mailed(tx: WriteTransaction, nid: int, sent: int, retry_at: int, pause: int) -> None:
    """A mail told of everything up to a position; the next one comes after a pause (ms), at a time (ms), or later."""
    tx.execute(
        "UPDATE pushers SET sent = max(sent, ?), failing_since = NULL, retry_at = ?, pause = ? WHERE nid = ?",
        (sent, retry_at, pause, nid),
    )


def note_seen(tx: WriteTransaction, seen: Iterable[tuple[int, int]]) -> None:
    """Pushers (by number) have nothing to be told up to a position."""
    tx.executemany("UPDATE pushers SET sent = ?2 WHERE nid = ?1 AND sent < ?2", seen)


def note_failure(tx: WriteTransaction, nid: int, failing_since: int, retry_at: int, pause: int) -> None:
    """A pusher fails since a time, and is tried again at another (ms), after a pause (ms)."""
    tx.execute(
        "UPDATE pushers SET failing_since = ?, retry_at = ?, pause = ? WHERE nid = ?",
        (failing_since, retry_at, pause, nid),
    )
