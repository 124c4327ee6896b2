"""Single events that a reader asks for by their IDs."""

from __future__ import annotations

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import NotFound
from tinyserver.rooms.aggregations import Aggregations
from tinyserver.rooms.visibility import RoomView
from tinyserver.storage import events
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction


def visible_event(
    tx: ReadTransaction, view: RoomView, event_id: str, ignored: frozenset[int] = frozenset()
) -> tuple[StoredEvent, int]:
    """An event of the room's timeline that the reader may see, and its place.

    Args:
        ignored: users (nids) whose messages the reader does not want.

    Raises:
        NotFound: there is none.
    """
    stored = events.by_id(tx, event_id)
    if stored is None or stored.room != view.room.nid or stored.place is None or not view.sight.sees(stored):
        raise no_event(event_id)
    if stored.event.state_key is None and stored.sender_nid in ignored:
        raise no_event(event_id)
    return stored, stored.place


def no_event(event_id: str) -> NotFound:
    """There is no such event, or the reader may not see it: they are not told which."""
    return NotFound(f"There is no event {event_id[:255]} in this room that you could see")


def aggregations_for(
    tx: ReadTransaction, view: RoomView, requester: Requester, ignored: frozenset[int]
) -> Aggregations:
    """What is bundled with the events of a room for somebody who ignores some users (nids)."""
    return Aggregations(tx, view.room.nid, requester.user_nid, view.sight, ignored)
