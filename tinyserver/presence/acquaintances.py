"""Who shares a room with whom: asked often for the same few users, so their rooms are kept in memory."""

from __future__ import annotations

from tinyserver.bell import Bell
from tinyserver.storage import memberships
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.transaction import Topic

MAX_ROOMS_REMEMBERED = 50_000
"""How many (user, room) pairs are kept."""


class Acquaintances:
    """Local users who share a room. Lives on the event loop.

    Args:
        db: where memberships are.
        bell: tells when they change.
    """

    def __init__(self, db: Database, bell: Bell) -> None:
        self._db = db
        self._joined: dict[int, frozenset[int]] = {}
        self._size = 0
        bell.subscribe(self._on_commit)

    def share_a_room(self, user: int, other: int) -> bool:
        """Whether two local users are in some room together."""
        return user == other or not self.rooms_of(user).isdisjoint(self.rooms_of(other))

    def rooms_of(self, user: int) -> frozenset[int]:
        """The rooms that a local user is in."""
        joined = self._joined.get(user)
        if joined is None:
            joined = frozenset(self._db.glance(lambda tx: memberships.joined_rooms(tx, user)))
            self._joined[user] = joined
            self._size += len(joined) + 1
            while self._size > MAX_ROOMS_REMEMBERED and len(self._joined) > 1:
                self._forget(next(iter(self._joined)))
        return joined

    def _forget(self, user: int) -> None:
        joined = self._joined.pop(user, None)
        if joined is not None:
            self._size -= len(joined) + 1

    def _on_commit(self, commit: Commit) -> None:
        for change in commit.changes:
            if change.topic is Topic.MEMBERSHIP:
                self._forget(change.nid)
