"""Rooms compared with other servers after this one was away: what came meanwhile is fetched, the liveliest rooms first.

What follows last in a room is what a server proposes that a next event should follow: it says so in the template of a
leave, which is asked for and thrown away. Events that are not here go the way of those that a server sends by itself,
and what they lack is fetched as always. Where that is too much at once, a gap is left in the timeline; gaps that have
come into being since this server runs are filled then, the newest first.

spec: server-server-api#leaving-rooms-rejecting-invites (`make_leave`)
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from tinyserver.clock import Clock
from tinyserver.federation.client import FederationClient
from tinyserver.federation.inbox import PER_STEP, Elsewhere, Inbox
from tinyserver.federation.participation.missing_events import placed
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.protocol.identifiers import domain_of
from tinyserver.protocol.request_auth import path_of
from tinyserver.rooms.history import OlderEvents
from tinyserver.storage import events, graph, memberships, names, outgoing, rooms, server_stays
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.outgoing import MAX_POSITION
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

log = logging.getLogger(__name__)

AWAY_MS = 60_000
"""Who was away for a shorter time has missed nothing: others try again by themselves."""
PEERS = 2
"""With so many servers a room is compared ..."""
MAX_ASKED = 5
"""... of so many that are asked."""
ROOMS_AT_ONCE = 2
MAX_ROOMS = 2000
PAUSE = 600.0
"""Seconds in which a room is not compared again."""
ASK_TIMEOUT = 15.0
MAX_STRETCHES = 50
"""So many times a hundred events are fetched to fill the gaps of a room; the rest when somebody reads it."""
_MAX_EXTREMITIES = 20
_GAPS = 10


class RoomComparison:
    """Compares the rooms that are shared with other servers. Lives on the event loop.

    Args:
        db: where rooms are stored.
        client: requests to other servers.
        elsewhere: asks other servers for events.
        inbox: takes events into rooms.
        older: fills gaps; None: without federation.
        clock: how long this server was away.
        server_name: this server.
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(
        self,
        db: Database,
        client: FederationClient,
        elsewhere: Elsewhere,
        inbox: Inbox,
        older: OlderEvents | None,
        clock: Clock,
        server_name: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._db = db
        self._client = client
        self._elsewhere = elsewhere
        self._inbox = inbox
        self._older = older
        self._clock = clock
        self._server_name = server_name
        self._monotonic = monotonic
        self._compared: OrderedDict[int, float] = OrderedDict()
        self._turns = asyncio.Semaphore(ROOMS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._since = 0
        """The position at which this server has begun to run."""

    def start(self) -> None:
        """Compare all rooms that are shared with other servers, if this one was away for long enough."""
        self._since = self._db.position
        alive = self._db.glance(outgoing.last_alive)
        if self._clock.now_ms() - alive > AWAY_MS:
            self.compare_all()

    def compare_all(self) -> None:
        """Begin to compare all rooms, but for those where that was done lately."""
        task = asyncio.ensure_future(self._compare_all())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop comparing."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _compare_all(self) -> None:
        try:
            found = await self._db.read(lambda tx: server_stays.shared_rooms(tx, MAX_ROOMS))
            await asyncio.gather(*(self._compare(room) for room in found))
        except StorageError as error:
            log.warning("rooms could not be compared with other servers: %s", error)

    async def _compare(self, room_nid: int) -> None:
        async with self._turns:
            if not self._is_due(room_nid):
                return
            room = self._db.glance(lambda tx: rooms.get(tx, room_nid))
            answered = 0
            for peer in await self._db.read(lambda tx: self._servers(tx, room_nid)):
                try:
                    await self._compare_with(peer, room)
                    answered += 1
                except OutgoingError as error:
                    log.debug("%s cannot be compared with %s: %s", room.room_id, peer, error)
                if answered == PEERS:
                    break
            if not answered:
                self._compared.pop(room_nid, None)
                return
            await self._inbox.worked_through(room_nid)
            for _ in range(MAX_STRETCHES):
                place = await self._db.read(lambda tx: self._newest_gap(tx, room))
                if place is None or self._older is None or not await self._older.fill(room_nid, place, place):
                    return

    def _is_due(self, room: int) -> bool:
        now = self._monotonic()
        if now < self._compared.get(room, -PAUSE) + PAUSE:
            return False
        self._compared[room] = now
        self._compared.move_to_end(room)
        if len(self._compared) > MAX_ROOMS:
            self._compared.popitem(last=False)
        return True

    async def _compare_with(self, server: str, room: RoomRow) -> None:
        user_id = self._db.glance(lambda tx: _local_member(tx, room.nid))
        if user_id is None:
            return
        path = path_of("_matrix", "federation", "v1", "make_leave", room.room_id, user_id)
        answer = await self._client.get(server, path, timeout=ASK_TIMEOUT)
        proposed = answer.get("event")
        parents = proposed.get("prev_events") if isinstance(proposed, dict) else None
        ids = _event_ids(parents)[:_MAX_EXTREMITIES]
        here = await self._db.read(lambda tx: placed(tx, ids))
        found = [await self._elsewhere.event(server, room, event_id) for event_id in ids if event_id not in here]
        good = [event for event in found if event is not None]
        for start in range(0, len(good), PER_STEP):
            await self._inbox.take(server, room, good[start : start + PER_STEP])
        if good:
            log.info("%s has %d newer events of %s", server, len(good), room.room_id)

    def _newest_gap(self, tx: ReadTransaction, room: RoomRow) -> int | None:
        """The place of the newest event of others that follows something missing and came since the start; what
        precedes a join of our own is history."""
        found = graph.gaps(tx, room.nid, room.version, -MAX_POSITION, MAX_POSITION, _GAPS, self._since + 1)
        children = events.get_many(tx, {gap.child for gap in found})
        ours = {nid for nid, child in children.items() if domain_of(child.event.sender) == self._server_name}
        return next((gap.place for gap in found if gap.child not in ours), None)

    def _servers(self, tx: ReadTransaction, room: int) -> list[str]:
        largest = [names.text(tx, server) for server in server_stays.largest(tx, room, MAX_ASKED + 1)]
        return [server for server in largest if server != self._server_name][:MAX_ASKED]


def _local_member(tx: ReadTransaction, room: int) -> str | None:
    found = memberships.local_members(tx, room)
    return names.text(tx, found[0]) if found else None


def _event_ids(parents: Any) -> Sequence[str]:
    """The IDs in `prev_events` of whatever room version."""
    if not isinstance(parents, list):
        return ()
    ids = [parent[0] if isinstance(parent, list) and parent else parent for parent in parents]
    return list(dict.fromkeys(each for each in ids if isinstance(each, str)))
