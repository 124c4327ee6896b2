"""What an event refers to and is not here: its ancestors by get_missing_events, and the state where these end.

spec: server-server-api#retrieving-missing-events
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial

from tinyserver.federation.client import FederationClient
from tinyserver.federation.participation.collector import ManySignatures, checked_events
from tinyserver.federation.participation.states import RemoteStates
from tinyserver.outgoing.errors import AnswerMalformed, OutgoingError, Unreachable
from tinyserver.protocol.events import Event
from tinyserver.protocol.request_auth import path_of
from tinyserver.rooms.asked_elsewhere import Ancestor
from tinyserver.storage import events, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

log = logging.getLogger(__name__)

MAX_EVENTS = 1000
"""How many ancestors are fetched for one event; what is further back is history."""
MAX_ROUNDS = 60
MAX_STATES = 5
"""How many states are asked for where the ancestors end."""
MAX_AUTH_CHAINS = 10
FETCH_TIMEOUT = 120.0
"""Seconds for everything that one event lacks: others of the room wait for it."""
EVENT_TIMEOUT = 15.0
_ASKED_FOR = 100
_NAMED = 20


class MissingEventsFetcher:
    """The pipeline's `MissingEvents`, and the inbox's `Elsewhere`: asks the server that sent the event.

    Args:
        db: where rooms are stored.
        client: requests to other servers.
        signatures: checks events.
        states: asks for states.
    """

    def __init__(
        self, db: Database, client: FederationClient, signatures: ManySignatures, states: RemoteStates
    ) -> None:
        self._db = db
        self._client = client
        self._signatures = signatures
        self._states = states

    async def fetch(self, origin: str, room: RoomRow, event: Event, missing: Sequence[str]) -> Sequence[Ancestor]:
        """Get what an event lacks, as far as its server gives it within some time."""
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                found = await self._ancestors(origin, room, event)
                return await self._admissible(origin, room, found)
        except (OutgoingError, TimeoutError) as error:
            log.info("%s does not tell what %s in %s follows: %s", origin, event.event_id, room.room_id, error)
            return ()

    async def event(self, server: str, room: RoomRow, event_id: str) -> Event | None:
        """An event of a room, checked; None if the server does not give it.

        spec: server-server-api#get_matrixfederationv1eventeventid
        """
        try:
            path = path_of("_matrix", "federation", "v1", "event", event_id)
            pdus = (await self._client.get(server, path, timeout=EVENT_TIMEOUT)).get("pdus")
        except OutgoingError as error:
            log.info("%s does not give %s in %s: %s", server, event_id, room.room_id, error)
            return None
        listed = pdus[:1] if isinstance(pdus, list) else []
        found = await checked_events(self._signatures, room.room_id, room.version, listed)
        return next((event for event in found if event.event_id == event_id), None)

    def is_failing(self, server: str) -> bool:
        """Whether a server could not be reached when it was last tried."""
        return self._client.is_failing(server)

    async def _ancestors(self, origin: str, room: RoomRow, event: Event) -> dict[str, Event]:
        """The event and those of its ancestors that are not here, by ID."""
        found = {event.event_id: event}
        path = path_of("_matrix", "federation", "v1", "get_missing_events", room.room_id)
        earliest = self._db.glance(lambda tx: _ids_of(tx, room))
        for _ in range(MAX_ROUNDS):
            open_ends = await self._open_ends(found)
            if not open_ends or len(found) >= MAX_EVENTS:
                break
            content = {
                "earliest_events": earliest,
                "latest_events": open_ends[:_NAMED],
                "limit": _ASKED_FOR,
                "min_depth": 0,
            }
            try:
                answer = await self._client.post(origin, path, content)
            except (Unreachable, AnswerMalformed):
                raise  # the connection broke, or in the middle of the answer: later it tells more, and no gap stays
            except OutgoingError:
                break  # the state will have to do
            raw = answer.get("events")
            listed = raw[:_ASKED_FOR] if isinstance(raw, list) else []
            new = await checked_events(self._signatures, room.room_id, room.version, listed)
            before = len(found)
            for ancestor in new:
                found.setdefault(ancestor.event_id, ancestor)
            if len(found) == before:
                break
        return found

    async def _open_ends(self, found: Mapping[str, Event]) -> list[str]:
        """Those of the events that have parents which are neither among them nor in the room."""
        parents = {parent for event in found.values() for parent in event.prev_event_ids if parent not in found}
        here = await self._db.read(lambda tx: placed(tx, parents))
        return [
            event.event_id
            for event in found.values()
            if any(parent not in found and parent not in here for parent in event.prev_event_ids)
        ]

    async def _admissible(self, origin: str, room: RoomRow, found: Mapping[str, Event]) -> list[Ancestor]:
        """The events in the order of their edges; those whose parents are missing with the state before them."""
        open_ends = set(await self._open_ends(found))
        states: dict[str, Sequence[int]] = {}
        ordered = in_order(found)
        is_partial = self._db.glance(lambda tx: rooms.get(tx, room.nid).is_partial)
        assumed = open_ends if is_partial else set[str]()
        for event_id in [event.event_id for event in ordered if event.event_id in open_ends - assumed][:MAX_STATES]:
            with suppress(OutgoingError):
                states[event_id] = await self._states.before(origin, room, event_id)
        await self.complete_auth(origin, room, ordered)
        return [
            Ancestor(event, states.get(event.event_id), event.event_id in assumed)
            for event in ordered
            if event.event_id not in open_ends or event.event_id in states or event.event_id in assumed
        ]

    async def complete_auth(self, origin: str, room: RoomRow, ordered: Sequence[Event]) -> None:
        """Have the auth events of events (each after its parents) that are about to be stored, be they outliers."""
        ids = {event.event_id for event in ordered}
        for _ in range(MAX_AUTH_CHAINS):
            lacking = await self._db.read(partial(_lacks_auth, ordered=ordered, coming=frozenset(ids)))
            if lacking is None:
                return
            with suppress(OutgoingError):
                await self._states.auth_chain(origin, room, lacking)
            ids |= set(lacking.auth_event_ids)  # not asked for twice


def _ids_of(tx: ReadTransaction, room: RoomRow) -> list[str]:
    return [stored.event_id for stored in events.get_many(tx, room.extremities[:_NAMED]).values()]


def placed(tx: ReadTransaction, event_ids: Iterable[str]) -> set[str]:
    """Those of the events around which the state is known."""
    found = events.find_many(tx, event_ids)
    return {event_id for event_id, nid in found.items() if events.has_state(tx, nid)}


def _lacks_auth(tx: ReadTransaction, ordered: Iterable[Event], coming: Set[str]) -> Event | None:
    """The first of the events with an auth event that is neither here nor coming."""
    for event in ordered:
        wanted = [event_id for event_id in event.auth_event_ids if event_id not in coming]
        if len(events.find_many(tx, wanted)) < len(set(wanted)):
            return event
    return None


def in_order(found: Mapping[str, Event]) -> list[Event]:
    """The events, each after its parents."""
    ordered: list[Event] = []
    begun: set[str] = set()
    done: set[str] = set()
    for first in sorted(found.values(), key=lambda event: event.depth):
        todo = [first.event_id]
        while todo:
            event_id = todo[-1]
            if event_id not in begun:
                begun.add(event_id)
                todo += [parent for parent in found[event_id].prev_event_ids if parent in found and parent not in begun]
                continue
            todo.pop()
            if event_id not in done:
                done.add(event_id)
                ordered.append(found[event_id])
    return ordered
