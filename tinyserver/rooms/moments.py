"""Finding the event of a room that is closest to a moment.

spec: client-server-api#get_matrixclientv1roomsroomidtimestamp_to_event
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import NotFound
from tinyserver.rooms.visibility import RoomView, open_view
from tinyserver.storage import events, timestamps
from tinyserver.storage.database import Database
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


class Moments:
    """Finds events by their time.

    Args:
        db: where rooms are stored.
        ignored: whose messages a user does not want to see.
    """

    def __init__(self, db: Database, ignored: IgnoredUsers) -> None:
        self._db = db
        self._ignored = ignored

    async def closest(self, requester: Requester, room_id: str, ts: int, *, backwards: bool) -> EventAtMoment:
        """The event closest to a moment that is not before it or, backwards, not after it.

        Args:
            ts: the moment (ms).

        Raises:
            Forbidden: the user may not read the room.
            NotFound: there is no such event that the user may see.
        """

        def step(tx: ReadTransaction) -> EventAtMoment:
            view = open_view(tx, room_id, requester)
            ignored = self._ignored.of_user(tx, requester.user_nid)
            found = _closest(tx, view, ignored, ts, backwards=backwards)
            if found is None:
                direction = "backward" if backwards else "forward"
                raise NotFound(f"There is no event in this room from {ts} on in {direction} direction")
            return EventAtMoment(events.get(tx, found[1].nid).event_id, found[0])

        return await self._db.read(step)


def _closest(
    tx: ReadTransaction, view: RoomView, ignored: frozenset[int], ts: int, *, backwards: bool
) -> TimedEntry | None:
    """The best of those close to where the moment is in the room's order, else the first one beyond."""
    best: TimedEntry | None = None
    for examined, timed in enumerate(_walk(tx, view, _place_of(tx, view, ts), backwards=backwards)):
        if best is not None and examined >= 2 * _NEIGHBOURHOOD:
            break
        if examined == MAX_EXAMINED:
            break
        found, entry = timed
        fits = found <= ts if backwards else found >= ts
        # In a tie the first one in the direction of the walk wins.
        if not fits or (best is not None and abs(found - ts) >= abs(best[0] - ts)):
            continue
        if entry.state_key is None and entry.sender in ignored:
            continue
        if view.sight.sees_entry(entry):
            best = timed
    return best


def _place_of(tx: ReadTransaction, view: RoomView, ts: int) -> int:
    """About the place after which events are of this moment or later."""
    low, high = view.room.first_place - 1, view.newest
    while high > low:
        middle = (low + high) // 2
        probe = timestamps.after(tx, view.room.nid, middle, _PROBE, until=high)
        if not probe:
            high = middle
        elif sorted(found for found, _ in probe)[len(probe) // 2] < ts:
            low = probe[-1][1].place if len(probe) < _PROBE else probe[len(probe) // 2][1].place
        else:
            high = middle
    return low


def _walk(tx: ReadTransaction, view: RoomView, place: int, *, backwards: bool) -> Iterator[TimedEntry]:
    """The events from a neighbourhood of a place on, in one direction."""
    room, oldest, newest = view.room.nid, view.room.first_place - 1, view.newest
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
