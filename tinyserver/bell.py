"""The bell: rung once for every commit, with the new position and what it concerns.

Whoever follows the one order listens here: waiting syncs, and consumers with a cursor of their own (a durable one
where something is owed)::

    while True:
        position = await bell.wait(cursor, {Topic.TIMELINE})
        ...  # read everything after the cursor, up to the position
        cursor = position

Nobody is held up: subscribers are plain functions that note something or set futures.

Besides the one order there is a small second one for what is never stored (typing, presence): its places are called
*moments*. They begin at 0 with every start of the process, so a moment only means something together with `tag`,
which no two runs have in common.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol

from tinyserver.storage.database import Commit
from tinyserver.storage.transaction import Topic

log = logging.getLogger(__name__)

MAX_REMEMBERED = 20_000
"""How many rooms or users of each topic are remembered with their newest change."""


class LastChanges:
    """Which rooms (or users) changed last, and where in an order; the longest unchanged are forgotten first.

    Args:
        since: the place in the order from which on every change is noted.
        limit: how many rooms or users are remembered.
    """

    __slots__ = ("_last", "_limit", "complete_since")

    def __init__(self, since: int, limit: int = MAX_REMEMBERED) -> None:
        self.complete_since = since
        """Every change after this place is remembered (the newest of each room or user, that is)."""
        self._limit = limit
        self._last: dict[int, int] = {}

    def note(self, nid: int, place: int) -> None:
        """The room or user changed; places only grow."""
        last = self._last
        last.pop(nid, None)
        last[nid] = place  # at the end: a dict keeps the order of insertion
        if len(last) > self._limit:
            oldest = next(iter(last))
            self.complete_since = max(self.complete_since, last.pop(oldest))

    def last(self, nid: int) -> int:
        """Where the newest remembered change is; 0 if none is remembered."""
        return self._last.get(nid, 0)

    def changed(self, nid: int, since: int) -> bool:
        """Whether there may be a change after a place."""
        return self._last.get(nid, 0) > since or since < self.complete_since

    def after(self, since: int) -> Iterator[int]:
        """What changed after a place, the newest change first; complete if `since >= complete_since`."""
        last = self._last
        for nid in reversed(last):
            if last[nid] <= since:
                return
            yield nid


class CommitListener(Protocol):
    """What is called for every commit. It must be quick and must not raise."""

    def __call__(self, commit: Commit, /) -> None: ...


class MomentListener(Protocol):
    """What is called when something that is not stored changed in a room, or for some users."""

    def __call__(self, room: int | None, users: Collection[int], /) -> None: ...


class Bell:
    """Tells those who listen what has changed. Lives on the event loop.

    Args:
        position: the newest position in the database at the start.
        tag: a short random text, different for every run of the process.
    """

    def __init__(self, position: int, tag: str) -> None:
        self.position = position
        """Everything up to here is on disk and announced."""
        self.moment = 0
        """The newest place in the order of what is not stored."""
        self.tag = tag
        self.changes: dict[Topic, LastChanges] = {topic: LastChanges(position) for topic in Topic}
        self.room_moments = LastChanges(0)
        """Rooms by the moment of their newest typing."""
        self._newest = dict.fromkeys(Topic, position)
        self._commit_listeners: list[CommitListener] = []
        self._moment_listeners: list[MomentListener] = []
        self._waiters: list[tuple[Collection[Topic], asyncio.Future[None]]] = []

    def ring(self, commit: Commit) -> None:
        """A commit is on disk (`Database.on_commit`)."""
        for change in commit.changes:
            self.changes[change.topic].note(change.nid, change.position)
            if change.position > self._newest[change.topic]:
                self._newest[change.topic] = change.position
        self.position = commit.position
        for listener in self._commit_listeners:
            try:
                listener(commit)
            except Exception:
                log.exception("a listener of the bell failed")
        if self._waiters:
            self._wake({change.topic for change in commit.changes})

    def ring_room(self, room: int) -> int:
        """Something that is not stored changed in a room (typing); its moment."""
        self.moment += 1
        self.room_moments.note(room, self.moment)
        self._announce(room, ())
        return self.moment

    def ring_users(self, users: Iterable[int]) -> int:
        """Something that is not stored changed for some users (the presence of others whom they see); its moment."""
        self.moment += 1
        self._announce(None, tuple(users))
        return self.moment

    def next_moment(self) -> int:
        """A moment for a change that nobody needs to be woken for."""
        self.moment += 1
        return self.moment

    def subscribe(self, listener: CommitListener) -> Callable[[], None]:
        """Call `listener` for every commit from now on; the answer is a function that ends that."""
        self._commit_listeners.append(listener)
        return lambda: self._commit_listeners.remove(listener)

    def subscribe_moments(self, listener: MomentListener) -> Callable[[], None]:
        """Call `listener` for every change that is not stored; the answer is a function that ends that."""
        self._moment_listeners.append(listener)
        return lambda: self._moment_listeners.remove(listener)

    def newest(self, topics: Iterable[Topic]) -> int:
        """The position of the newest change of any of the topics; that of the start if there was none since."""
        return max(self._newest[topic] for topic in topics)

    async def wait(self, after: int, topics: Collection[Topic] = tuple(Topic)) -> int:
        """Wait until something of these topics has changed after a position.

        Returns:
            The position up to which everything can be read now.
        """
        while self.newest(topics) <= after:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiter = (topics, future)
            self._waiters.append(waiter)
            try:
                await future
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        return self.position

    def _announce(self, room: int | None, users: Collection[int]) -> None:
        for listener in self._moment_listeners:
            try:
                listener(room, users)
            except Exception:
                log.exception("a listener of the bell failed")

    def _wake(self, topics: set[Topic]) -> None:
        still_waiting = []
        for waiter in self._waiters:
            if topics.isdisjoint(waiter[0]):
                still_waiting.append(waiter)
            elif not waiter[1].done():
                waiter[1].set_result(None)
        self._waiters = still_waiting
