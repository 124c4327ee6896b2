"""Applying redactions to stored events.

spec: client-server-api#redactions, rooms/v3#handling-redactions
"""

from __future__ import annotations

from tinyserver.protocol.identifiers import domain_of
from tinyserver.storage import events, graph, relations, room_state, search_index
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def redact_if_allowed(tx: WriteTransaction, room: RoomRow, redaction: StoredEvent) -> None:
    """Reduce the event that a redaction names, if it is here and its sender may.

    A redaction whose target is not here yet waits for it.
    """
    target_id = redaction.event.redacts
    if target_id is None:
        return
    target = events.by_id(tx, target_id)
    if target is None:
        graph.await_target(tx, redaction, target_id)
        return
    if target.room != room.nid or target.flags & Flag.REDACTED or target.event.type == "m.room.create":
        return
    if not may_redact(tx, redaction, target):
        return
    relations.unrelate(tx, target)
    search_index.remove(tx, target)
    events.apply_redaction(tx, target, redaction.nid)


def may_redact(tx: ReadTransaction, redaction: StoredEvent, target: StoredEvent) -> bool:
    """Whether a redaction that is part of the room takes effect: its sender has the power to redact the events of
    others, or the redacted event came from the sender's own server."""
    if domain_of(redaction.event.sender) == domain_of(target.event.sender):
        return True
    if redaction.state is None:
        return False
    levels = room_state.power_levels(tx, redaction.state)
    return levels.user_level(redaction.event.sender) >= levels.redact


def redactions_waiting_for(tx: WriteTransaction, room: RoomRow, stored: StoredEvent) -> list[StoredEvent]:
    """The redactions that came before the event which they redact; they stop waiting."""
    waiting = graph.awaiting(tx, room.nid, stored.event_id)
    if waiting:
        graph.stop_awaiting(tx, room.nid, stored.event_id)
    return [events.get(tx, nid) for nid in waiting]
