"""Memberships of local users in rooms that this server is not in: invites and knocks, and their end.

All that is known of such a room is the member event and, in its `unsigned`, the stripped state that came with it.

spec: client-server-api#stripped-state, server-server-api#inviting-to-a-room
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyserver.protocol.client_events import prune_stripped_state
from tinyserver.protocol.events import Event
from tinyserver.rooms.append import MEMBERSHIPS, EventFollower
from tinyserver.storage import events, memberships, names, rooms
from tinyserver.storage.events import NewEvent
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_STRIPPED = 60
"""How many events of stripped state are kept of what another server sent."""


def is_resident(tx: ReadTransaction, room: RoomRow | None) -> bool:
    """Whether this server is in a room, or is all that is left of it: it can do things there by itself."""
    return room is not None and bool(room.state) and (memberships.any_local_member(tx, room.nid) or room.joined == 0)


def with_stripped_state(event: Event, key: str, state: object) -> Event:
    """A member event that carries stripped state of its room, as it is kept.

    Args:
        key: `invite_room_state` or `knock_room_state`.
        state: as another server sent it; what is no state event is left out.
    """
    kept = prune_stripped_state(state)[:MAX_STRIPPED]
    pdu: dict[str, Any] = {**event.pdu, "unsigned": {key: kept}}
    return Event.from_trusted(pdu, event.version, event.event_id)


def set_out_of_band(tx: WriteTransaction, event: Event, followers: Sequence[EventFollower] = ()) -> StoredEvent | None:
    """Make a checked member event the membership of a local user in a room that this server is not in.

    Args:
        event: its state key is the local user.
        followers: who is told of it.

    Returns:
        The event as stored; None if it is so already.
    """
    room = rooms.find(tx, event.room_id) or rooms.create(tx, event.room_id, event.version)
    assert event.state_key is not None
    user = names.intern(tx, event.state_key)
    before = memberships.get(tx, room.nid, user)
    if before is not None and events.get(tx, before.event).event_id == event.event_id:
        return None
    position = tx.next_position()
    stored = events.store(
        tx,
        NewEvent(
            nid=position,
            room=room.nid,
            event=event,
            place=None,
            flags=int(Flag.OUTLIER),
            state=None,
            auth=tuple(sorted(events.find_many(tx, event.auth_event_ids).values())),
            replaces=None if before is None else before.event,
            aside=True,
        ),
    )
    memberships.set_membership(
        tx,
        room=room.nid,
        user=user,
        membership=MEMBERSHIPS[event.membership or "leave"],
        event=stored.nid,
        position=position,
        is_local=True,
    )
    for follower in followers:
        follower.note_event(tx, stored)
    return stored


def member_event_of(tx: ReadTransaction, room: RoomRow, user_id: str) -> Event | None:
    """The member event by which a local user has the membership that they have."""
    user = names.find(tx, user_id)
    row = None if user is None else memberships.get(tx, room.nid, user)
    return None if row is None else events.get(tx, row.event).event
