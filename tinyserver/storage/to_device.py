"""Messages to devices, in the order in which they came, until their device has them.

spec: client-server-api#send-to-device-messaging
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tinyserver.storage import names
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction

REMEMBERED_REQUESTS = 1000
"""How many requests of a device are remembered at least."""
REMEMBERED_MESSAGES = 10_000
"""How many messages of another server are remembered at least."""
_LOOK_FOR_OLD_EVERY = 256


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message: to a device (by number) of a user (by number), a JSON object. The same `content` object may be in
    several deliveries, and is then stored once."""

    user: int
    device: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits for its device: `content` is a JSON object."""

    position: int
    sender: str
    type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Queue:
    """How much waits for a device."""

    messages: int
    bytes: int


def queues(tx: ReadTransaction, devices: Collection[int]) -> dict[int, Queue]:
    """What waits for some devices, by number; those without messages are left out."""
    return {
        row[0]: Queue(row[1], row[2])
        for row in tx.execute(
            "SELECT q.device, q.messages, q.bytes FROM json_each(?) AS wanted "
            "CROSS JOIN to_device_queues q ON q.device = wanted.value",
            ("[" + ",".join(map(str, devices)) + "]",),
        )
    }


def add(tx: WriteTransaction, sender: int, event_type: str, deliveries: Sequence[Delivery]) -> None:
    """Queue messages; the bell rings for their users."""
    times: dict[int, int] = {}
    for delivery in deliveries:
        times[id(delivery.content)] = times.get(id(delivery.content), 0) + 1
    shared: dict[int, int] = {}
    newest: dict[int, int] = {}
    rows: list[tuple[int, int, int, str, bytes | None, int | None]] = []
    for delivery in deliveries:
        position = tx.next_position()
        newest[delivery.user] = position
        key = id(delivery.content)
        if times[key] == 1:
            rows.append((position, delivery.device, sender, event_type, delivery.content, None))
            continue
        if key not in shared:
            shared[key] = position
            tx.execute("INSERT INTO to_device_contents (nid, content) VALUES (?, ?)", (position, delivery.content))
        rows.append((position, delivery.device, sender, event_type, None, shared[key]))
    tx.executemany(
        "INSERT INTO to_device (position, device, sender, type, content, shared) VALUES (?, ?, ?, ?, ?, ?)", rows
    )
    tx.executemany(
        "INSERT INTO to_device_queues (device, messages, bytes) VALUES (?, 1, ?) ON CONFLICT (device) "
        "DO UPDATE SET messages = messages + 1, bytes = bytes + excluded.bytes",
        ((delivery.device, len(delivery.content)) for delivery in deliveries),
    )
    for user, position in newest.items():
        tx.changed(Topic.USER, user, position)


def waiting(tx: ReadTransaction, device: int, after: int, until: int, limit: int) -> list[Waiting]:
    """The oldest messages for a device at a position in (after, until]."""
    return [
        Waiting(row[0], names.text(tx, row[1]), row[2], row[3])
        for row in tx.rows(
            "SELECT m.position, m.sender, m.type, coalesce(m.content, c.content) FROM to_device m "
            "LEFT JOIN to_device_contents c ON c.nid = m.shared "
            "WHERE m.device = ? AND m.position > ? AND m.position <= ? ORDER BY m.position LIMIT ?",
            (device, after, until, limit),
        )
    ]


def oldest(tx: ReadTransaction, device: int) -> int | None:
    """The position of the oldest message that waits for a device, or None."""
    position: int | None = tx.value("SELECT min(position) FROM to_device WHERE device = ?", (device,))
    return position


def remove(tx: WriteTransaction, device: int, until: int) -> None:
    """Delete the messages for a device up to a position: it has them."""
    messages, size, shared = 0, 0, []
    for row in tx.execute(
        "SELECT m.shared, length(coalesce(m.content, c.content)) FROM to_device m "
        "LEFT JOIN to_device_contents c ON c.nid = m.shared WHERE m.device = ? AND m.position <= ?",
        (device, until),
    ):
        messages, size = messages + 1, size + row[1]
        if row[0] is not None:
            shared.append(row[0])
    if not messages:
        return
    tx.execute("DELETE FROM to_device WHERE device = ? AND position <= ?", (device, until))
    _remove_unused_contents(tx, shared)
    tx.execute(
        "UPDATE to_device_queues SET messages = messages - ?, bytes = bytes - ? WHERE device = ?",
        (messages, size, device),
    )
    tx.execute("DELETE FROM to_device_queues WHERE device = ? AND messages <= 0", (device,))


def remove_all(tx: WriteTransaction, device: int) -> None:
    """A device goes: delete what waits for it, and what is remembered of its requests."""
    shared = [
        row[0] for row in tx.execute("SELECT shared FROM to_device WHERE device = ? AND shared IS NOT NULL", (device,))
    ]
    tx.execute("DELETE FROM to_device WHERE device = ?", (device,))
    _remove_unused_contents(tx, shared)
    tx.execute("DELETE FROM to_device_queues WHERE device = ?", (device,))
    tx.execute("DELETE FROM to_device_requests WHERE device = ?", (device,))


def _remove_unused_contents(tx: WriteTransaction, nids: Iterable[int]) -> None:
    tx.executemany(
        "DELETE FROM to_device_contents WHERE nid = ?1 AND NOT EXISTS (SELECT 1 FROM to_device WHERE shared = ?1)",
        ((nid,) for nid in nids),
    )


def is_new_request(tx: WriteTransaction, device: int, digest: bytes) -> bool:
    """Remember a request of a sending device (by number); whether it was not remembered already."""
    position = tx.next_position()
    added = tx.execute(
        "INSERT OR IGNORE INTO to_device_requests (device, digest, position) VALUES (?, ?, ?)",
        (device, digest, position),
    ).rowcount
    if added and digest[0] % _LOOK_FOR_OLD_EVERY == 0:
        tx.execute(
            "DELETE FROM to_device_requests WHERE device = ?1 AND position <= (SELECT position FROM "
            "to_device_requests WHERE device = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)",
            (device, REMEMBERED_REQUESTS),
        )
    return added > 0


def is_new_message(tx: WriteTransaction, server: int, digest: bytes) -> bool:
    """Remember a message of another server (by number) by a digest of its ID; whether it was not remembered already."""
    position = tx.next_position()
    added = tx.execute(
        "INSERT OR IGNORE INTO received_messages (server, digest, position) VALUES (?, ?, ?)",
        (server, digest, position),
    ).rowcount
    if added and digest[0] == 0:
        tx.execute(
            "DELETE FROM received_messages WHERE server = ?1 AND position <= (SELECT position FROM "
            "received_messages WHERE server = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)",
            (server, REMEMBERED_MESSAGES),
        )
    return added > 0
