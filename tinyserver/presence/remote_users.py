"""Users of other servers as their servers say they are. In memory only, and not more than a bounded number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinyserver.presence.state import OFFLINE, ONLINE, Shown

MAX_USERS = 10_000
"""How many are remembered; those unchanged for longest are forgotten first."""
SILENT_FOR = 2400.0
"""Seconds without a word of their server after which users count as offline."""


@dataclass(slots=True)
class RemoteUser:
    """A user of another server: `rooms` they are in (None: to be looked up again), `last_active` and `heard` in seconds
    of a monotonic clock, `moment` of the newest change."""

    user_id: str
    rooms: frozenset[int] | None
    shown: Shown
    last_active: float
    heard: float
    moment: int

    def content(self, now: float) -> dict[str, object]:
        """The content of the user's `m.presence` event."""
        content: dict[str, object] = {"presence": self.shown.presence}
        content["last_active_ago"] = int((now - self.last_active) * 1000)
        if self.shown.presence == ONLINE:
            content["currently_active"] = self.shown.currently_active
        if self.shown.status_msg is not None:
            content["status_msg"] = self.shown.status_msg
        return content


class RemoteUsers:
    """All of them by number, in the order of their last change."""

    def __init__(self) -> None:
        self._users: dict[int, RemoteUser] = {}

    def __len__(self) -> int:
        return len(self._users)

    def get(self, user: int) -> RemoteUser | None:
        """What is known of a user, or None."""
        return self._users.get(user)

    def put(self, user: int, known: RemoteUser) -> None:
        """A user has changed."""
        self._users.pop(user, None)
        self._users[user] = known
        if len(self._users) > MAX_USERS:
            del self._users[next(iter(self._users))]

    def newest_first(self) -> Iterator[tuple[int, RemoteUser]]:
        """All users, the one who changed last first."""
        for user in reversed(self._users):
            yield user, self._users[user]

    def forget_rooms(self) -> None:
        """Somebody of this server came into a room or left one: who is where is to be looked up again."""
        for known in self._users.values():
            known.rooms = None

    def silent(self, now: float) -> list[int]:
        """Those of whom nothing was heard for too long and who do not count as offline yet."""
        return [
            user
            for user, known in self._users.items()
            if known.shown.presence != OFFLINE and known.heard + SILENT_FOR <= now
        ]

    def any_there(self) -> bool:
        """Whether somebody is not offline."""
        return any(known.shown.presence != OFFLINE for known in self._users.values())
