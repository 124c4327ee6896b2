"""A space's children, and how rooms of a space are described to those who look at it.

spec: client-server-api#spaces
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tinyserver.directory.descriptions import describe
from tinyserver.protocol.client_events import stripped_state
from tinyserver.rooms.restricted import allowed_rooms
from tinyserver.storage import memberships, names, room_state, rooms, state_trie
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction

MAX_CHILDREN = 500
"""How many children of a space are looked at: the first in the order of the space."""
_ORDER = re.compile(r"[\x20-\x7e]{0,50}\Z")


def resident_room(tx: ReadTransaction, room_id: str) -> RoomRow | None:
    """A room that this server is in, so that what it knows of it is true."""
    room = rooms.find(tx, room_id)
    return room if room is not None and room.state and memberships.any_local_member(tx, room.nid) else None


def children(tx: ReadTransaction, room: RoomRow, *, suggested_only: bool) -> list[StoredEvent]:
    """The events by which a space names its children, in their order; none for a room that is no space."""
    found = [child for child in _named(tx, room) if not suggested_only or child.event.content.get("suggested") is True]
    return sorted(found, key=_place)[:MAX_CHILDREN]


def servers_of(content: dict[str, Any]) -> list[str]:
    """The servers through which one gets to a child, by the content of the event that names it."""
    via = content.get("via")
    return [server for server in via if isinstance(server, str)] if isinstance(via, list) else []


def child_state(child: StoredEvent) -> dict[str, Any]:
    """An event that names a child, as it stands in `children_state`."""
    return {**stripped_state(child.event), "origin_server_ts": child.event.origin_server_ts}


def summary(tx: ReadTransaction, room: RoomRow) -> dict[str, Any]:
    """A room from outside: `RoomSummary` of the specification."""
    told = {**describe(tx, room).chunk(), "room_version": room.version.identifier}
    algorithm = room_state.content_at(tx, room.state, "m.room.encryption").get("algorithm")
    if isinstance(algorithm, str):
        told["encryption"] = algorithm
    allowed = list(allowed_rooms(tx, room.state))
    if allowed:
        told["allowed_room_ids"] = allowed
    return told


def _named(tx: ReadTransaction, room: RoomRow) -> Iterator[StoredEvent]:
    """The children that one can get to."""
    child_type = names.find(tx, "m.space.child")
    is_space = room_state.content_at(tx, room.state, "m.room.create").get("type") == "m.space"
    if child_type is None or not is_space:
        return
    nids = (nid for _, nid in state_trie.items_of_type(tx, room.state, child_type))
    for stored in room_state.walk(tx, nids):
        if servers_of(stored.event.content):
            yield stored


def _place(child: StoredEvent) -> tuple[bool, str, int, str]:
    """Where a child stands among its siblings. spec: client-server-api#ordering-of-children-within-a-space"""
    order = child.event.content.get("order")
    valid = order if isinstance(order, str) and _ORDER.match(order) else None
    return valid is None, valid or "", child.event.origin_server_ts, child.event.state_key or ""
