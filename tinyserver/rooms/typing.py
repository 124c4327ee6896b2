"""Who is typing: kept in memory only, and forgotten by itself.

What has expired is taken away when somebody looks, and by one timer for the entry that expires first; while nobody
types there is none.

spec: client-server-api#typing-notifications
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from tinyserver.accounts.requester import Requester
from tinyserver.bell import Bell
from tinyserver.protocol.errors import Forbidden, InvalidParam
from tinyserver.rooms.access import room_of_member
from tinyserver.storage import memberships
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.transaction import Topic

DEFAULT_TIMEOUT_MS = 30_000
MAX_TIMEOUT_MS = 120_000
MAX_TYPING_IN_ROOM = 500
MAX_TYPING = 10_000
"""How many (room, user) pairs are remembered; others who type then are not shown."""


class Typing:
    """The users who are typing, by room. Lives on the event loop.

    Args:
        db: tells who is in a room.
        bell: rung for a room when the set of its typing users changes.
        clock: seconds, monotonic.
    """

    def __init__(self, db: Database, bell: Bell, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._bell = bell
        self._clock = clock
        self._rooms: dict[int, dict[str, _Entry]] = {}
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        bell.subscribe(self._on_commit)

    def send(self, requester: Requester, room_id: str, user_id: str, typing: bool, timeout_ms: int | None) -> None:
        """Say that the requester types, or has stopped.

        Args:
            timeout_ms: for how long that holds unless it is said again; long ones are cut.

        Raises:
            Forbidden: another user's typing, or a room that the requester is not in.
            InvalidParam: a negative timeout.
        """
        if user_id != requester.user_id:
            raise Forbidden("You cannot type for another user")
        if typing and timeout_ms is not None and timeout_ms < 0:
            raise InvalidParam("timeout must not be negative")
        room = self._db.glance(lambda tx: room_of_member(tx, room_id, requester.user_id))
        if typing:
            milliseconds = DEFAULT_TIMEOUT_MS if timeout_ms is None else min(timeout_ms, MAX_TIMEOUT_MS)
            self.start(room.nid, user_id, requester.user_nid, milliseconds / 1000)
        else:
            self.stop(room.nid, user_id)

    def start(self, room: int, user_id: str, user: int, seconds: float) -> None:
        """A user, who is in the room, types; unless it is said again, for so many seconds."""
        until = self._clock() + seconds
        typing = self._rooms.get(room)
        entry = None if typing is None else typing.get(user_id)
        if entry is not None:
            entry.until = until
        else:
            if self._size >= MAX_TYPING or (typing is not None and len(typing) >= MAX_TYPING_IN_ROOM):
                return
            self._rooms.setdefault(room, {})[user_id] = _Entry(user, until)
            self._size += 1
            self._bell.ring_room(room)
        self._wake_at(until)

    def stop(self, room: int, user_id: str) -> None:
        """A user has stopped typing in a room, or has left it."""
        if self._remove(room, user_id):
            self._bell.ring_room(room)

    def users_in(self, room: int) -> Sequence[str]:
        """The IDs of the users who are typing in a room now."""
        typing = self._rooms.get(room)
        if not typing:
            return ()
        now = self._clock()
        return [user_id for user_id, entry in typing.items() if entry.until > now]

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _remove(self, room: int, user_id: str) -> bool:
        typing = self._rooms.get(room)
        if typing is None or typing.pop(user_id, None) is None:
            return False
        self._size -= 1
        if not typing:
            del self._rooms[room]
        return True

    # -- expiry ----------------------------------------------------------------------------------

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = asyncio.get_running_loop().call_later(max(when - self._clock(), 0.0), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock()
        for room, typing in list(self._rooms.items()):
            over = [user_id for user_id, entry in typing.items() if entry.until <= now]
            for user_id in over:
                self._remove(room, user_id)
            if over:
                self._bell.ring_room(room)
        left = [entry.until for typing in self._rooms.values() for entry in typing.values()]
        if left:
            self._wake_at(min(left))

    # -- leaving ---------------------------------------------------------------------------------

    def _on_commit(self, commit: Commit) -> None:
        if not self._rooms:
            return
        moved = {change.nid for change in commit.changes if change.topic is Topic.MEMBERSHIP}
        if not moved:
            return
        typing = [
            (room, user_id, entry.user)
            for room, users in self._rooms.items()
            for user_id, entry in users.items()
            if entry.user in moved
        ]
        if typing:
            gone = self._db.glance(
                lambda tx: [each for each in typing if not memberships.is_joined(tx, each[0], each[2])]
            )
            for room, user_id, _ in gone:
                self.stop(room, user_id)


class _Entry:
    """One user typing in one room: `user` is their nid, `until` when they are taken not to type any more."""

    __slots__ = ("until", "user")

    def __init__(self, user: int, until: float) -> None:
        self.user = user
        self.until = until
