"""The authorisation rule on ``m.room.power_levels``: nobody gives or takes power that they do not have.

Rule 10 of versions 1 to 5 and 12, rule 9 of versions 6 to 11. The numbers below are those of version 12.

spec: rooms/v1#authorisation-rules ... rooms/v12#authorisation-rules
"""

from collections.abc import Mapping
from typing import Any

from tinyserver.protocol.auth_state import AuthError, AuthState
from tinyserver.protocol.events import Event
from tinyserver.protocol.identifiers import is_valid_user_id
from tinyserver.protocol.power_levels import LEVEL_DEFAULTS, parse_level, room_creators
from tinyserver.protocol.room_versions import RoomVersion


def check_power_levels(event: Event, room: AuthState) -> None:
    """Check a new ``m.room.power_levels`` event against the current one.

    One with a state key other than the empty one has no effect and nothing before it that it could change: the state
    which the servers of the network select for the check (auth events selection) never has an event of its key.

    :raises AuthError: the rule refuses it.
    """
    content, version = event.content, room.version
    check_form(content, version)
    if version.privileged_creators:
        _check_creators_are_not_listed(content, room)
    current = room.power_levels_event
    if current is None or event.state_key:  # rule 10.5
        return
    own = room.power_levels.user_level(event.sender)
    old = current.content
    _check_named_levels(_levels(old, version, new=False), _levels(content, version, new=True), own)
    for name in ("events", "notifications") if version.power_levels_cover_notifications else ("events",):
        _check_entries(name, _entries(old, name, version, new=False), _entries(content, name, version, new=True), own)
    _check_user_changes(
        _entries(old, "users", version, new=False), _entries(content, "users", version, new=True), event.sender, own
    )


def check_form(content: Mapping[str, Any], version: RoomVersion) -> None:
    """Whether some content can be that of an ``m.room.power_levels`` event at all.

    :raises AuthError: it cannot.
    """
    if version.integer_power_levels:
        _check_levels_are_integers(content)
    _check_users(content, version)


def _check_levels_are_integers(content: Mapping[str, Any]) -> None:
    """Rules 10.1 and 10.2."""
    for name in LEVEL_DEFAULTS:
        if name in content and type(content[name]) is not int:
            raise AuthError(f"{name} in the power levels must be an integer.")
    for name in ("events", "notifications"):
        entries = content.get(name, {})
        if not isinstance(entries, dict) or any(type(level) is not int for level in entries.values()):
            raise AuthError(f"{name} in the power levels must be an object of integers.")


def _check_users(content: Mapping[str, Any], version: RoomVersion) -> None:
    """Rule 10.3. User IDs of the historical grammar count."""
    users = content.get("users", {})
    if not isinstance(users, dict):
        raise AuthError("users in the power levels must be an object.")
    for user_id, level in users.items():
        if parse_level(level, version) is None:
            raise AuthError(f"The power level of {user_id} must be an integer.")
        if not is_valid_user_id(user_id):
            raise AuthError(f"users in the power levels names {user_id}, which is not a user ID.")


def _check_creators_are_not_listed(content: Mapping[str, Any], room: AuthState) -> None:
    """Rule 10.4."""
    users = content.get("users", {})
    for user_id in room_creators(room.create):
        if user_id in users:
            raise AuthError(f"{user_id} created the room and has all power: the power levels cannot name them.")


def _check_named_levels(old: Mapping[str, int], new: Mapping[str, int], own: int) -> None:
    """Rule 10.6: ``ban``, ``kick`` and so on."""
    for name in LEVEL_DEFAULTS:
        before, after = old.get(name), new.get(name)
        if before != after:
            _check_within_reach(name, before, own)
            _check_within_reach(name, after, own)


def _check_entries(name: str, old: Mapping[str, int], new: Mapping[str, int], own: int) -> None:
    """Rules 10.7 and 10.8: the entries of ``events`` and ``notifications``."""
    for entry in old.keys() | new.keys():
        before, after = old.get(entry), new.get(entry)
        if before != after:
            _check_within_reach(f"{name}.{entry}", before, own)
            _check_within_reach(f"{name}.{entry}", after, own)


def _check_user_changes(old: Mapping[str, int], new: Mapping[str, int], sender: str, own: int) -> None:
    """Rules 10.9 and 10.10: the entries of ``users``."""
    for user_id in old.keys() | new.keys():
        before, after = old.get(user_id), new.get(user_id)
        if before == after:
            continue
        if user_id != sender and before is not None and before >= own:
            raise AuthError(f"You cannot change the power level of {user_id}: it is not below yours.")
        _check_within_reach(f"users.{user_id}", after, own)


def _check_within_reach(name: str, level: int | None, own: int) -> None:
    if level is not None and level > own:
        raise AuthError(f"You cannot change {name} in the power levels: {level} is above your own level, {own}.")


def _levels(content: Mapping[str, Any], version: RoomVersion, *, new: bool) -> dict[str, int]:
    """The named levels which are present."""
    return _parse({name: content[name] for name in LEVEL_DEFAULTS if name in content}, version, new)


def _entries(content: Mapping[str, Any], name: str, version: RoomVersion, *, new: bool) -> dict[str, int]:
    """The entries of ``events``, ``notifications`` or ``users``."""
    entries = content.get(name, {})
    if isinstance(entries, dict):
        return _parse(entries, version, new)
    if new:
        raise AuthError(f"{name} in the power levels must be an object.")
    return {}


def _parse(levels: Mapping[str, Any], version: RoomVersion, new: bool) -> dict[str, int]:
    """Parse levels. What is none, and got in before there were rules, counts as absent; it cannot be set anew."""
    parsed: dict[str, int] = {}
    for name, value in levels.items():
        level = parse_level(value, version)
        if level is not None:
            parsed[name] = level
        elif new:
            raise AuthError(f"{name} in the power levels is not an integer.")
    return parsed
