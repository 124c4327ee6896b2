"""An open transaction, as storage functions see it.

Storage functions are plain synchronous functions whose first argument is a `ReadTransaction` or a
`WriteTransaction`. A service bundles all work of one logical step into one function and hands it to
`Database.read` or `Database.write`, so a step crosses to a database thread once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from enum import IntEnum, unique
from typing import Any

import msgspec

from tinyserver.storage.caches import Caches


@unique
class Topic(IntEnum):
    """What a change concerns; together with a nid it addresses those who wait for it."""

    TIMELINE = 1
    """An event was appended to a room (nid: the room)."""
    RECEIPT = 2
    """A receipt moved in a room (nid: the room)."""
    USER = 3
    """Something of one user's own changed: account data, an invite, a to-device message, ... (nid: the user)."""
    MEMBERSHIP = 4
    """A local user's membership of some room changed (nid: the user)."""
    STATE = 6
    """The current state of a room changed (nid: the room)."""
    DEVICE_LIST = 5
    """The devices or cross-signing keys of a user changed (nid: the user)."""
    OUTGOING = 7
    """Other servers are owed an event of a room (nid: the room)."""
    OUTGOING_DEVICES = 8
    """Other servers are owed news of the devices of a local user (nid: the user)."""
    OUTGOING_MESSAGES = 9
    """A server is owed messages to devices of its users (nid: the server)."""
    READ = 10
    """A user has read something (nid: the user)."""
    APPSERVICE = 11
    """An application service is owed something (nid: the service)."""
    ADMINISTRATION = 12
    """Something for the administrators: somebody has become one, or is none any more (nid: the user), or something was
    reported (nid: 0)."""
    PROFILE = 13
    """The profile of a local user changed (nid: the user)."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """One stored change: its position in the one order, and whom it concerns."""

    position: int
    topic: Topic
    nid: int


class FromOutside(Exception):
    """Raised by a write step that cannot go on without an answer from outside of the database: the step is undone, the
    answer is waited for while others write, and the step is run anew with the answer in `tx.brought`.

    Args:
        key: where the step will look for the answer.
        ask: gets it. What it raises ends the write.
    """

    def __init__(self, key: Hashable, ask: Callable[[], Awaitable[Any]]) -> None:
        super().__init__("a write step waits for an answer from outside")
        self.key = key
        self.ask = ask


class ReadTransaction:
    """A consistent snapshot of the database."""

    __slots__ = ("caches", "connection", "epoch")

    def __init__(self, connection: sqlite3.Connection, caches: Caches) -> None:
        self.connection = connection
        self.caches = caches
        self.epoch = caches.epoch

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self.connection.execute(sql, parameters)

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first row, or None."""
        return self.connection.execute(sql, parameters).fetchone()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """All rows: only where their number is bounded."""
        return self.connection.execute(sql, parameters).fetchall()

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.connection.execute(sql, parameters).fetchone()
        return None if row is None else row[0]


class WriteTransaction(ReadTransaction):
    """One step inside a group commit: all of it is stored, or nothing.

    What the step learns is kept beside the shared caches until the commit; a step that fails leaves
    no trace in memory either.
    """

    __slots__ = ("_next_position", "after_commit", "brought", "changed_events", "changes", "new_names")

    def __init__(
        self,
        connection: sqlite3.Connection,
        caches: Caches,
        next_position: Callable[[int], int],
        new_names: dict[str, int],
        brought: Mapping[Hashable, Any],
    ) -> None:
        super().__init__(connection, caches)
        self.brought = brought
        self._next_position = next_position
        self.changes: list[Change] = []
        self.after_commit: list[Callable[[], None]] = []
        self.changed_events: set[int] = set()
        self.new_names = new_names

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> sqlite3.Cursor:
        """Run one statement for each row of parameters."""
        return self.connection.executemany(sql, parameters)

    def next_position(self, ahead: int = 1) -> int:
        """The next place in the one order of stored changes; never given out twice.

        Args:
            ahead: how far from the last one: what lies between may become the places of events that come later.
        """
        return self._next_position(ahead)

    def changed(self, topic: Topic, nid: int, position: int | None = None) -> int:
        """Note a change, so that the bell rings for it after the commit; its position (a new one unless given)."""
        if position is None:
            position = self._next_position(1)
        self.changes.append(Change(position, topic, nid))
        return position

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the event loop when the commit is on disk, before anyone is answered."""
        self.after_commit.append(callback)
