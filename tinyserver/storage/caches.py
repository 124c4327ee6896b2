"""Memory that may be forgotten: what the database threads and the event loop remember of what is stored.

Every cache counts its bytes against its share of one budget (`[cache] budget`) and drops its oldest
entries when the share is used up. A write step never puts something here that a roll-back could undo. Several threads
use them at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from tinyserver.protocol.server_acl import ServerAcl
from tinyserver.storage.stored_event import StoredEvent

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """A map that holds at most `budget` bytes and forgets what was used longest ago, roughly.

    Two generations: reading an entry of the old one moves it to the young one; when the young one
    has used half of the budget it becomes the old one and the old one is forgotten. Cheaper than
    an exact order of use: a hit in the young generation writes nothing, and takes no lock.
    """

    __slots__ = ("_half", "_lock", "_old", "_size", "_used", "_young")

    def __init__(self, budget: int, size: Callable[[Value], int]) -> None:
        self._half = max(budget // 2, 1)
        # Between finding an entry in the old generation and putting it into the young one nobody may drop it.
        self._lock = threading.Lock()
        self._size = size
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}
        self._used = 0

    def get(self, key: Key) -> Value | None:
        """The value, or None when it is not (any more) known."""
        value = self._young.get(key)
        if value is None and key in self._old:
            with self._lock:
                value = self._old.pop(key, None)
                if value is not None:
                    self._put(key, value)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Remember a value."""
        with self._lock:
            self._put(key, value)

    def _put(self, key: Key, value: Value) -> None:
        if self._used >= self._half:
            self._old = self._young
            self._young = {}
            self._used = 0
        self._young[key] = value
        self._used += self._size(value)

    def drop(self, key: Key) -> None:
        """Forget one entry (its bytes are counted until the generation ends)."""
        with self._lock:
            self._young.pop(key, None)
            self._old.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._young, self._old, self._used = {}, {}, 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


Changes = Mapping[tuple[int, int], int | None]
"""What must change in a state: events (nids; None: no event) by interned type and state key."""


class Caches:
    """The caches shared by all transactions of one database, dividing one budget.

    Args:
        budget: bytes that all of them together may use.
    """

    __slots__ = ("epoch", "events", "names", "nids", "resolutions", "server_acls", "threads_moved")

    def __init__(self, budget: int) -> None:
        self.epoch = 0
        """Grows with every commit that changed an event in place: a snapshot from before puts no event here."""
        self.threads_moved = 0
        """Grows with every commit that put an older event into another thread; together with the epoch."""
        self.events: BoundedCache[int, StoredEvent] = BoundedCache(budget * 6 // 10, _event_weight)
        self.names: BoundedCache[int, str] = BoundedCache(budget // 20, _name_weight)
        self.nids: BoundedCache[str, int] = BoundedCache(budget // 20, _nid_weight)
        self.server_acls: BoundedCache[tuple[int, int | None], ServerAcl] = BoundedCache(budget // 20, _acl_weight)
        """Compiled access control lists, by the nids of their event and of its redaction."""
        self.resolutions: BoundedCache[tuple[int, ...], Changes] = BoundedCache(budget // 20, _changes_weight)
        """By the roots of several states what must change in the first of them to make it what they resolve to. For the
        writer alone; what a roll-back leaves here belongs to states that never come again. Cleared when what is known
        of an event changes in a way that could matter."""


def _event_weight(event: StoredEvent) -> int:
    return event.weight


def _name_weight(name: str) -> int:
    return len(name) + 150


def _nid_weight(_nid: int) -> int:
    return 200


def _acl_weight(acl: ServerAcl) -> int:
    return 500 + 150 * acl.entries


def _changes_weight(changes: Changes) -> int:
    return 500 + 150 * len(changes)
