"""The state of a room at an event, as another server tells it: asked for with the fewest bytes.

spec: server-server-api#retrieving-events
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinyserver.federation.client import FederationClient
from tinyserver.federation.participation.collector import (
    MAX_CHAIN_BYTES,
    MAX_STATE_BYTES,
    Collector,
    ManySignatures,
)
from tinyserver.federation.participation.event_budget import EventBudget
from tinyserver.outgoing.errors import AnswerMalformed, OutgoingError
from tinyserver.protocol.events import Event
from tinyserver.protocol.request_auth import path_of
from tinyserver.storage import events, room_state
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow

IDS_TIMEOUT = 30.0
STATE_TIMEOUT = 300.0
MAX_IDS_BYTES = 16 * 1024 * 1024
ONE_BY_ONE = 40
"""Up to so many unknown events are asked for by their IDs; beyond, the whole state is."""
_AT_ONCE = 5


class RemoteStates:
    """Asks other servers for states and auth chains.

    Args:
        db: where the events are stored.
        client: requests to other servers.
        signatures: checks what they say.
        directory: for what does not fit into memory.
        budget: how many events may be held.
    """

    def __init__(
        self,
        db: Database,
        client: FederationClient,
        signatures: ManySignatures,
        directory: Path,
        budget: EventBudget,
    ) -> None:
        self._db = db
        self._client = client
        self._signatures = signatures
        self._directory = directory
        self._budget = budget

    async def before(self, server: str, room: RoomRow, event_id: str) -> Sequence[int]:
        """The numbers of the events of the state before an event; those that were not here are stored as outliers.

        Raises:
            OutgoingError: the server does not tell it.
        """
        path = path_of("_matrix", "federation", "v1", "state_ids", room.room_id)
        answer = await self._client.get(
            server, path, query={"event_id": event_id}, timeout=IDS_TIMEOUT, max_bytes=MAX_IDS_BYTES
        )
        state, chain = _ids(answer.get("pdu_ids")), _ids(answer.get("auth_chain_ids"))
        known = await self._known([*state, *chain])
        missing = [event_id for event_id in dict.fromkeys([*chain, *state]) if event_id not in known]
        if missing:
            async with asyncio.timeout(STATE_TIMEOUT):
                await self._get(server, room, event_id, missing)
            known = await self._known(state)
        found = [known[event_id] for event_id in state if event_id in known]
        if not found:
            raise AnswerMalformed(f"{server} told no state that could be used")
        return found

    async def auth_chain(self, server: str, room: RoomRow, event: Event) -> None:
        """Store the auth chain of an event as outliers. Raises OutgoingError if the server does not tell it."""
        path = path_of("_matrix", "federation", "v1", "event_auth", room.room_id, event.event_id)
        await self._stream(server, room, path, None, event.auth_event_ids, MAX_CHAIN_BYTES)

    async def _get(self, server: str, room: RoomRow, event_id: str, missing: Sequence[str]) -> None:
        if len(missing) > ONE_BY_ONE:
            path = path_of("_matrix", "federation", "v1", "state", room.room_id)
            await self._stream(server, room, path, event_id, missing, MAX_STATE_BYTES)
            return
        turns = asyncio.Semaphore(_AT_ONCE)

        async def get(wanted: str) -> list[Any]:
            with suppress(OutgoingError):
                async with turns:
                    answer = await self._client.get(server, path_of("_matrix", "federation", "v1", "event", wanted))
                pdus = answer.get("pdus")
                return pdus if isinstance(pdus, list) else []
            return []

        answers = await asyncio.gather(*(get(wanted) for wanted in missing))
        collector = self._collector(room)
        try:
            await collector.take([pdu for pdus in answers for pdu in pdus[:1]])
            await collector.store(self._create(room), missing)
        finally:
            collector.close()

    async def _stream(
        self, server: str, room: RoomRow, path: str, event_id: str | None, wanted: Sequence[str], max_bytes: int
    ) -> None:
        query = None if event_id is None else {"event_id": event_id}
        collector = self._collector(room, frozenset(wanted))
        try:
            async with self._client.stream("GET", server, path, query=query, timeout=STATE_TIMEOUT) as answer:
                await collector.read(answer, "pdus", max_bytes=max_bytes)
            await collector.store(self._create(room), wanted)
        finally:
            collector.close()

    def _collector(self, room: RoomRow, at_once: Collection[str] = ()) -> Collector:
        create = self._create(room)
        return Collector(
            self._db, self._signatures, self._directory, room.room_id, room.version, self._budget, create, at_once
        )

    def _create(self, room: RoomRow) -> Event | None:
        stored = self._db.glance(lambda tx: room_state.event_at(tx, room.state, "m.room.create"))
        return None if stored is None else stored.event

    async def _known(self, event_ids: Iterable[str]) -> dict[str, int]:
        return await self._db.read(lambda tx: events.find_many(tx, event_ids))


def _ids(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise AnswerMalformed("the answer has no list of event IDs")
    return [event_id for event_id in value if isinstance(event_id, str)]
