"""What follows a person from a room to the room that replaced it.

spec: client-server-api#room-upgrades
"""

from __future__ import annotations

from tinyserver.storage import account_data, memberships, names, room_state, rooms
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import WriteTransaction


def carry_settings(tx: WriteTransaction, new: RoomRow, user_id: str) -> None:
    """Give a local user who joins a room the tags that its predecessor has for them.

    Nothing happens where the room replaces none that is known here, or where the user never was in that one.
    """
    predecessor = room_state.content_at(tx, new.state, "m.room.create").get("predecessor")
    old_id = predecessor.get("room_id") if isinstance(predecessor, dict) else None
    old = rooms.find(tx, old_id) if isinstance(old_id, str) else None
    user = names.find(tx, user_id)
    if old is None or user is None or memberships.get(tx, old.nid, user) is None:
        return
    tags = account_data.get(tx, user, old.room_id, "m.tag")
    if tags is not None and account_data.get(tx, user, new.room_id, "m.tag") is None:
        account_data.put(tx, user, new.room_id, "m.tag", tags)
