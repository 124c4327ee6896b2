"""What the content of a state event has to be changed to when its room is upgraded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tinyserver.protocol.canonical_json import MAX_INTEGER, MIN_INTEGER
from tinyserver.protocol.room_versions import RoomVersion


def content_for_upgrade(
    event_type: str, content: Mapping[str, Any], old: RoomVersion, new: RoomVersion
) -> dict[str, Any]:
    """The content of a state event of one room version as another version can hold it."""
    changed: dict[str, Any] = dict(content)
    if new.strict_canonical_json and not old.strict_canonical_json:
        changed = _with_strict_numbers(changed)
    if event_type == "m.room.join_rules":
        changed = _join_rules(changed, new)
    return changed


def _with_strict_numbers(value: Any) -> Any:
    """A JSON value with its numbers cut to the integers that newer versions allow."""
    if isinstance(value, dict):
        return {key: _with_strict_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_strict_numbers(inner) for inner in value]
    if isinstance(value, float):
        value = int(value) if math.isfinite(value) else 0
    if type(value) is int:
        return max(MIN_INTEGER, min(MAX_INTEGER, value))
    return value


def _join_rules(content: dict[str, Any], new: RoomVersion) -> dict[str, Any]:
    """The nearest join rule that the version knows; never one that lets more people in."""
    rule = content.get("join_rule")
    if rule == "knock_restricted" and not new.knock_restricted:
        rule = "restricted" if new.restricted else "knock"
    if rule == "restricted" and not new.restricted:
        rule = "invite"
    if rule == "knock" and not new.knock:
        rule = "invite"
    if rule in ("restricted", "knock_restricted"):
        return {**content, "join_rule": rule}
    return {**{key: value for key, value in content.items() if key != "allow"}, "join_rule": rule}
