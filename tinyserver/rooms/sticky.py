"""What follows from a sticky event, and who must be told of the sticky events that are there already.

spec: MSC4354
"""

from __future__ import annotations

from tinyserver.protocol.identifiers import domain_of
from tinyserver.protocol.sticky import sticky_until
from tinyserver.storage import events, outgoing, server_stays, sticky_events
from tinyserver.storage.sticky_events import StickyRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction

MAX_OF_ROOM = 500
"""How many sticky events of a room are told at once: the newest."""


def hold_back(tx: WriteTransaction, stored: StoredEvent, now_ms: int) -> None:
    """An event has been soft-failed at a time. If it is sticky, it may be told yet, when its sender's membership has
    changed."""
    until = sticky_until(stored.event.pdu, now_ms)
    if (
        until is not None
        and until > now_ms
        and len(sticky_events.held_back(tx, stored.room, MAX_OF_ROOM)) < MAX_OF_ROOM
    ):
        sticky_events.add(tx, StickyRow(stored.nid, stored.room, sticky_events.HELD_BACK, until), now_ms)


def held_back_of(tx: ReadTransaction, member: StoredEvent, now_ms: int) -> list[StoredEvent]:
    """What was held back of the user whose membership an event changes."""
    event = member.event
    if event.type != "m.room.member":
        return []
    rows = [row for row in sticky_events.held_back(tx, member.room, MAX_OF_ROOM) if row.until > now_ms]
    held = events.get_many(tx, [row.event for row in rows], keep=False).values()
    return [stored for stored in held if stored.event.sender == event.state_key]


def release(tx: WriteTransaction, stored: StoredEvent) -> None:
    """Tell of an event that was held back. It has no place in the timeline."""
    sticky_events.release(tx, stored.nid, tx.changed(Topic.TIMELINE, stored.room))


def note(tx: WriteTransaction, stored: StoredEvent, now_ms: int, server_name: str) -> None:
    """An event has become part of a room's timeline at a time.

    If it is sticky, it is kept as such. If with it the first user of another server comes in, this server's sticky
    events are owed to that server; the others in the room get them once more, and know them.
    """
    if stored.place is None:
        return
    until = sticky_until(stored.event.pdu, now_ms)
    if until is not None and until > now_ms:
        sticky_events.add(tx, StickyRow(stored.nid, stored.room, stored.place, until), now_ms)
    event = stored.event
    if event.membership != "join" or event.state_key is None:
        return
    server = domain_of(event.state_key)
    if server == server_name or not server_stays.came_at(tx, stored.room, server, stored.place):
        return
    for row in sticky_events.in_room(tx, stored.room, 0, stored.place, MAX_OF_ROOM):
        sticky = events.get(tx, row.event)
        if row.until > now_ms and domain_of(sticky.event.sender) == server_name:
            outgoing.owe_again(tx, sticky)
