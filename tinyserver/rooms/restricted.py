"""Joining rooms whose join rule refers to other rooms.

spec: client-server-api#restricted-rooms, server-server-api#restricted-rooms
"""

from __future__ import annotations

from collections.abc import Iterator

from tinyserver.protocol.errors import Forbidden, UnableToGrantJoin
from tinyserver.rooms.access import membership_of
from tinyserver.storage import memberships, names, room_state, rooms
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

_RESTRICTED = ("restricted", "knock_restricted")


def allowed_rooms(tx: ReadTransaction, root: int) -> Iterator[str]:
    """The rooms whose members a state's join rule lets in; none when the rule is not a restricted one."""
    content = room_state.content_at(tx, root, "m.room.join_rules")
    conditions = content.get("allow")
    if content.get("join_rule") not in _RESTRICTED or not isinstance(conditions, list):
        return
    for condition in conditions:
        if isinstance(condition, dict) and condition.get("type") == "m.room_membership":
            room_id = condition.get("room_id")
            if isinstance(room_id, str):
                yield room_id


def is_restricted(tx: ReadTransaction, room: RoomRow) -> bool:
    """Whether the room's join rule refers to other rooms, in a room version that knows such rules."""
    rule = room_state.content_at(tx, room.state, "m.room.join_rules").get("join_rule")
    if rule == "restricted":
        return room.version.restricted
    return rule == "knock_restricted" and room.version.knock_restricted


def authorising_user(tx: ReadTransaction, room: RoomRow, user_id: str, server_name: str) -> str | None:
    """The member of this server in whose name somebody may join a restricted room.

    Returns:
        None where the join rule needs no such thing.

    Raises:
        Forbidden: the user is in none of the rooms that the rule names.
        UnableToGrantJoin: nobody here has the power to let people in.
    """
    if not is_restricted(tx, room):
        return None
    for room_id in allowed_rooms(tx, room.state):
        other = rooms.find(tx, room_id)
        # What is known of a room that everybody here has left is old.
        if other is None or not memberships.any_local_member(tx, other.nid):
            continue
        if membership_of(tx, other, user_id) is Membership.JOIN:
            break
    else:
        raise Forbidden("You are in none of the rooms whose members may join this one")
    levels = room_state.power_levels(tx, room.state)
    for user in memberships.local_members(tx, room.nid):
        candidate = names.text(tx, user)
        if levels.user_level(candidate) >= levels.invite:
            return candidate
    raise UnableToGrantJoin(f"Nobody on {server_name} has the power to let you into this room")
