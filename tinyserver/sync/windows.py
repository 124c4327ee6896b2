"""Windows on a room's order: its events after one point up to another, with what is the same for all who see them.

A message wakes every device in the room; most of them ask for the very same window. `SharedWindows` keeps the newest
ones, so that they are read and encoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tinyserver.bell import Bell
from tinyserver.protocol.history_visibility import SHARED, WORLD_READABLE, visibility_in
from tinyserver.storage import events, graph, room_state, rooms, state_trie, timeline
from tinyserver.storage.database import Commit
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import ReadTransaction, Topic
from tinyserver.sync.requests import FilterSet

Wanted = Callable[[StoredEvent], bool]
StateKey = tuple[int, int]

MAX_EXAMINED = 1000
"""How many events are looked through for those that a filter wants; then the timeline is called limited."""
MAX_SHARED = 64
"""How many windows are kept for others."""
MAX_SHARED_EVENTS = 10
"""How many events a window may have that is kept."""
MAX_ROOMS = 5000
"""For how many rooms it is remembered where their newest events are."""


class Window:
    """Some events of a room, oldest first.

    `start` is the point just before the first of them; `limited` says that there are more before it, which belong
    to the window too; `root_before` and `root_after` are the room's current states at its two ends (`root_before` is 0
    for a window that begins with the room).
    """

    __slots__ = (
        "_replaced_first",
        "changed",
        "closed_roots",
        "events",
        "limited",
        "removed",
        "rendered",
        "root_after",
        "root_before",
        "roots",
        "senders",
        "sending_devices",
        "start",
    )

    def __init__(
        self, found: list[StoredEvent], *, limited: bool, start: int, root_before: int, root_after: int
    ) -> None:
        self.events = found
        self.limited = limited
        self.start = start
        self.root_before = root_before
        self.root_after = root_after
        self.senders = {stored.sender_nid: stored.event.sender for stored in found}
        self.sending_devices = {stored.device for stored in found if stored.device is not None}
        self.roots: set[int | None] | None = None
        """The states at the events, and at those that they replace where history visibility is not open there."""
        self.changed: dict[StateKey, int] | None = None
        """What is another event in `root_after` than in `root_before`; made when it is first needed."""
        self.removed: Sequence[StateKey] = ()
        """What is in `root_before`, but not in `root_after`; filled with `changed`."""
        self.rendered: tuple[int, bytes] | None = None
        """The timeline in JSON for those who were joined at every event, and when it was made (ms)."""
        self._replaced_first: dict[StateKey, int | None] | None = None

    def as_limited(self) -> Window:
        """The same, with more before it."""
        return Window(
            self.events, limited=True, start=self.start, root_before=self.root_before, root_after=self.root_after
        )

    def followed_by(self, last: StoredEvent) -> Window:
        """The same with one more event, which does not touch the state that the window ends with."""
        return Window(
            [*self.events, last],
            limited=self.limited,
            start=self.start,
            root_before=self.root_before,
            root_after=self.root_after,
        )

    @property
    def has_parents(self) -> bool:
        """Whether other events relate to one of them in a way that is aggregated."""
        return any(stored.flags & Flag.PARENT for stored in self.events)

    @property
    def replaced_first(self) -> dict[StateKey, int | None]:
        """The state keys that the events set, each with the nid of what the first of these events replaced."""
        if self._replaced_first is None:
            self._replaced_first = {}
            for stored in self.events:
                if stored.state_key is not None:
                    self._replaced_first.setdefault(stored.state_key, stored.replaces)
        return self._replaced_first

    def find_roots(self, tx: ReadTransaction) -> set[int | None]:
        """The states in which a reader must have been joined to see the events as everybody who was joined does."""
        if self.roots is None:
            self.roots = {stored.state for stored in self.events}
            for stored in self.events:
                if stored.replaces is not None:
                    replaced = events.get(tx, stored.replaces)
                    if replaced.state is None or not _is_open(tx, replaced.state):
                        self.roots.add(replaced.state)
        return self.roots

    def find_changed(self, tx: ReadTransaction) -> dict[StateKey, int]:
        """What the two ends differ in, by the value at the later end; what is gone there is in `removed`."""
        if self.changed is None:
            changed, removed = {}, []
            if self.root_before != self.root_after:
                for key, _, after in state_trie.diff(tx, self.root_before, self.root_after):
                    if after is None:
                        removed.append(key)
                    else:
                        changed[key] = after
            self.changed, self.removed = changed, removed
        return self.changed


def _is_open(tx: ReadTransaction, root: int) -> bool:
    content = room_state.content_at(tx, root, "m.room.history_visibility")
    return visibility_in(content) in (SHARED, WORLD_READABLE)


def open_window(
    tx: ReadTransaction, room: int, after: int | None, until: int, limit: int, wanted: Wanted | None = None
) -> Window:
    """The newest events of a room after a point, up to another.

    Args:
        after, until: places in the room's order; None: from the beginning of what is known.
        limit: how many events at most.
        wanted: which events; None: all.
    """
    gap = None if after is None else graph.newest_gap(tx, room, after, until)
    begin = after if gap is None else gap - 1  # what is missing before it is had by reading back from there
    if wanted is None:
        found, limited = _newest(tx, room, begin, until, limit)
        start = _point_before(found, until)
    else:
        found, limited, start = _newest_wanted(tx, room, begin, until, limit, wanted)
    if gap is not None or (after is None and not limited and graph.has_missing_parents(tx, room)):
        limited = True  # other servers have more
    return Window(
        found,
        limited=limited,
        start=start,
        root_before=0 if after is None else rooms.state_at(tx, room, after),
        root_after=rooms.state_at(tx, room, until),
    )


def window_of(tx: ReadTransaction, found: Iterable[StoredEvent], root_before: int, root_after: int) -> Window:
    """A window that holds just these events."""
    chosen = list(found)
    return Window(chosen, limited=False, start=_point_before(chosen, 0), root_before=root_before, root_after=root_after)


def _point_before(found: list[StoredEvent], otherwise: int) -> int:
    place = found[0].place if found else None
    return otherwise if place is None else place - 1


def _newest(
    tx: ReadTransaction, room: int, after: int | None, until: int, limit: int
) -> tuple[list[StoredEvent], bool]:
    nids = timeline.before(tx, room, until, limit + 1, after=after)
    limited = len(nids) > limit
    del nids[limit:]
    nids.reverse()
    found = events.get_many(tx, nids)
    return [found[nid] for nid in nids], limited


def _newest_wanted(
    tx: ReadTransaction, room: int, after: int | None, until: int, limit: int, wanted: Wanted
) -> tuple[list[StoredEvent], bool, int]:
    chosen: list[StoredEvent] = []
    point, examined = until, 0
    while True:
        nids = timeline.before(tx, room, point, limit - len(chosen) + 1, after=after)
        found = events.get_many(tx, nids)
        for stored in (found[nid] for nid in nids):
            assert stored.place is not None
            if wanted(stored):
                if len(chosen) == limit:
                    chosen.reverse()
                    return chosen, True, stored.place
                chosen.append(stored)
            point = stored.place - 1
        examined += len(nids)
        exhausted = len(nids) == 0
        if exhausted or examined >= MAX_EXAMINED:
            chosen.reverse()
            return chosen, not exhausted, _point_before(chosen, until) if exhausted else point


class SharedWindows:
    """The newest windows of rooms, by room, end points and filter. Lives on the event loop.

    Args:
        bell: tells where the newest events of rooms are.
    """

    def __init__(self, bell: Bell) -> None:
        self._ends: dict[int, tuple[int, int]] = {}
        """By room: a place before the newest event with no other event between them, and the newest event's."""
        self._floor = bell.position
        """Rooms that are not in `_ends` have had no event since."""
        self._windows: dict[tuple[int, int, int, FilterSet], Window] = {}
        bell.subscribe(self._note)

    def _note(self, commit: Commit) -> None:
        ends = self._ends
        for change in commit.changes:
            if change.topic is Topic.TIMELINE:
                _, before = ends.pop(change.nid, (0, self._floor))
                ends[change.nid] = (before, change.position)
                if len(ends) > MAX_ROOMS:
                    _, self._floor = ends.pop(next(iter(ends)))

    def get(
        self, tx: ReadTransaction, room: int, after: int, until: int, filters: FilterSet, wanted: Wanted | None
    ) -> Window:
        """The window of a room after a point up to now, from memory where somebody else has opened it.

        Args:
            wanted: what `filters` lets through; nothing else.
        """
        low, high = self._ends.get(room, (until, until))
        if not low <= after < high <= until:  # more than the newest event, or none
            low, high = after, until
        key = (room, low, high, filters)
        window = self._windows.get(key)
        if window is None:
            window = open_window(tx, room, after, until, filters.timeline_limit, wanted)
            if len(window.events) <= MAX_SHARED_EVENTS:
                self._windows[key] = window
            if len(self._windows) > MAX_SHARED:
                del self._windows[next(iter(self._windows))]
        return window
