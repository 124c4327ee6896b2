"""Outliers: events that are known for their content only, as auth events or as part of a state that others told.

They are stored after their auth events and authorised against these; no state around them is known, and no client sees
them.

spec: server-server-api#checks-performed-on-receipt-of-a-pdu
"""

from __future__ import annotations

from tinyserver.protocol.events import Event
from tinyserver.rooms.ancestors import MissingAncestors
from tinyserver.rooms.authorising import is_allowed_by_auth_events
from tinyserver.storage import events
from tinyserver.storage.events import NewEvent
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import WriteTransaction


def store_outlier(tx: WriteTransaction, room: RoomRow, event: Event, create: Event | None = None) -> StoredEvent:
    """Store a checked event (format, hashes, signatures) for its content; rejected if its auth events forbid it.

    Args:
        create: the room's create event, where the room version leaves it out of the auth events.

    Returns:
        The event; as it was if it is stored already.

    Raises:
        MissingAncestors: its auth events are not all here.
    """
    known = events.by_id(tx, event.event_id)
    if known is not None:
        return known
    found = events.find_many(tx, event.auth_event_ids)
    missing = [event_id for event_id in event.auth_event_ids if event_id not in found]
    if missing:
        raise MissingAncestors(missing)
    auth = list(events.get_many(tx, set(found.values()), keep=False).values())
    flags = Flag.OUTLIER
    if not is_allowed_by_auth_events(room, event, auth, create):
        flags |= Flag.REJECTED
    return events.store(
        tx,
        NewEvent(
            nid=tx.next_position(),
            room=room.nid,
            event=event,
            place=None,
            flags=int(flags),
            state=None,
            auth=tuple(sorted(found.values())),
        ),
    )
