"""What follows from a sticky event, and who must be told of the sticky events that are there already.

spec: MSC4354
"""

from __future__ import annotations

from tinyserver.protocol.identifiers import domain_of
from tinyserver.protocol.sticky import sticky_until
from tinyserver.storage import events, outgoing, server_stays, sticky_events
from tinyserver.storage.sticky_events import StickyRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import WriteTransaction

MAX_OF_ROOM = 500
"""How many sticky events of a room are told at once: the newest."""


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
