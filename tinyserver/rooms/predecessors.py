"""What follows a person from a room to the room that replaced it.

spec: client-server-api#room-upgrades
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from tinyserver.protocol.push_rules import RuleChanges, RuleSetSummary, copy_rules_of_room
from tinyserver.storage import account_data, memberships, names, push_rules, room_state, rooms
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def predecessor_of(tx: ReadTransaction, room: RoomRow) -> RoomRow | None:
    """The room that a room has replaced, if it is known here and says itself that it was replaced by this one."""
    named = room_state.content_at(tx, room.state, "m.room.create").get("predecessor")
    old_id = named.get("room_id") if isinstance(named, dict) else None
    old = rooms.find(tx, old_id) if isinstance(old_id, str) else None
    if old is None or not old.state:
        return None
    tombstone = room_state.content_at(tx, old.state, "m.room.tombstone")
    return old if tombstone.get("replacement_room") == room.room_id else None


def carry_settings(tx: WriteTransaction, new: RoomRow, user_id: str) -> None:
    """Give a local user who joins a room what they have set for its predecessor: tags, that it is a direct chat, and
    the push rules that bear its name.

    Nothing happens where the room has no predecessor, or where the user never was in that one.
    """
    old = predecessor_of(tx, new)
    user = names.find(tx, user_id)
    if old is None or user is None or memberships.get(tx, old.nid, user) is None:
        return
    tags = account_data.get(tx, user, old.room_id, "m.tag")
    if tags is not None and account_data.get(tx, user, new.room_id, "m.tag") is None:
        account_data.put(tx, user, new.room_id, "m.tag", tags)
    stored = account_data.get(tx, user, None, "m.direct")
    direct: dict[str, Any] = {} if stored is None else orjson.loads(stored)
    changed = False
    for room_ids in direct.values():
        if isinstance(room_ids, list) and old.room_id in room_ids and new.room_id not in room_ids:
            room_ids.append(new.room_id)
            changed = True
    if changed:
        account_data.put(tx, user, None, "m.direct", orjson.dumps(direct))
    _carry_push_rules(tx, user, old.room_id, new.room_id)


def _carry_push_rules(tx: WriteTransaction, user: int, old_id: str, new_id: str) -> None:
    stored = push_rules.get(tx, user)
    if stored is None:
        return
    before = msgspec.json.decode(stored, type=RuleChanges)
    after = copy_rules_of_room(before, old_id, new_id)
    # A copy is of the same shape as what is there already, so that classes tell of it what they told before.
    exact = RuleSetSummary(after).exact
    if after != before and exact == RuleSetSummary(before).exact:
        push_rules.put(tx, user, msgspec.json.encode(after), exact=exact)
