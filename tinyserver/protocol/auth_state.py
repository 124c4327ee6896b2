"""What the authorisation rules ask of a room's state, and how they refuse."""

from typing import Final, Protocol

from tinyserver.protocol.errors import Forbidden
from tinyserver.protocol.events import Event
from tinyserver.protocol.power_levels import PowerLevels, room_creators

StateMapKey = tuple[str, str]
"""Event type and state key."""

CREATE: Final = ("m.room.create", "")
POWER_LEVELS: Final = ("m.room.power_levels", "")
JOIN_RULES: Final = ("m.room.join_rules", "")


class AuthError(Forbidden):
    """The authorisation rules refuse the event; ``message`` says why."""


class StateLookup(Protocol):
    """Room state as the rules see it: any mapping of keys to events has this method."""

    def get(self, key: StateMapKey, /) -> Event | None:
        """The current event with this type and state key, if any."""


class AuthState:
    """What the rules ask of the room's state: who created it, who is in it, who may what."""

    __slots__ = ("_power_levels", "_state", "create", "version")

    def __init__(self, create: Event, state: StateLookup) -> None:
        self.create = create
        self.version = create.version
        self._state = state
        self._power_levels: PowerLevels | None = None

    @property
    def power_levels(self) -> PowerLevels:
        """The power levels in force."""
        if self._power_levels is None:
            event = self._state.get(POWER_LEVELS)
            content = None if event is None else event.content
            self._power_levels = PowerLevels(content, room_creators(self.create), self.version)
        return self._power_levels

    @property
    def power_levels_event(self) -> Event | None:
        """The current ``m.room.power_levels`` event."""
        return self._state.get(POWER_LEVELS)

    @property
    def join_rule(self) -> str:
        """The current join rule; ``invite`` where none is set."""
        event = self._state.get(JOIN_RULES)
        rule = "invite" if event is None else event.content.get("join_rule", "invite")
        return rule if isinstance(rule, str) else "invite"

    def membership(self, user_id: str) -> str:
        """The user's current membership; ``leave`` for those who never were in the room."""
        event = self._state.get(("m.room.member", user_id))
        return "leave" if event is None else event.membership or "leave"

    def third_party_invite(self, token: str) -> Event | None:
        """The ``m.room.third_party_invite`` event with this token."""
        return self._state.get(("m.room.third_party_invite", token))
