"""The power levels of a room that replaces another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tinyserver.protocol.canonical_json import MAX_INTEGER, MIN_INTEGER
from tinyserver.protocol.identifiers import is_valid_user_id
from tinyserver.protocol.power_levels import LEVEL_DEFAULTS, parse_level, room_creators
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.rooms.creation import default_power_levels
from tinyserver.storage import room_state
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

_TOMBSTONE = "m.room.tombstone"
_ADMIN = 100
_TOMBSTONE_OF_CREATORS = 150
_TABLES = ("users", "events", "notifications")


def levels_for_upgrade(tx: ReadTransaction, old: RoomRow, new: RoomRow, user_id: str) -> dict[str, Any]:
    """The content of the new room's `m.room.power_levels`: those of the old room as the new version wants them.

    Creators whose power was infinite get what it takes to do everything in a room that has no such creators, and become
    administrators in one that has others. Where creators are above all others, only they may replace the new room,
    unless somebody decided otherwise in a room of the same kind.

    Args:
        user_id: who upgrades the room.

    spec: client-server-api#room-upgrades, client-server-api#creation (step 3)
    """
    stored = room_state.event_at(tx, old.state, "m.room.power_levels")
    if stored is None:
        return default_power_levels(new.version, user_id, [])
    levels = _readable(stored.event.content, old.version)
    events = levels["events"]
    if new.version.privileged_creators:
        state_default = levels.get("state_default", LEVEL_DEFAULTS["state_default"])
        decided = events.get(_TOMBSTONE, 0) if old.version.privileged_creators else 0
        if decided <= state_default:
            events[_TOMBSTONE] = min(max(_TOMBSTONE_OF_CREATORS, state_default + 1), MAX_INTEGER)
    elif old.version.privileged_creators and _TOMBSTONE in events:
        events[_TOMBSTONE] = min(events[_TOMBSTONE], _ADMIN)
    old_create = room_state.event_at(tx, old.state, "m.room.create")
    new_create = room_state.event_at(tx, new.state, "m.room.create")
    assert old_create is not None
    assert new_create is not None
    users = levels["users"]
    if old.version.privileged_creators:
        enough = _ADMIN if new.version.privileged_creators else max([_ADMIN, *_all_levels(levels)])
        users |= dict.fromkeys(sorted(room_creators(old_create.event)), enough)
    if new.version.privileged_creators:
        for creator in room_creators(new_create.event):
            users.pop(creator, None)
    return levels


def _readable(content: Mapping[str, Any], version: RoomVersion) -> dict[str, Any]:
    """Power levels with plain integers only: texts and fractions, which old versions take, become what they stand for
    there; what stands for nothing goes."""
    levels: dict[str, Any] = {}
    for name, value in content.items():
        if name not in _TABLES and (level := _level(value, version)) is not None:
            levels[name] = level
    for name in _TABLES:
        if name not in content and name not in ("users", "events"):
            continue
        table = content.get(name)
        entries = table.items() if isinstance(table, dict) else ()
        levels[name] = {key: level for key, value in entries if (level := _level(value, version)) is not None}
    levels["users"] = {user: level for user, level in levels["users"].items() if is_valid_user_id(user)}
    return levels


def _level(value: object, version: RoomVersion) -> int | None:
    level = parse_level(value, version)
    return None if level is None else max(MIN_INTEGER, min(MAX_INTEGER, level))


def _all_levels(levels: Mapping[str, Any]) -> Iterator[int]:
    for value in levels.values():
        yield from value.values() if isinstance(value, dict) else (value,)
