"""History that is not here: asked for from other servers when somebody reads back to where it ends.

spec: server-server-api#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from tinyserver.federation.client import FederationClient
from tinyserver.federation.participation.collector import ManySignatures, checked_events
from tinyserver.federation.participation.missing_events import MissingEventsFetcher, in_order
from tinyserver.federation.participation.states import RemoteStates
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.protocol.events import Event
from tinyserver.protocol.identifiers import domain_of
from tinyserver.protocol.request_auth import path_of
from tinyserver.rooms import older_events
from tinyserver.rooms.append import Appender
from tinyserver.rooms.older_events import MAX_STRETCH
from tinyserver.rooms.partial_state import MembersToCome, PartialRooms
from tinyserver.storage import events, names, rooms, server_stays
from tinyserver.storage.database import Database
from tinyserver.storage.graph import Gap
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds for which a reader waits. What comes later is there for the next request."""
ASK_TIMEOUT = 20.0
FETCH_TIMEOUT = 120.0
MAX_SERVERS = 5
MAX_STATES = 3
MAX_BYTES = 16 * 1024 * 1024
ROOMS_AT_ONCE = 5
_STARTS = 10
_AROUND = 20


class Backfill:
    """Fills gaps in rooms (`OlderEvents`). One stretch at a time is fetched for a room, whoever reads it.

    Args:
        db: where rooms are stored.
        client: requests to other servers.
        signatures: checks what they say.
        states: asks for states.
        missing: asks for auth events.
        appender: stores events.
        partial: rooms whose members are not all known: what the state was before is not either.
        server_name: this server, which is not asked.
    """

    def __init__(
        self,
        db: Database,
        client: FederationClient,
        signatures: ManySignatures,
        states: RemoteStates,
        missing: MissingEventsFetcher,
        appender: Appender,
        partial: PartialRooms,
        server_name: str,
    ) -> None:
        self._partial = partial
        self._db = db
        self._client = client
        self._signatures = signatures
        self._states = states
        self._missing = missing
        self._appender = appender
        self._server_name = server_name
        self._turns = asyncio.Semaphore(ROOMS_AT_ONCE)
        self._fetching: dict[int, asyncio.Task[bool]] = {}

    async def fill(self, room_nid: int, oldest: int, newest: int) -> bool:
        """Fetch some of what is missing before events of a room's timeline: what precedes the newest gap first.

        Args:
            oldest, newest: the places (inclusive) between which the events stand that follow something missing.

        Returns:
            Whether there is more now. After `PATIENCE` the answer is no, but the fetching goes on.
        """
        task = self._fetching.get(room_nid)
        if task is None:
            task = self._fetching[room_nid] = asyncio.ensure_future(self._fill(room_nid, oldest, newest))
            task.add_done_callback(lambda _: self._fetching.pop(room_nid, None))
        done, _ = await asyncio.wait((task,), timeout=PATIENCE)
        return bool(done) and task.result()

    async def close(self) -> None:
        """Give up what is being fetched."""
        fetching = list(self._fetching.values())
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)

    async def _fill(self, room_nid: int, oldest: int, newest: int) -> bool:
        try:
            await self._partial.whole(self._db.glance(lambda tx: rooms.room_id(tx, room_nid)))
        except MembersToCome:
            return False
        async with self._turns:
            room = self._db.glance(lambda tx: rooms.get(tx, room_nid))
            gaps = await self._db.read(lambda tx: older_events.newest_gaps(tx, room, oldest, newest, _STARTS))
            if not gaps:
                return True  # somebody else has filled it
            servers = await self._db.read(lambda tx: self._servers(tx, room, gaps))
            try:
                async with asyncio.timeout(FETCH_TIMEOUT):
                    for server in servers:
                        if await self._from_server(server, room, gaps):
                            return True
            except TimeoutError:
                log.info("the history of %s could not be fetched in time", room.room_id)
            return False

    async def bring(self, server: str, room: RoomRow, event_id: str) -> None:
        """Fetch an event of a room's history and some of what precedes it, wherever in the history it is.

        Raises:
            OutgoingError: the server does not give it.
            TimeoutError: it takes long to give what is needed.
        """
        async with self._turns, asyncio.timeout(ASK_TIMEOUT):
            await self._stretch(server, room, [], [event_id], _AROUND)

    async def _from_server(self, server: str, room: RoomRow, gaps: Sequence[Gap]) -> bool:
        """Whether a server could tell something."""
        starts = list(dict.fromkeys(gap.parent for gap in gaps))
        try:
            return await self._stretch(server, room, gaps, starts, MAX_STRETCH) > 0
        except OutgoingError as error:
            log.info("%s does not tell the history of %s: %s", server, room.room_id, error)
            return False

    async def _stretch(self, server: str, room: RoomRow, gaps: Sequence[Gap], starts: Sequence[str], limit: int) -> int:
        """Have a stretch of history that ends with some events; how many of its events are new in the timeline."""
        path = path_of("_matrix", "federation", "v1", "backfill", room.room_id)
        answer = await self._client.get(
            server, path, query={"v": list(starts), "limit": limit}, timeout=ASK_TIMEOUT, max_bytes=MAX_BYTES
        )
        raw = answer.get("pdus")
        listed = raw[:limit] if isinstance(raw, list) else []
        good = await checked_events(self._signatures, room.room_id, room.version, listed)
        ordered = in_order(_ancestors(starts, {event.event_id: event for event in good}))
        found = {event.event_id: event for event in ordered}
        new = await self._db.read(lambda tx: older_events.unplaced(tx, found))
        if not new:
            return 0
        wanted = await self._db.read(lambda tx: older_events.needs_state(tx, gaps, new))
        told = {}
        for event_id in wanted[:MAX_STATES]:
            with suppress(OutgoingError):
                told[event_id] = await self._states.before(server, room, event_id)
        await self._missing.complete_auth(server, room, list(new.values()))
        return await self._db.write(lambda tx: older_events.store(tx, self._appender, room, gaps, new, told))

    def _servers(self, tx: ReadTransaction, room: RoomRow, gaps: Sequence[Gap]) -> list[str]:
        """Whom to ask: those of the senders, then those with most users in the room."""
        children = events.get_many(tx, {gap.child for gap in gaps})
        named = [domain_of(child.event.sender) for child in children.values()]
        largest = [names.text(tx, server) for server in server_stays.largest(tx, room.nid, MAX_SERVERS)]
        here = {names.text(tx, server) for server in server_stays.now(tx, room.nid)}
        wanted = dict.fromkeys([*(server for server in named if server in here), *largest])
        wanted.pop(self._server_name, None)
        return list(wanted)[:MAX_SERVERS]


def _ancestors(starts: Sequence[str], found: dict[str, Event]) -> dict[str, Event]:
    """Those of the events that the named ones are or descend from; others were not asked for."""
    reached: dict[str, Event] = {}
    todo = [event_id for event_id in starts if event_id in found]
    while todo:
        event_id = todo.pop()
        if event_id not in reached:
            reached[event_id] = found[event_id]
            todo += [parent for parent in found[event_id].prev_event_ids if parent in found]
    return reached
