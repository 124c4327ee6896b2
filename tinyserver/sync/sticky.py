"""Sticky events that an answer of sync would not have in its timelines.

spec: MSC4354, MSC4480
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from tinyserver.protocol.sticky import TTL
from tinyserver.rooms.rendering import EventRenderer
from tinyserver.rooms.sticky import MAX_OF_ROOM
from tinyserver.storage import events, names, sticky_events
from tinyserver.storage.sticky_events import StickyRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction

_BATCH = 200
_MAX_SCANNED = 2_000


@dataclass(frozen=True, slots=True)
class Sticky:
    """An event that is sticky until a time (ms since 1970)."""

    stored: StoredEvent
    until: int


@dataclass(slots=True)
class StickyNews:
    """Sticky events by room (nid), and the position up to which these are all."""

    rooms: dict[int, list[Sticky]] = field(default_factory=dict)
    until: int = 0


def of_room(
    tx: ReadTransaction, room: int, since: int, until: int, shown: Iterable[StoredEvent], ignored: Collection[str]
) -> list[Sticky]:
    """The newest of a room that came at a position in (since, until], without those shown already.

    Args:
        ignored: the IDs of users whose events are not wanted.
    """
    return _load(tx, sticky_events.in_room(tx, room, since, until, MAX_OF_ROOM), shown, ignored)


def of_rooms(
    tx: ReadTransaction, rooms: Collection[int], since: int, until: int, limit: int, ignored: Collection[str]
) -> StickyNews:
    """The first of some rooms that came at a position in (since, until], so many at most."""
    news = StickyNews(until=until)
    count = scanned = 0
    while True:
        rows = sticky_events.anywhere(tx, since, until, _BATCH)
        for row in rows:
            since = row.position
            if row.room in rooms:
                count += 1
                for sticky in _load(tx, [row], (), ignored):
                    news.rooms.setdefault(row.room, []).append(sticky)
                if count == limit:
                    news.until = since
                    return news
        scanned += len(rows)
        if len(rows) < _BATCH:
            return news
        if scanned >= _MAX_SCANNED:
            news.until = since
            return news


def texts(renderer: EventRenderer, found: Sequence[Sticky], now_ms: int) -> list[bytes]:
    """The JSON of those whose time is not over."""
    return [
        renderer.event_with(sticky.stored, {TTL: sticky.until - now_ms}) for sticky in found if sticky.until > now_ms
    ]


def _load(
    tx: ReadTransaction, rows: Sequence[StickyRow], shown: Iterable[StoredEvent], ignored: Collection[str]
) -> list[Sticky]:
    if not rows:
        return []
    known = {stored.nid for stored in shown}
    loaded = events.get_many(tx, [row.event for row in rows if row.event not in known])
    return [
        Sticky(stored, row.until)
        for row in rows
        if (stored := loaded.get(row.event)) is not None
        and stored.redacted_by is None
        and not (ignored and stored.event.state_key is None and names.text(tx, stored.sender_nid) in ignored)
    ]
