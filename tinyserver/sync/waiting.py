"""Users whose devices follow the order, and their devices that wait for it to go on.

A waiting device is a future, found from its user and from the rooms that the user is in. A change in a room costs
something only for the users in it who wait; an idle server does nothing at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from tinyserver.bell import Bell
from tinyserver.rooms.tokens import Point
from tinyserver.storage.database import Commit
from tinyserver.storage.transaction import Topic

MAX_ROOMS_REMEMBERED = 100_000
"""How many (user, room) pairs are kept in memory."""


@dataclass(slots=True, eq=False)
class Follower:
    """A local user with a device that has called sync lately.

    `joined` are the rooms that the user is in, as of the newest position; `ignored` the user IDs whom the user ignores;
    None where it must be read anew.
    """

    user: int
    joined: frozenset[int] | None = None
    ignored: frozenset[str] | None = None
    waiting: set[asyncio.Future[bool]] = field(default_factory=set)
    unlisted: set[int] = field(default_factory=set)
    """Rooms that would not wake the user now: nobody was waiting when they last tried."""


class Followers:
    """All followers. Lives on the event loop.

    Args:
        bell: what wakes them.
        limit: how many (user, room) pairs are kept; beyond that, those who do not wait are forgotten.
    """

    def __init__(self, bell: Bell, limit: int = MAX_ROOMS_REMEMBERED) -> None:
        self._bell = bell
        self._limit = limit
        self._size = 0
        self._users: dict[int, Follower] = {}
        self._by_room: dict[int, set[Follower]] = {}
        self._peeking: set[Follower] = set()
        self._closed = False
        bell.subscribe(self._on_commit)
        bell.subscribe_moments(self._on_moment)

    @property
    def closed(self) -> bool:
        """Whether nobody may wait any more."""
        return self._closed

    def get(self, user: int) -> Follower:
        """The follower for a user, the newest in memory from now on."""
        follower = self._users.pop(user, None) or Follower(user)
        self._users[user] = follower
        return follower

    def set_joined(self, follower: Follower, rooms: frozenset[int]) -> None:
        """The rooms that the user is in are known (again)."""
        self._unlist(follower)
        follower.joined = rooms
        follower.unlisted = set(rooms)
        self._size += len(rooms)
        if self._size > self._limit:
            self._forget_idle(follower)

    async def wait(
        self, follower: Follower, point: Point, timeout: float, future: asyncio.Future[bool] | None = None
    ) -> bool:
        """Wait until something that may concern the user comes after a point.

        Args:
            timeout: seconds.
            future: what is waited for, for who wants to end the waiting by setting it.

        Returns:
            Whether there may be something; False after the time is up, or when the server is about to stop.
        """
        if self._closed or follower.joined is None:
            return not self._closed
        if self._bell.position > point.position or self._bell.moment > point.moment:
            return True
        for room in follower.unlisted:
            self._by_room.setdefault(room, set()).add(follower)
        follower.unlisted.clear()
        loop = asyncio.get_running_loop()
        future = loop.create_future() if future is None else future
        follower.waiting.add(future)
        timer = loop.call_later(timeout, _end, future, False)
        try:
            return await future
        finally:
            follower.waiting.discard(future)
            timer.cancel()

    async def wait_for_room(self, room: int, point: Point, timeout: float) -> bool:
        """The same for somebody who looks at one room, which they need not be in."""
        peeking = Follower(0, frozenset((room,)), unlisted={room})
        self._peeking.add(peeking)
        try:
            return await self.wait(peeking, point, timeout)
        finally:
            self._peeking.discard(peeking)
            self._drop(peeking, room)

    def close(self) -> None:
        """Answer everybody who waits, and let nobody wait any more: the server is about to stop."""
        self._closed = True
        for follower in (*self._users.values(), *self._peeking):
            for future in follower.waiting:
                _end(future, False)

    # -- what wakes them -------------------------------------------------------------------------

    def _on_commit(self, commit: Commit) -> None:
        for change in commit.changes:
            topic = change.topic
            if topic is Topic.TIMELINE or topic is Topic.RECEIPT or topic is Topic.STATE:
                self._wake_room(change.nid)
                continue
            if topic not in _OF_USERS:
                continue  # what is owed to other servers
            follower = self._users.get(change.nid)
            if topic is Topic.DEVICE_LIST or topic is Topic.PROFILE:
                self._wake_acquaintances(follower)
            elif follower is not None:
                if topic is Topic.MEMBERSHIP:
                    self._unlist(follower)
                else:
                    follower.ignored = None
                _wake(follower)

    def _on_moment(self, room: int | None, users: Collection[int]) -> None:
        if room is not None:
            self._wake_room(room)
        for user in users:
            follower = self._users.get(user)
            if follower is not None:
                _wake(follower)

    def _wake_room(self, room: int) -> None:
        followers = self._by_room.get(room)
        if not followers:
            return
        for follower in list(followers):
            if follower.waiting:
                _wake(follower)
            else:
                followers.discard(follower)
                follower.unlisted.add(room)
        if not followers:
            del self._by_room[room]

    def _wake_acquaintances(self, follower: Follower | None) -> None:
        """Those who share a room with a user; everybody, where it is not known who they are (users elsewhere)."""
        if follower is None or follower.joined is None:
            for other in self._users.values():
                _wake(other)
            return
        _wake(follower)
        for room in follower.joined:
            self._wake_room(room)

    # -- memory ----------------------------------------------------------------------------------

    def _unlist(self, follower: Follower) -> None:
        if follower.joined is None:
            return
        for room in follower.joined - follower.unlisted:
            self._drop(follower, room)
        self._size -= len(follower.joined)
        follower.joined = None
        follower.unlisted = set()

    def _drop(self, follower: Follower, room: int) -> None:
        followers = self._by_room.get(room)
        if followers is not None:
            followers.discard(follower)
            if not followers:
                del self._by_room[room]

    def _forget_idle(self, but: Follower) -> None:
        for follower in list(self._users.values()):
            if self._size <= self._limit:
                return
            if not follower.waiting and follower is not but:
                self._unlist(follower)
                del self._users[follower.user]


_OF_USERS = frozenset((Topic.USER, Topic.MEMBERSHIP, Topic.DEVICE_LIST, Topic.PROFILE))


def _wake(follower: Follower) -> None:
    for future in follower.waiting:
        _end(future, True)
    follower.waiting.clear()


def _end(future: asyncio.Future[bool], news: bool) -> None:
    if not future.done():
        future.set_result(news)
