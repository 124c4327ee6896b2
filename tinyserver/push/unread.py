"""Unread counts: how many events notify a user whom they have not read yet, in a room and in each of its threads.

Nothing is written for them. They follow from the room's order: the events after what the user has read, by
notification class (`protocol.push_rules.classes`), and the few exceptions that are stored for the user.

What a user has read ends, in each thread (the main timeline being one), at the latest of

- the event with which they joined,
- their receipts, public and private, for this thread or for all threads,
- the newest event that they sent in this thread themselves, other than member events (a new display name or avatar
  is sent to every room by the server and says nothing about reading).

Events of users whom they ignore, and redacted ones, do not count. At most the newest `MAX_COUNTED` events are looked
at when a count begins; it goes on from there.

The unread events of a (user, room) are kept in memory as a `Tally`, which new events are added to and receipts take
from, so that a message in a busy room costs one row for each member who is told.

spec: client-server-api#receiving-notifications
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.protocol.push_rules import SILENT, ClassOutcomes, EventKind, kind_of_class
from tinyserver.push.rules import PushRules
from tinyserver.storage import events, highlights, memberships, receipts, rooms, timeline
from tinyserver.storage.highlights import HighlightRow
from tinyserver.storage.memberships import Membership, MembershipRow
from tinyserver.storage.receipts import MAIN, UNTHREADED
from tinyserver.storage.transaction import ReadTransaction

MAX_COUNTED = 5_000
MAX_EXCEPTIONS = 1_000
_MAX_MEMBER_EVENTS = 100
"""How many of a user's own member events are followed back to the one with which they joined."""
_NEWEST = 2**62
_MAIN = 0
"""The thread number of the main timeline."""


@dataclass(frozen=True, slots=True)
class Unread:
    """`notification_count` events notify, `highlight_count` of them as highlights."""

    notification_count: int = 0
    highlight_count: int = 0


@dataclass(frozen=True, slots=True)
class UnreadCounts:
    """The counts of the main timeline (or of everything), and of each thread with unread events by its root's ID."""

    notification_count: int = 0
    highlight_count: int = 0
    by_thread: Mapping[str, Unread] = field(default_factory=dict)


class UnreadCounter:
    """Counts unread events, on any thread.

    Args:
        rules: the users' push rules.
        ignored: whom users ignore.
        budget: bytes for tallies in memory.
    """

    def __init__(self, rules: PushRules, ignored: IgnoredUsers, budget: int = 2 * 1024 * 1024) -> None:
        self._rules = rules
        self._ignored = ignored
        self._tallies = _Tallies(budget)

    def counts(self, tx: ReadTransaction, user: int, room: int, *, threads: bool = False) -> UnreadCounts:
        """A user's unread counts in a room that they are in.

        Args:
            threads: whether those of threads are wanted apart; else all are in one.
        """
        tally = self._tally(tx, user, room)
        if tally is None:
            return _NOTHING
        by_thread: dict[int, Unread] = {}
        if tally.threads or tally.exceptions:
            rules = self._rules.of_user(tx, user)
            by_thread = tally.count(rules.summary.outcomes(rooms.room_id(tx, room)))
        self._tallies.give_back(user, room, tally)
        if not by_thread:
            return _NOTHING
        if not threads:
            return UnreadCounts(
                sum(unread.notification_count for unread in by_thread.values()),
                sum(unread.highlight_count for unread in by_thread.values()),
            )
        main = by_thread.pop(_MAIN, Unread())
        named = {events.get(tx, root).event_id: unread for root, unread in by_thread.items()}
        return UnreadCounts(main.notification_count, main.highlight_count, named)

    def _tally(self, tx: ReadTransaction, user: int, room: int) -> Tally | None:
        """The tally of a user in a room as of this transaction, taken out of memory until it is given back; None for
        one who is not in the room."""
        ignored = self._ignored.of_user(tx, user)
        version = receipts.version(tx, room, user)
        tally = self._tallies.take(user, room)
        # Of a snapshot from before a commit that moved threads it is not known how many it has seen.
        moved = tx.caches.threads_moved
        threads_moved = moved if tx.epoch == tx.caches.epoch else None
        is_sound = tally is not None and threads_moved is not None and tally.threads_moved == threads_moved
        if tally is not None and is_sound and tally.ignored == ignored:
            if tally.receipts != version:
                tally.read(*read_places(tx, room, user, tally.joined), version)
            if _add_news(tx, tally, user, room):
                return tally
        tally = _begin(tx, user, room, ignored, version)
        if tally is not None:
            tally.threads_moved = threads_moved
        return tally


