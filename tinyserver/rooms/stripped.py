"""Which part of a room's state helps those outside to identify it: for invites and knocks.

spec: client-server-api#stripped-state
"""

from __future__ import annotations

from tinyserver.storage import room_state
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction

STRIPPED_TYPES = (
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
)


def stripped_events(tx: ReadTransaction, root: int, sender: str | None = None) -> list[StoredEvent]:
    """The events of a state that are told to somebody outside.

    Args:
        sender: who invites them, if anybody does: their member event is told, too.
    """
    keys = [(event_type, "") for event_type in STRIPPED_TYPES]
    if sender is not None:
        keys.append(("m.room.member", sender))
    found = room_state.events_at(tx, root, keys)
    return [found[key] for key in keys if key in found]
