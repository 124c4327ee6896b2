"""Power levels: who may do what, read from ``m.room.power_levels`` and ``m.room.create`` as the room version says.

spec: client-server-api#permissions, rooms/v1#deprecated-event-content-schemas, rooms/v12#authorisation-rules
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import RoomVersion

INFINITE_LEVEL: Final = 2**53
"""The level of the creators of a version 12 room: above every level that an event can name there."""

CREATOR_LEVEL_WITHOUT_EVENT: Final = 100
"""The creator's level as long as the room has no ``m.room.power_levels`` event."""

LEVEL_DEFAULTS: Final[Mapping[str, int]] = {
    "users_default": 0,
    "events_default": 0,
    "state_default": 50,
    "ban": 50,
    "redact": 50,
    "kick": 50,
    "invite": 0,
}
"""The named levels of ``m.room.power_levels`` and what they are where the event, or the name in it, is missing."""

NOTIFICATION_DEFAULT: Final = 50

_NO_LEVELS: Final[Mapping[str, Any]] = {}
_NO_USERS: Final[frozenset[str]] = frozenset()
_INTEGER_IN_STRING: Final = re.compile(r"\s*([+-]?[0-9]{1,400})\s*")  # more digits are beyond any double


def parse_level(value: object, version: RoomVersion) -> int | None:
    """The power level that a JSON value stands for, or ``None`` if it stands for none in this room version.

    Old versions also take integers in strings (``" +050 "``) and cut floats at the decimal point.

    spec: rooms/v1#deprecated-event-content-schemas
    """
    if type(value) is int:  # bool is an int too, and no level
        return value
    if isinstance(value, str):
        if version.power_levels_accept_strings and (found := _INTEGER_IN_STRING.fullmatch(value)):
            return int(found[1])
    elif isinstance(value, float) and version.power_levels_accept_floats and math.isfinite(value):
        return int(value)
    return None


def room_creators(create: Event) -> frozenset[str]:
    """The user IDs that count as creators of the room which this ``m.room.create`` event made.

    From version 12 these are its sender and its ``additional_creators``; before, exactly one: its sender, or in the
    oldest versions the ``creator`` of its content (none, if that is missing).
    """
    version = create.version
    if version.privileged_creators:
        more = create.content.get("additional_creators")
        if isinstance(more, list):
            return frozenset((create.sender, *(user for user in more if isinstance(user, str))))
        return frozenset((create.sender,))
    creator = create.content.get("creator") if version.creator_in_content else create.sender
    return frozenset((creator,)) if isinstance(creator, str) else _NO_USERS


def _mapping_at(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name, _NO_LEVELS)
    return found if isinstance(found, dict) else _NO_LEVELS


class PowerLevels:
    """The power levels in force at one place of a room. Cheap to make: nothing is computed before it is asked for.

    :param content: the content of the current ``m.room.power_levels`` event, ``None`` if the room has none.
    :param creators: the room's creators, see :func:`room_creators`.
    :param version: the room's version.

    Values that are no level in this room version are passed over in favour of the default: the authorisation rules
    refuse them, save in the first power levels event of old rooms.
    """

    __slots__ = ("_content", "_creators", "_users", "_version")

    def __init__(self, content: Mapping[str, Any] | None, creators: Collection[str], version: RoomVersion) -> None:
        self._content = content
        self._creators = creators
        self._version = version
        self._users = _NO_LEVELS if content is None else _mapping_at(content, "users")

    def user_level(self, user_id: str) -> int:
        """The user's power level. Creators of version 12 rooms have :data:`INFINITE_LEVEL`."""
        if user_id in self._creators:
            if self._version.privileged_creators:
                return INFINITE_LEVEL
            if self._content is None:
                return CREATOR_LEVEL_WITHOUT_EVENT
        level = self._users.get(user_id)
        if type(level) is int:
            return level
        if level is not None:
            parsed = parse_level(level, self._version)
            if parsed is not None:
                return parsed
        return self._named("users_default")

    def event_level(self, event_type: str, is_state: bool) -> int:
        """The *required power level* to send an event of this type."""
        if self._content is not None:
            level = parse_level(_mapping_at(self._content, "events").get(event_type), self._version)
            if level is not None:
                return level
        return self._named("state_default" if is_state else "events_default")

    @property
    def ban(self) -> int:
        """The *ban level*: needed to ban, and besides the kick level to lift a ban."""
        return self._named("ban")

    @property
    def kick(self) -> int:
        """The *kick level*: needed to remove somebody from the room."""
        return self._named("kick")

    @property
    def invite(self) -> int:
        """The *invite level*: needed to invite somebody."""
        return self._named("invite")

    @property
    def redact(self) -> int:
        """The *redact level*: needed to redact the events of others."""
        return self._named("redact")

    def notification_level(self, key: str = "room") -> int:
        """The level needed to notify everybody with ``@room`` (or by another key of ``notifications``)."""
        if self._content is not None:
            level = parse_level(_mapping_at(self._content, "notifications").get(key), self._version)
            if level is not None:
                return level
        return NOTIFICATION_DEFAULT

    def _named(self, name: str) -> int:
        if self._content is not None:
            level = self._content.get(name)
            if type(level) is int:
                return level
            parsed = parse_level(level, self._version)
            if parsed is not None:
                return parsed
        return LEVEL_DEFAULTS[name]
