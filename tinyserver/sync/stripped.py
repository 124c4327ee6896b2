"""Stripped state: what somebody sees of a room that they are invited to, or have knocked at.

spec: client-server-api#stripped-state
"""

from __future__ import annotations

from tinyserver.protocol.client_events import prune_stripped_state, stripped_state
from tinyserver.rooms.stripped import STRIPPED_TYPES
from tinyserver.storage import room_state, rooms
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync.updates import StrippedRoom


def stripped_room(tx: ReadTransaction, room: int, room_id: str, member: StoredEvent, position: int) -> StrippedRoom:
    """The stripped state of a room for the user of a member event, which is part of it.

    Where this server is in the room it is taken from the room's state at the position, else from what came with the
    invite or knock.
    """
    root = rooms.state_at(tx, room, position)
    keys = [*((event_type, "") for event_type in STRIPPED_TYPES), ("m.room.member", member.event.sender)]
    found = room_state.events_at(tx, root, keys) if root else {}
    if ("m.room.create", "") in found:
        state = [stripped_state(found[key].event) for key in keys if key in found and found[key].nid != member.nid]
    else:
        unsigned = member.event.pdu.get("unsigned")
        named = unsigned if isinstance(unsigned, dict) else {}
        state = prune_stripped_state(named.get("invite_room_state", named.get("knock_room_state")))
    return StrippedRoom(room, room_id, member, [*state, stripped_state(member.event)])
