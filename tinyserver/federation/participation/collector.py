"""Events of one room as other servers hand them out in bulk: checked in batches, spooled, and stored as outliers.

spec: server-server-api#checks-performed-on-receipt-of-a-pdu
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tinyserver.federation.participation.event_budget import EventBudget
from tinyserver.federation.participation.event_spool import EventSpool
from tinyserver.federation.participation.event_stream import EventStream
from tinyserver.outgoing.http import StreamedAnswer
from tinyserver.protocol import canonical_json
from tinyserver.protocol.errors import BadJson, TooLarge
from tinyserver.protocol.event_hashes import check_content_hash
from tinyserver.protocol.events import Event, parse_pdu
from tinyserver.protocol.redaction import redact
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.protocol.signing import SignatureError
from tinyserver.rooms.ancestors import MissingAncestors
from tinyserver.rooms.outliers import store_outlier
from tinyserver.storage import events, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import WriteTransaction

MAX_STATE_BYTES = 512 * 1024 * 1024
"""Bytes of an answer with the state of a room: it is read as a stream, nothing of it is held whole."""
MAX_CHAIN_BYTES = 64 * 1024 * 1024
"""Bytes of an answer with the auth chain of one event."""
CHECKED_AT_ONCE = 200
"""Events whose signatures are checked together."""
STORED_AT_ONCE = 100
"""Events in one step of the writer, so that others have their turn."""


class ManySignatures(Protocol):
    """Checks signatures of many events together (the key ring)."""

    async def check_many(self, pdus: Sequence[Mapping[str, Any]], version: RoomVersion) -> list[SignatureError | None]:
        """What is wrong with each of the parsed events, or None."""


async def checked_events(
    signatures: ManySignatures, room_id: str, version: RoomVersion, raw: Sequence[bytes | Any]
) -> list[Event]:
    """Those of some events (JSON texts or parsed values) that are well-formed, of this room, and signed as they must
    be; what was changed on the way comes redacted."""
    parsed = await asyncio.to_thread(_parse_all, room_id, version, raw)
    return await signed_events(signatures, version, parsed)


async def signed_events(signatures: ManySignatures, version: RoomVersion, parsed: Sequence[Event]) -> list[Event]:
    """Those of some events that are signed as they must be."""
    outcomes = await signatures.check_many([event.pdu for event in parsed], version)
    return [event for event, error in zip(parsed, outcomes, strict=True) if error is None]


def _parse_all(room_id: str, version: RoomVersion, raw: Iterable[bytes | Any]) -> list[Event]:
    found: dict[str, Event] = {}
    for item in raw:
        with suppress(BadJson, TooLarge, canonical_json.JsonSyntaxError, canonical_json.CanonicalJsonError):
            event = _parse(version, canonical_json.loads(item) if isinstance(item, bytes) else item)
            if event.room_id == room_id:
                found[event.event_id] = event
    return list(found.values())


def _parse(version: RoomVersion, pdu: Any) -> Event:
    if isinstance(pdu, dict):
        pdu = {key: value for key, value in pdu.items() if key != "unsigned"}
    event = parse_pdu(pdu, version)
    if not check_content_hash(event.pdu):
        event = parse_pdu(redact(event.pdu, version), version)
    return event


@dataclass(slots=True)
class Answer:
    """What was read: the IDs of the good events of the state, and the JSON texts of other members of the answer."""

    state: list[str] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)


class Collector:
    """Takes events of one room, to be stored together.

    Args:
        db: where they are stored.
        signatures: checks them.
        directory: for what does not fit into memory.
        room_id, version: the room.
        create: its create event, if the room is known already.
        budget: how many events may be held.
        at_once: the IDs of events that are stored as they arrive, as far as their auth events are here, so that a long
            answer that breaks off was not in vain.
    """

    def __init__(
        self,
        db: Database,
        signatures: ManySignatures,
        directory: Path,
        room_id: str,
        version: RoomVersion,
        budget: EventBudget,
        create: Event | None = None,
        at_once: Collection[str] = (),
    ) -> None:
        self._db = db
        self._signatures = signatures
        self._room_id = room_id
        self._version = version
        self._spool = EventSpool(version, directory)
        self._budget = budget
        self._held = 0
        self._create = create
        self._at_once = at_once
        self._created: int | None = None
        self.nids: dict[str, int] = {}
        """The numbers of those events that have been stored, by ID."""

    async def take(self, raw: Sequence[bytes | Any]) -> list[str]:
        """Check and keep events (JSON texts or parsed values). Returns the IDs of those that are kept.

        Raises:
            AnswerTooLarge: too many are held.
        """
        parsed = await asyncio.to_thread(_parse_all, self._room_id, self._version, raw)
        known = await self._known(parsed)
        good = await signed_events(
            self._signatures, self._version, [event for event in parsed if event.event_id not in known]
        )
        left = await self._store_now(good)
        await asyncio.to_thread(self._keep, left)
        more = len(self._spool) + len(self.nids) - self._held
        self._budget.hold(more)
        self._held += more
        return [*known, *(event.event_id for event in good)]

    async def _known(self, parsed: Sequence[Event]) -> dict[str, None]:
        """The IDs of those events that have been checked before."""
        ids = [event.event_id for event in parsed]
        stored = await self._db.read(lambda tx: events.find_many(tx, ids))
        self.nids.update(stored)
        return dict.fromkeys(event_id for event_id in ids if event_id in stored or event_id in self._spool)

    async def _store_now(self, good: Sequence[Event]) -> list[Event]:
        """Store those events that are to be stored at once and whose auth events are here; the others."""
        now = [event for event in good if event.event_id in self._at_once]
        for start in range(0, len(now), STORED_AT_ONCE):
            await self._store(now[start : start + STORED_AT_ONCE], self._create)
        return [event for event in good if event.event_id not in self.nids]

    async def read(self, answer: StreamedAnswer, state: str, values: Collection[str] = (), *, max_bytes: int) -> Answer:
        """Take all events of an answer while it arrives.

        Args:
            state: the name of the list with the state; another one is called `auth_chain`.
            values: the names of other members that are wanted, as they came.
            max_bytes: the longest answer that is taken.

        Raises:
            OutgoingError: it breaks off, or is not what it must be.
        """
        stream = EventStream((state, "auth_chain"), values)
        batches: dict[str, list[bytes]] = {state: [], "auth_chain": []}
        found = Answer()

        async def take(name: str) -> None:
            batch, batches[name] = batches[name], []
            kept = await self.take(batch)
            found.state += kept if name == state else ()

        try:
            async for piece in answer.chunks(max_bytes):
                for name, raw in stream.feed(piece):
                    if name in values:
                        found.values[name] = raw
                        continue
                    batches[name].append(raw)
                    if len(batches[name]) == CHECKED_AT_ONCE:
                        await take(name)
            stream.finish()
        finally:  # what has come is good, even if the rest never comes
            for name in batches:
                await take(name)
        return found

    def _keep(self, new: Iterable[Event]) -> None:
        for event in new:
            self._spool.add(event)

    def get(self, event_id: str) -> Event | None:
        """An event that was kept, or was here before."""
        if event_id in self._spool:
            return self._spool.get(event_id)
        stored = self._db.glance(lambda tx: events.by_id(tx, event_id))
        return None if stored is None or stored.event.room_id != self._room_id else stored.event

    async def store(self, create: Event | None, wanted: Iterable[str] | None = None) -> None:
        """Store all events as outliers, each after its auth events; without a room yet, one is made.

        Args:
            create: the room's create event.
            wanted: only these (IDs) and what authorises them.
        """
        batch: list[Event] = []
        for event_id in self._spool.in_order(wanted):
            batch.append(self._spool.get(event_id))
            if len(batch) == STORED_AT_ONCE:
                await self._store(batch, create)
                batch = []
        await self._store(batch, create)

    async def _store(self, batch: Sequence[Event], create: Event | None) -> None:
        def step(tx: WriteTransaction) -> tuple[dict[str, int], int | None]:
            room = rooms.find(tx, self._room_id)
            created = None
            if room is None:
                room = rooms.create(tx, self._room_id, self._version)
                created = room.nid
            nids = {}
            for event in batch:
                with suppress(MissingAncestors):  # it cannot be judged: as if it had not come
                    nids[event.event_id] = store_outlier(tx, room, event, create).nid
            return nids, created

        nids, created = await self._db.write(step)
        self.nids.update(nids)
        if created is not None:
            self._created = created

    async def discard(self) -> None:
        """Take away what was stored, if the room was not known before."""
        if self._created is None:
            return
        room, self._created = self._created, None
        nids = list(self.nids.values())
        for start in range(0, len(nids), STORED_AT_ONCE):
            batch = nids[start : start + STORED_AT_ONCE]
            await self._db.write(lambda tx, batch=batch: events.discard(tx, room, batch))  # type: ignore[misc]
        await self._db.write(lambda tx: rooms.discard(tx, room))

    def close(self) -> None:
        """Forget what is not stored."""
        self._budget.hold(-self._held)
        self._held = 0
        self._spool.close()
