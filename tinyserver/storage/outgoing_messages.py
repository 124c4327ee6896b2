"""Messages to devices of users of other servers, in the order in which they were sent, until the server has them.

spec: server-server-api#send-to-device-messaging
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from tinyserver.storage import names
from tinyserver.storage.to_device import Queue
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """What becomes one `m.direct_to_device` EDU; `messages` is a JSON object of contents by user and device ID."""

    position: int
    sender: str
    type: str
    message_id: str
    messages: bytes


def queue(tx: ReadTransaction, server: int) -> Queue:
    """How much waits for a server (by number)."""
    row = tx.row("SELECT messages, bytes FROM outgoing_message_queues WHERE server = ?", (server,))
    return Queue(0, 0) if row is None else Queue(*row)


def add(tx: WriteTransaction, server: int, sender: int, event_type: str, messages: bytes) -> None:
    """Queue messages (a JSON object) for a server."""
    position = tx.changed(Topic.OUTGOING_MESSAGES, server)
    # Random, not the position: a database that is restored from a copy gives positions out again.
    message_id = secrets.token_urlsafe(16)
    tx.execute(
        "INSERT INTO outgoing_messages VALUES (?, ?, ?, ?, ?, ?)",
        (position, server, sender, event_type, message_id, messages),
    )
    tx.execute(
        "INSERT INTO outgoing_message_queues VALUES (?, 1, ?) "
        "ON CONFLICT (server) DO UPDATE SET messages = messages + 1, bytes = bytes + excluded.bytes",
        (server, len(messages)),
    )


def waiting(
    tx: ReadTransaction, server: int, after: int, until: int, limit: int, max_bytes: int
) -> list[OutgoingMessage]:
    """The oldest messages for a server at a position in (after, until]: at least one if there is any, then as long as
    they have not more than `max_bytes` together."""
    found: list[OutgoingMessage] = []
    size = 0
    for position, sender, event_type, message_id, messages in tx.execute(
        "SELECT position, sender, type, message_id, messages FROM outgoing_messages "
        "WHERE server = ? AND position > ? AND position <= ? ORDER BY position LIMIT ?",
        (server, after, until, limit),
    ):
        size += len(messages)
        if found and size > max_bytes:
            break
        found.append(OutgoingMessage(position, names.text(tx, sender), event_type, message_id, messages))
    return found


def servers(tx: ReadTransaction) -> dict[int, int]:
    """The servers (by number) that messages wait for, with the position of the newest one."""
    return {
        server: tx.value("SELECT max(position) FROM outgoing_messages WHERE server = ?", (server,))
        for (server,) in tx.rows("SELECT server FROM outgoing_message_queues WHERE messages > 0")
    }


def remove(tx: WriteTransaction, sent: Mapping[int, int]) -> None:
    """Servers (by number) have everything up to a position: those messages can go."""
    for server, until in sent.items():
        count, size = tx.row(
            "SELECT count(*), coalesce(sum(length(messages)), 0) FROM outgoing_messages "
            "WHERE server = ? AND position <= ?",
            (server, until),
        )
        if not count:
            continue
        tx.execute("DELETE FROM outgoing_messages WHERE server = ? AND position <= ?", (server, until))
        tx.execute(
            "UPDATE outgoing_message_queues SET messages = messages - ?, bytes = bytes - ? WHERE server = ?",
            (count, size, server),
        )
        tx.execute("DELETE FROM outgoing_message_queues WHERE server = ? AND messages <= 0", (server,))
