"""What goes into the next transaction to a server: read from the store, the oldest first.

spec: server-server-api#transactions
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from tinyserver.encryption.published import list_update_edu
from tinyserver.protocol import canonical_json
from tinyserver.protocol.identifiers import domain_of
from tinyserver.storage import device_list_log, events, outgoing, outgoing_messages
from tinyserver.storage.outgoing_messages import OutgoingMessage
from tinyserver.storage.transaction import ReadTransaction

MAX_PDUS = 50
MAX_KEPT_EDUS = 90
"""How many EDUs that are kept go into one transaction: some room is left for the others."""
MAX_MESSAGE_BYTES = 1024 * 1024
"""Bytes of messages to devices in one transaction, as long as there is more than one."""


@dataclass(slots=True)
class Portion:
    """Everything that a server is owed up to the position `end`. `txn_id` follows from what is in it; "" where that
    is nothing. Where it holds as many events as it may, `last_event` is the ID of the last one in the room that most of
    them belong to."""

    end: int
    pdus: list[dict[str, Any]] = field(default_factory=list)
    edus: list[dict[str, Any]] = field(default_factory=list)
    txn_id: str = ""
    last_event: str = ""


def next_portion(tx: ReadTransaction, server: int, server_name: str, after: int, until: int) -> Portion:
    """The oldest of what a server (by number) lacks of what is kept, after a position and up to another."""
    end = outgoing.next_events(tx, server, after, until, MAX_PDUS)[1]
    messages = outgoing_messages.waiting(tx, server, after, end, MAX_KEPT_EDUS, MAX_MESSAGE_BYTES)
    if messages and outgoing_messages.waiting(tx, server, messages[-1].position, end, 1, 0):
        end = messages[-1].position
    room = MAX_KEPT_EDUS - len(messages) + 1
    # What is told of a device depends on where the portion ends: it is read again for a shorter one.
    while len(updates := device_list_log.updates_for(tx, server, after, end, room + 1)) > room:
        end = updates[-2].position
    messages = [message for message in messages if message.position <= end]
    nids, end = outgoing.next_events(tx, server, after, end, MAX_PDUS)
    stored = events.get_many(tx, nids)
    kept = [stored[nid].event for nid in nids]
    told = [event for event in kept if domain_of(event.sender) != server_name]
    portion = Portion(end, [event.pdu for event in told])
    if told and len(nids) == MAX_PDUS:
        busiest = Counter(event.room_id for event in told).most_common(1)[0][0]
        portion.last_event = [event.event_id for event in told if event.room_id == busiest][-1]
    portion.edus = [_message_edu(message) for message in messages]
    portion.edus += [list_update_edu(tx, update) for update in updates]
    if portion.pdus or portion.edus:
        names = [event.event_id for event in kept] + [message.message_id for message in messages]
        names += [f"{update.user} {update.device} {update.stream_id} {update.position}" for update in updates]
        portion.txn_id = blake2b("\n".join(names).encode(), digest_size=16).hexdigest()
    return portion


def _message_edu(message: OutgoingMessage) -> dict[str, Any]:
    content = {
        "sender": message.sender,
        "type": message.type,
        "message_id": message.message_id,
        "messages": canonical_json.loads(message.messages),
    }
    return {"edu_type": "m.direct_to_device", "content": content}
