"""Bundled aggregations: what the children of an event amount to, for one reader.

Only children that the reader sees count, none from users whom they ignore, and none that were redacted.

spec: client-server-api#aggregations-of-child-events
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyserver.protocol.relations import REFERENCE, THREAD, is_valid_edit, may_root_thread
from tinyserver.rooms.visibility import ALWAYS, NEVER, Sight, start_of_stay
from tinyserver.storage import events, memberships, relations
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.timeline_entries import Entry
from tinyserver.storage.transaction import ReadTransaction

MAX_EDITS = 100
"""How many of the latest edits of an event are looked at for a valid one."""
MAX_REFERENCES = 500
"""How many of the newest references to an event are named."""
MAX_CHECKED = 2_000
"""How many children from before a reader's time in the room are looked at."""
_BATCH = 50


@dataclass(frozen=True, slots=True)
class ThreadSummary:
    """A thread as its root shows it: its newest event, how many there are, and whether the reader is among those who
    wrote in it."""

    latest: StoredEvent
    count: int
    participated: bool


@dataclass(frozen=True, slots=True)
class Aggregation:
    """What is bundled with an event: the edit that replaces it now, the IDs of events that refer to it (oldest first),
    and the thread of which it is the root."""

    edit: StoredEvent | None
    references: Sequence[str]
    thread: ThreadSummary | None


class Aggregations:
    """Aggregates children within one room, for one reader, within one transaction.

    Args:
        room, user: nids of the room and the reader.
        sight: what the reader sees of the room.
        ignored: nids of users whom the reader ignores.
        until: the last place that counts.
    """

    __slots__ = ("_ignored", "_room", "_stay", "_tx", "_until", "_user", "sight")

    def __init__(
        self,
        tx: ReadTransaction,
        room: int,
        user: int,
        sight: Sight,
        ignored: frozenset[int],
        until: int = ALWAYS,
    ) -> None:
        self._tx = tx
        self._room = room
        self._user = user
        self._ignored = ignored
        self._until = until
        self._stay: int | None = None
        self.sight = sight

    def of(self, stored: StoredEvent) -> Aggregation | None:
        """What is bundled with an event; None: nothing."""
        if not stored.flags & Flag.PARENT or stored.state_key_nid is not None:
            return None
        found = Aggregation(self._edit(stored), self._references(stored), self.thread(stored))
        return found if found.edit or found.references or found.thread else None

    # -- threads ---------------------------------------------------------------------------------

    def thread(self, root: StoredEvent) -> ThreadSummary | None:
        """The thread that starts at an event; None if there is none.

        spec: client-server-api#server-side-aggregation-of-mthread-relationships
        """
        if not may_root_thread(root.event):
            return None
        latest = self.latest_reply(root.event_id)
        if latest is None:
            return None
        tx, since = self._tx, min(self._in_sight_after(), self._until)
        by_sender = relations.count_by_sender(tx, self._room, root.event_id, THREAD, since, self._until)
        early = self._children(root.event_id, THREAD, since)
        return ThreadSummary(
            events.get(tx, latest.nid),
            sum(count for sender, count in by_sender if sender not in self._ignored) + sum(map(self._counts, early)),
            root.sender_nid == self._user
            or any(sender == self._user for sender, _ in by_sender)
            or any(entry.sender == self._user for entry in early),
        )

    def latest_reply(self, root_id: str) -> Entry | None:
        """The newest event of a thread that the reader sees."""
        point, checked = self._until, 0
        while checked < MAX_CHECKED:
            batch = relations.before(self._tx, self._room, root_id, point, _BATCH, after=NEVER, rel_type=THREAD)
            for entry in batch:
                if self._counts(entry):
                    return entry
                point = entry.place - 1
            checked += len(batch)
            if len(batch) < _BATCH:
                break
        return None

    # -- edits and references --------------------------------------------------------------------

    def _edit(self, original: StoredEvent) -> StoredEvent | None:
        """The latest valid replacement.

        spec: client-server-api#server-side-aggregation-of-mreplace-relationships
        """
        if original.flags & Flag.REDACTED or original.sender_nid in self._ignored:
            return None
        best: StoredEvent | None = None
        for nid in relations.edits(self._tx, original, self._until, MAX_EDITS):
            edit = events.get(self._tx, nid)
            if best is not None and edit.event.origin_server_ts < best.event.origin_server_ts:
                break
            if best is not None and edit.event_id < best.event_id:
                continue
            if is_valid_edit(original.event, edit.event) and self.sight.sees(edit):
                best = edit
        return best

    def _references(self, stored: StoredEvent) -> Sequence[str]:
        newest = relations.before(
            self._tx, self._room, stored.event_id, self._until, MAX_REFERENCES, after=NEVER, rel_type=REFERENCE
        )
        nids = [entry.nid for entry in reversed(newest) if self._counts(entry)]
        return relations.event_ids(self._tx, nids, stored.event.version) if nids else ()

    # -- who sees what ---------------------------------------------------------------------------

    def _children(self, event_id: str, rel_type: str, until: int) -> list[Entry]:
        return relations.before(self._tx, self._room, event_id, until, MAX_CHECKED, after=NEVER, rel_type=rel_type)

    def _counts(self, entry: Entry) -> bool:
        return entry.sender not in self._ignored and self.sight.sees_entry(entry)

    def _in_sight_after(self) -> int:
        """The place after which the reader sees everything: since then they have been in the room."""
        if self._stay is None:
            row = memberships.get(self._tx, self._room, self._user)
            start = None if row is None else start_of_stay(self._tx, row)
            self._stay = ALWAYS if start is None else start - 1
        return self._stay