def _begin(tx: ReadTransaction, user: int, room: int, ignored: frozenset[int], version: int) -> Tally | None:
    """A tally made from what is stored; None for one who is not in the room."""
    membership = memberships.get(tx, room, user)
    if membership is None or membership.membership is not Membership.JOIN:
        return None
    joined = place_of_join(tx, membership)
    tally = Tally(joined, *read_places(tx, room, user, joined), ignored, version)
    start = tally.start_of(_MAIN)
    if start > tally.read_all:
        older = timeline.classes(tx, room, tally.read_all, start, MAX_COUNTED, in_threads_only=True)
        tally.add(older, user)
    tally.up_to = start
    tally.add(timeline.classes(tx, room, start, _NEWEST, MAX_COUNTED), user)
    tally.except_for(highlights.after(tx, user, room, tally.read_all, tally.up_to, MAX_EXCEPTIONS))
    return tally


def _add_news(tx: ReadTransaction, tally: Tally, user: int, room: int) -> bool:
    """Add the events that have come since; False if the tally must be made anew."""
    since = tally.up_to
    rows = timeline.classes(tx, room, since, _NEWEST, MAX_COUNTED + 1)
    if not rows:
        return True
    if len(rows) > MAX_COUNTED:
        return False
    for _, event_class, _, sender in rows:
        kind = kind_of_class(event_class)
        if kind == EventKind.REDACTION or (kind == EventKind.MEMBER and sender == user):
            return False  # an event that was counted may count no more; the user may have left and come back
    tally.add(rows, user)
    tally.except_for(highlights.after(tx, user, room, since, tally.up_to, MAX_EXCEPTIONS))
    return True


def read_places(tx: ReadTransaction, room: int, user: int, joined: int) -> tuple[int, dict[int, int]]:
    """Up to which place a user has read everything, and up to which later ones the threads that they read further."""
    read = receipts.read_up_to(tx, room, user)
    everything = max([joined, *(up_to.place for up_to in read if up_to.thread == UNTHREADED)])
    threads: dict[int, int] = {}
    for up_to in read:
        if up_to.thread == UNTHREADED or up_to.place <= everything:
            continue
        root = _MAIN if up_to.thread == MAIN else events.find(tx, up_to.thread)
        if root is not None:
            threads[root] = max(up_to.place, threads.get(root, up_to.place))
    return everything, threads


def place_of_join(tx: ReadTransaction, membership: MembershipRow) -> int:
    """Where in the room's order a user who is in it now came in: member events after that only changed their
    profile."""
    member = events.get(tx, membership.event)
    for _ in range(_MAX_MEMBER_EVENTS):
        if member.replaces is None:
            break
        before = events.get(tx, member.replaces)
        if before.event.membership != "join":
            break
        member = before
    return membership.position if member.place is None else member.place


class _ThreadTally:
    """The unread events of one thread: `marks` has place * 256 + class of each in their order, `classes` how many there
    are of each class."""

    __slots__ = ("classes", "marks")

    def __init__(self) -> None:
        self.marks = array("q")
        self.classes: dict[int, int] = {}

    def add(self, place: int, event_class: int) -> None:
        self.marks.append(place << 8 | event_class)
        self.classes[event_class] = self.classes.get(event_class, 0) + 1

    def __contains__(self, row: HighlightRow) -> bool:
        mark = row.place << 8 | row.event_class
        index = bisect_left(self.marks, mark)
        return index < len(self.marks) and self.marks[index] == mark

    def read_up_to(self, place: int) -> None:
        """Forget the events up to a place."""
        number = bisect_right(self.marks, place << 8 | 0xFF)
        if number == len(self.marks):  # usually everything
            self.marks, self.classes = array("q"), {}
            return
        for mark in self.marks[:number]:
            event_class = mark & 0xFF
            self.classes[event_class] -= 1
            if not self.classes[event_class]:
                del self.classes[event_class]
        del self.marks[:number]


