"""Spaces for other servers: a room, and its children as far as the other server could get into them.

spec: server-server-api#spaces, client-server-api#spaces
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tinyserver.directory.descriptions import describe
from tinyserver.federation.serving.rooms import check_acl
from tinyserver.protocol.client_events import stripped_state
from tinyserver.protocol.errors import Forbidden, NotFound
from tinyserver.rooms.restricted import allowed_rooms
from tinyserver.storage import memberships, names, room_servers, room_state, rooms, state_trie
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction

MAX_CHILDREN = 500
_OPEN = ("public", "knock", "knock_restricted")
_ORDER = re.compile(r"[\x20-\x7e]{0,50}\Z")


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
            room = _resident_room(tx, room_id)
            if room is None or not _is_accessible(tx, room, origin):
                raise NotFound(f"There is no room {room_id[:255]} that {origin} could get into")
            found = [child for child in _children(tx, room) if not suggested_only or _is_suggested(child)]
            listed = sorted(found, key=_place)[:MAX_CHILDREN]
            children, inaccessible = [], []
            for stored in listed:
                child_id = stored.event.state_key or ""
                child = _resident_room(tx, child_id)
                if child is None:
                    continue
                if _is_accessible(tx, child, origin):
                    children.append(_summary(tx, child))
                else:
                    inaccessible.append(child_id)
            shown = {**_summary(tx, room), "children_state": [_child_state(stored) for stored in listed]}
            return {"room": shown, "children": children, "inaccessible_children": inaccessible}

        return await self._db.read(step)


def _resident_room(tx: ReadTransaction, room_id: str) -> RoomRow | None:
    """A room that this server is in."""
    room = rooms.find(tx, room_id)
    return room if room is not None and room.state and memberships.any_local_member(tx, room.nid) else None


def _is_accessible(tx: ReadTransaction, room: RoomRow, server: str) -> bool:
    """Whether users of a server are in a room, or could read, join or knock."""
    try:
        check_acl(tx, room, server)
    except Forbidden:
        return False
    seen = describe(tx, room)
    if seen.world_readable or seen.join_rule in _OPEN:
        return True
    if room_servers.is_in_room(tx, room.nid, server) or room_servers.is_invited(tx, room.nid, server):
        return True
    allowed = (_resident_room(tx, room_id) for room_id in allowed_rooms(tx, room.state))
    return any(other is not None and room_servers.is_in_room(tx, other.nid, server) for other in allowed)


def _children(tx: ReadTransaction, room: RoomRow) -> Iterator[StoredEvent]:
    """The events by which a space names its children: those that say through which servers one gets there."""
    child_type = names.find(tx, "m.space.child")
    is_space = room_state.content_at(tx, room.state, "m.room.create").get("type") == "m.space"
    if child_type is None or not is_space:
        return
    nids = (nid for _, nid in state_trie.items_of_type(tx, room.state, child_type))
    for stored in room_state.walk(tx, nids):
        via = stored.event.content.get("via")
        if isinstance(via, list) and any(isinstance(server, str) for server in via):
            yield stored


def _is_suggested(child: StoredEvent) -> bool:
    return child.event.content.get("suggested") is True


def _place(child: StoredEvent) -> tuple[bool, str, int, str]:
    """Where a child stands among its siblings. spec: client-server-api#ordering-of-children-within-a-space"""
    order = child.event.content.get("order")
    valid = order if isinstance(order, str) and _ORDER.match(order) else None
    return valid is None, valid or "", child.event.origin_server_ts, child.event.state_key or ""


def _child_state(child: StoredEvent) -> dict[str, Any]:
    return {**stripped_state(child.event), "origin_server_ts": child.event.origin_server_ts}


def _summary(tx: ReadTransaction, room: RoomRow) -> dict[str, Any]:
    summary = {**describe(tx, room).chunk(), "room_version": room.version.identifier}
    algorithm = room_state.content_at(tx, room.state, "m.room.encryption").get("algorithm")
    if isinstance(algorithm, str):
        summary["encryption"] = algorithm
    allowed = list(allowed_rooms(tx, room.state))
    if allowed:
        summary["allowed_room_ids"] = allowed
    return summary
