"""Looking through a room's timeline for the events that a reader wants and may see.

Type, sender and visibility are decided from the timeline's rows alone; an event is only decoded if it is shown, or if
its content matters. So long stretches that a filter or the history visibility leaves out cost little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinyserver.protocol.filters import EventMatcher
from tinyserver.rooms.visibility import RoomView
from tinyserver.storage import events, names, relations, timeline_entries
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.timeline_entries import Entry
from tinyserver.storage.transaction import ReadTransaction

MAX_EXAMINED = 10_000
"""How many rows of a timeline are looked at for one page; then the page ends, with a token to go on."""
MAX_DECODED = 1_000
"""How many events are decoded for one page."""
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Found:
    """Events in the order of the scan. `point` is the point after the last row that was looked at (in the direction of
    the scan); `end` the same, or None if nothing is left beyond it."""

    events: Sequence[StoredEvent]
    point: int
    end: int | None


class TimelineScan:
    """Scans one room for one reader, within one transaction.

    Args:
        view: the room as the reader sees it.
        matcher: what the reader wants.
        ignored: nids of users whose messages are left out.
    """

    def __init__(self, tx: ReadTransaction, view: RoomView, matcher: EventMatcher, ignored: frozenset[int]) -> None:
        self._tx = tx
        self._view = view
        self._matcher = matcher
        self._ignored = ignored
        self._by_content = matcher.needs_content or matcher.asks_for_relations

    def backwards(self, point: int, stop: int, limit: int) -> Found:
        """The newest events before a point and after `stop`, newest first."""

        def read(point: int, count: int) -> list[Entry]:
            return timeline_entries.before(self._tx, self._view.room.nid, point, count, after=stop)

        return self._scan(read, point, limit, -1)

    def forwards(self, point: int, stop: int, limit: int) -> Found:
        """The oldest events after a point and before `stop`, oldest first."""

        def read(point: int, count: int) -> list[Entry]:
            return timeline_entries.after(self._tx, self._view.room.nid, point, count, until=stop)

        return self._scan(read, point, limit, 0)

    def _scan(self, read: Callable[[int, int], list[Entry]], point: int, limit: int, beyond: int) -> Found:
        """Args: `beyond` is what makes an entry's place the point beyond it."""
        if not self._matcher.includes_room(self._view.room.room_id):
            return Found((), point, None)
        chosen: list[int] = []
        examined = decoded = 0
        while True:
            all_shown = len(chosen) == examined
            entries = read(point, min(limit - len(chosen) + 1, _BATCH) if all_shown else _BATCH)
            if not entries:
                return Found(self._load(chosen), point, None)
            for entry in entries:
                if len(chosen) == limit or decoded == MAX_DECODED:
                    return Found(self._load(chosen), point, point)
                point = entry.place + beyond
                if self._may_be_shown(entry):
                    decoded += self._by_content
                    if not self._by_content or self._is_wanted(events.get(self._tx, entry.nid)):
                        chosen.append(entry.nid)
            examined += len(entries)
            if examined >= MAX_EXAMINED:
                return Found(self._load(chosen), point, point)

    def _may_be_shown(self, entry: Entry) -> bool:
        matcher = self._matcher
        if not matcher.lets_all_through and not matcher.matches_origin(
            names.text(self._tx, entry.type), names.text(self._tx, entry.sender)
        ):
            return False
        if entry.state_key is None and entry.sender in self._ignored:
            return False
        return self._view.sight.sees_entry(entry)

    def _is_wanted(self, stored: StoredEvent) -> bool:
        event, matcher = stored.event, self._matcher
        if not matcher.matches(event.type, event.sender, event.content):
            return False
        return not matcher.asks_for_relations or matcher.matches_relations(
            relations.kinds_and_senders(self._tx, stored.room, stored.event_id)
        )

    def _load(self, nids: list[int]) -> list[StoredEvent]:
        found = events.get_many(self._tx, nids)
        return [found[nid] for nid in nids]