class Tally:
    """The unread events of one user in one room, up to the place `up_to`.

    Args:
        joined: the place at which the user joined.
        read_all: the place up to which everything is read.
        read_threads: later places, by thread.
        ignored: whose events do not count.
        receipts: the version of the user's receipts that this rests on.
    """

    __slots__ = (
        "exceptions",
        "ignored",
        "joined",
        "read_all",
        "read_threads",
        "receipts",
        "threads",
        "threads_moved",
        "up_to",
    )

    def __init__(
        self, joined: int, read_all: int, read_threads: dict[int, int], ignored: frozenset[int], receipts: int
    ) -> None:
        self.joined = joined
        self.read_all = read_all
        self.read_threads = read_threads
        self.ignored = ignored
        self.receipts = receipts
        self.up_to = max(read_all, read_threads.get(_MAIN, read_all))
        self.threads: dict[int, _ThreadTally] = {}
        self.exceptions: dict[int, HighlightRow] = {}
        """By place."""
        self.threads_moved: int | None = None
        """How often older events had been put into another thread by then; None: not known."""

    def start_of(self, thread: int) -> int:
        """The place up to which a thread is read."""
        return max(self.read_all, self.read_threads.get(thread, self.read_all))

    def add(self, rows: Iterable[tuple[int, int, int, int]], user: int) -> None:
        """Add events: (place, class, thread, sender), oldest first; the user's own ones mean that they have read."""
        for place, event_class, thread, sender in rows:
            self.up_to = place
            if place <= self.start_of(thread):
                continue
            if sender == user:
                if kind_of_class(event_class) != EventKind.MEMBER:
                    self.read_threads[thread] = place
                    self.threads.pop(thread, None)
            elif event_class != SILENT and sender not in self.ignored:
                counted = self.threads.get(thread)
                if counted is None:
                    counted = self.threads[thread] = _ThreadTally()
                counted.add(place, event_class)

    def except_for(self, rows: Iterable[HighlightRow]) -> None:
        """Note events that are something else to the user than their class says; then drop those that are read."""
        for row in rows:
            if row.sender not in self.ignored:
                self.exceptions[row.place] = row
        self._drop_read_exceptions()

    def read(self, read_all: int, read_threads: Mapping[int, int], receipts: int) -> None:
        """Receipts have moved: what they cover is read. Own events further on still count as reading."""
        self.receipts = receipts
        self.read_all = max(self.read_all, read_all)
        for thread, place in read_threads.items():
            self.read_threads[thread] = max(place, self.read_threads.get(thread, place))
        self.read_threads = {thread: place for thread, place in self.read_threads.items() if place > self.read_all}
        for thread, counted in list(self.threads.items()):
            counted.read_up_to(self.start_of(thread))
            if not counted.marks:
                del self.threads[thread]
        self._drop_read_exceptions()

    def count(self, outcomes: ClassOutcomes) -> dict[int, Unread]:
        """The counts of the threads that have any."""
        exceptions: dict[int, list[HighlightRow]] = {}
        for row in self.exceptions.values():
            exceptions.setdefault(row.thread, []).append(row)
        found = {}
        for thread in {*self.threads, *exceptions}:
            counted = self.threads.get(thread)
            notifications, highlighted = (0, 0) if counted is None else outcomes.count(counted.classes.items())
            for row in exceptions.get(thread, ()):
                as_class = counted is not None and row in counted and outcomes.notifies(row.event_class)
                notifications += row.notify - as_class
                highlighted += row.highlight - (as_class and outcomes.highlights(row.event_class))
            if notifications > 0:
                found[thread] = Unread(notifications, max(highlighted, 0))
        return found

    @property
    def weight(self) -> int:
        """About how many bytes it takes in memory."""
        events_in_it = sum(len(counted.marks) for counted in self.threads.values())
        return 500 + 400 * len(self.threads) + 9 * events_in_it + 250 * len(self.exceptions)

    def _drop_read_exceptions(self) -> None:
        if self.exceptions:
            self.exceptions = {
                place: row for place, row in self.exceptions.items() if place > self.start_of(row.thread)
            }


class _Tallies:
    """Tallies in memory, those used longest ago forgotten first. Whoever uses one takes it out meanwhile."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._size = 0
        self._kept: dict[tuple[int, int], tuple[Tally, int]] = {}
        self._lock = threading.Lock()

    def take(self, user: int, room: int) -> Tally | None:
        with self._lock:
            found = self._kept.pop((user, room), None)
            if found is None:
                return None
            self._size -= found[1]
            return found[0]

    def give_back(self, user: int, room: int, tally: Tally) -> None:
        weight = tally.weight
        with self._lock:
            replaced = self._kept.pop((user, room), None)
            self._kept[(user, room)] = (tally, weight)
            self._size += weight - (0 if replaced is None else replaced[1])
            while self._size > self._budget:
                oldest = self._kept.pop(next(iter(self._kept)))
                self._size -= oldest[1]


_NOTHING = UnreadCounts()
