"""Finding the event of a room that is closest to a moment.

spec: client-server-api#get_matrixclientv1roomsroomidtimestamp_to_event
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import NotFound
from tinyserver.rooms.visibility import RoomView, open_view
from tinyserver.storage import events, graph, timestamps
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.timeline_entries import Entry
from tinyserver.storage.timestamps import TimedEntry
from tinyserver.storage.transaction import ReadTransaction

MAX_EXAMINED = 10_000
"""How many events are looked at for one that the reader may see."""
_PROBE = 7
"""How many neighbours are asked for the time at a place: the clocks of a few of them may be wrong."""
_NEIGHBOURHOOD = 200
"""How far events may stand from where their timestamps would put them and still be found as the closest."""
_BATCH = 500


@dataclass(frozen=True, slots=True)
class EventAtMoment:
    """An event and its timestamp (ms)."""

    event_id: str
    origin_server_ts: int


class MomentsElsewhere(Protocol):
    """Finds events in history that is not here (implemented by federation)."""

    async def closest(self, room_nid: int, ts: int, *, backwards: bool, known: int | None) -> EventAtMoment | None:
        """The event closest to a moment that another server tells of within some seconds; it is here then.

        Args:
            known: the timestamp (ms) of the closest one that is here.
        """


class Moments:
    """Finds events by their time.

    Args:
        db: where rooms are stored.
        ignored: whose messages a user does not want to see.
        elsewhere: knows history that is not here; None: nobody does.
    """

    def __init__(self, db: Database, ignored: IgnoredUsers, elsewhere: MomentsElsewhere | None = None) -> None:
        self._db = db
        self._ignored = ignored
        self._elsewhere = elsewhere

    async def closest(self, requester: Requester, room_id: str, ts: int, *, backwards: bool) -> EventAtMoment:
        """The event closest to a moment that is not before it or, backwards, not after it.

        Args:
            ts: the moment (ms).

        Raises:
            Forbidden: the user may not read the room.
            NotFound: there is no such event that the user may see.
        """

        def step(tx: ReadTransaction) -> tuple[int, EventAtMoment | None, bool]:
            view = open_view(tx, room_id, requester)
            ignored = self._ignored.of_user(tx, requester.user_nid)
            found = _closest(tx, view.room, view.newest, _by(view, ignored), ts, backwards=backwards)
            at = None if found is None else EventAtMoment(events.get(tx, found[1].nid).event_id, found[0])
            return view.room.nid, at, _lies_in_gap(tx, view, None if found is None else found[1].place, ts)

        room, found, in_gap = await self._db.read(step)
        if in_gap and self._elsewhere is not None:
            known = None if found is None else found.origin_server_ts
            other = await self._elsewhere.closest(room, ts, backwards=backwards, known=known)
            if other is not None:
                found = await self._db.read(lambda tx: _seen(tx, room_id, requester, other.event_id)) or found
        if found is None:
            direction = "backward" if backwards else "forward"
            raise NotFound(f"There is no event in this room from {ts} on in {direction} direction")
        return found


def closest_in_room(
    tx: ReadTransaction, room: RoomRow, is_shown: Callable[[Entry], bool], ts: int, *, backwards: bool
) -> EventAtMoment | None:
    """The event of a room closest to a moment (ms) that is not before it or, backwards, not after it."""
    found = _closest(tx, room, room.last_event, is_shown, ts, backwards=backwards)
    return None if found is None else EventAtMoment(events.get(tx, found[1].nid).event_id, found[0])


def _by(view: RoomView, ignored: frozenset[int]) -> Callable[[Entry], bool]:
    """What a reader is shown."""

    def is_shown(entry: Entry) -> bool:
        return (entry.state_key is not None or entry.sender not in ignored) and view.sight.sees_entry(entry)

    return is_shown


def _lies_in_gap(tx: ReadTransaction, view: RoomView, place: int | None, ts: int) -> bool:
    """Whether events are missing between where a moment is in a room's order and the event that was found for it."""
    room = view.room
    low = _place_of(tx, room, view.newest, ts)
    ends = (low,) if place is None else (low, place)
    following = timestamps.after(tx, room.nid, max(ends), 1, until=view.newest)
    newest = following[0][1].place if following else max(ends)
    gaps = graph.gaps(tx, room.nid, room.version, min(ends), newest, 1)
    return bool(gaps) and view.sight.sees_before(events.get(tx, gaps[0].child))


def _seen(tx: ReadTransaction, room_id: str, requester: Requester, event_id: str) -> EventAtMoment | None:
    """An event of a room, if it is here and the reader may see it."""
    view = open_view(tx, room_id, requester)
    stored = events.by_id(tx, event_id)
    if stored is None or stored.room != view.room.nid or stored.place is None or not view.sight.sees(stored):
        return None
    return EventAtMoment(event_id, stored.event.origin_server_ts)


def _closest(
    tx: ReadTransaction,
    room: RoomRow,
    newest: int,
    is_shown: Callable[[Entry], bool],
    ts: int,
    *,
    backwards: bool,
) -> TimedEntry | None:
    """The best of those close to where the moment is in the room's order, else the first one beyond."""
    best: TimedEntry | None = None
    begin = _place_of(tx, room, newest, ts)
    for examined, timed in enumerate(_walk(tx, room, newest, begin, backwards=backwards)):
        if best is not None and examined >= 2 * _NEIGHBOURHOOD:
            break
        if examined == MAX_EXAMINED:
            break
        found, entry = timed
        fits = found <= ts if backwards else found >= ts
        # In a tie the first one in the direction of the walk wins.
        if not fits or (best is not None and abs(found - ts) >= abs(best[0] - ts)):
            continue
        if is_shown(entry):
            best = timed
    return best


def _place_of(tx: ReadTransaction, room: RoomRow, newest: int, ts: int) -> int:
    """About the place after which events are of this moment or later."""
    low, high = room.first_place - 1, newest
    while high > low:
        middle = (low + high) // 2
        probe = timestamps.after(tx, room.nid, middle, _PROBE, until=high)
        if not probe:
            high = middle
        elif sorted(found for found, _ in probe)[len(probe) // 2] < ts:
            low = probe[-1][1].place if len(probe) < _PROBE else probe[len(probe) // 2][1].place
        else:
            high = middle
    return low


def _walk(tx: ReadTransaction, row: RoomRow, newest: int, place: int, *, backwards: bool) -> Iterator[TimedEntry]:
    """The events from a neighbourhood of a place on, in one direction."""
    room, oldest = row.nid, row.first_place - 1
    if backwards:
        beyond = timestamps.after(tx, room, place, _NEIGHBOURHOOD, until=newest)
        point = beyond[-1][1].place if beyond else place
    else:
        beyond = timestamps.before(tx, room, place, _NEIGHBOURHOOD, after=oldest)
        point = beyond[-1][1].place - 1 if beyond else place
    while True:
        if backwards:
            batch = timestamps.before(tx, room, point, _BATCH, after=oldest)
        else:
            batch = timestamps.after(tx, room, point, _BATCH, until=newest)
        yield from batch
        if len(batch) < _BATCH:
            return
        point = batch[-1][1].place - backwards
