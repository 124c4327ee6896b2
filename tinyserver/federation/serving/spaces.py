"""Spaces for other servers: a room, and its children as far as the other server could get into them.

spec: server-server-api#spaces, client-server-api#spaces
"""

from __future__ import annotations

from typing import Any

from tinyserver.directory.descriptions import describe
from tinyserver.directory.space_children import child_state, children, resident_room, summary
from tinyserver.federation.serving.rooms import check_acl
from tinyserver.protocol.errors import Forbidden, NotFound
from tinyserver.rooms.restricted import allowed_rooms
from tinyserver.storage import room_servers, server_stays
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

_OPEN = ("public", "knock", "knock_restricted")


class ServedSpaces:
    """Tells other servers of spaces.

    Args:
        db: where rooms are stored.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def hierarchy(self, origin: str, room_id: str, *, suggested_only: bool) -> dict[str, Any]:
        """A room and its children, as the body of an answer.

        Args:
            suggested_only: only children that the space suggests.

        Raises:
            NotFound: this server is not in the room, or the other one could not get into it.
        """

        def step(tx: ReadTransaction) -> dict[str, Any]:
            room = resident_room(tx, room_id)
            if room is None or not _is_accessible(tx, room, origin):
                raise NotFound(f"There is no room {room_id[:255]} that {origin} could get into")
            listed = children(tx, room, suggested_only=suggested_only)
            accessible, inaccessible = [], []
            for stored in listed:
                child_id = stored.event.state_key or ""
                child = resident_room(tx, child_id)
                if child is None:
                    continue
                if _is_accessible(tx, child, origin):
                    accessible.append(summary(tx, child))
                else:
                    inaccessible.append(child_id)
            shown = {**summary(tx, room), "children_state": [child_state(stored) for stored in listed]}
            return {"room": shown, "children": accessible, "inaccessible_children": inaccessible}

        return await self._db.read(step)


def _is_accessible(tx: ReadTransaction, room: RoomRow, server: str) -> bool:
    """Whether users of a server are in a room, or could read, join or knock."""
    try:
        check_acl(tx, room, server)
    except Forbidden:
        return False
    seen = describe(tx, room)
    if seen.world_readable or seen.join_rule in _OPEN:
        return True
    if server_stays.is_in_room(tx, room.nid, server) or room_servers.is_invited(tx, room.nid, server):
        return True
    allowed = (resident_room(tx, room_id) for room_id in allowed_rooms(tx, room.state))
    return any(other is not None and server_stays.is_in_room(tx, other.nid, server) for other in allowed)
