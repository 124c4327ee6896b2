"""Events of one room as other servers hand them out in bulk: checked in batches, spooled, and stored as outliers.

spec: server-server-api#checks-performed-on-receipt-of-a-pdu
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

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
from tinyserver.rooms.outliers import store_outlier
from tinyserver.rooms.pipeline import MissingAncestors
from tinyserver.storage import events, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import WriteTransaction

MAX_ANSWER = 1024 * 1024 * 1024
"""Bytes of an answer that is read as a stream: nothing of it is held whole."""
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


class Collector:
    """Takes events of one room, to be stored together.

    Args:
        db: where they are stored.
        signatures: checks them.
        directory: for what does not fit into memory.
        room_id, version: the room.
    """

    def __init__(
        self, db: Database, signatures: ManySignatures, directory: Path, room_id: str, version: RoomVersion
    ) -> None:
        self._db = db
        self._signatures = signatures
        self._room_id = room_id
        self._version = version
        self._spool = EventSpool(version, directory)
        self._created: int | None = None
        self.nids: dict[str, int] = {}
        """The numbers of those events that have been stored, by ID."""

    async def take(self, raw: Sequence[bytes | Any]) -> list[str]:
        """Check and keep events (JSON texts or parsed values). Returns the IDs of those that are kept."""
        good = await checked_events(self._signatures, self._room_id, self._version, raw)
        new = [event for event in good if event.event_id not in self._spool]
        await asyncio.to_thread(self._keep, new)
        return [event.event_id for event in good]

    async def read(self, answer: StreamedAnswer, state: str, single: str = "") -> tuple[list[str], bytes | None]:
        """Take all events of an answer while it arrives.

        Args:
            state: the name of the list with the state; another one is called `auth_chain`.
            single: the name of a member that is one event; it is given back as it came.

        Returns:
            The IDs of the good events of the state, and the single event.

        Raises:
            OutgoingError: it breaks off, or is not what it must be.
        """
        stream = EventStream((state, "auth_chain"), (single,))
        batches: dict[str, list[bytes]] = {state: [], "auth_chain": []}
        good: list[str] = []
        found = None
        async for piece in answer.chunks(MAX_ANSWER):
            for name, raw in stream.feed(piece):
                if name == single:
                    found = raw
                    continue
                batches[name].append(raw)
                if len(batches[name]) == CHECKED_AT_ONCE:
                    kept = await self.take(batches[name])
                    batches[name] = []
                    good += kept if name == state else ()
        stream.finish()
        for name, batch in batches.items():
            kept = await self.take(batch)
            good += kept if name == state else ()
        return good, found

    def _keep(self, new: Iterable[Event]) -> None:
        for event in new:
            self._spool.add(event)

    def get(self, event_id: str) -> Event | None:
        """An event that was kept."""
        return self._spool.get(event_id) if event_id in self._spool else None

    async def store(self, create: Event | None, wanted: Iterable[str] | None = None) -> None:
        """Store all events as outliers, each after its auth events; without a room yet, one is made.

        Args:
            create: the room's create event.
            wanted: only these (IDs) and what authorises them.
        """
        batch: list[str] = []
        for event_id in self._spool.in_order(wanted):
            batch.append(event_id)
            if len(batch) == STORED_AT_ONCE:
                await self._store(batch, create)
                batch = []
        await self._store(batch, create)

    async def _store(self, batch: Sequence[str], create: Event | None) -> None:
        known = [self._spool.get(event_id) for event_id in batch]

        def step(tx: WriteTransaction) -> tuple[dict[str, int], int | None]:
            room = rooms.find(tx, self._room_id)
            created = None
            if room is None:
                room = rooms.create(tx, self._room_id, self._version)
                created = room.nid
            nids = {}
            for event in known:
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
        self._spool.close()
