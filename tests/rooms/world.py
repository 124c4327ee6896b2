"""A server's rooms without its HTTP: a real database and pipeline, and other servers that sign for themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinyserver.clock import Clock
from tinyserver.protocol.auth_rules import auth_keys_for
from tinyserver.protocol.event_hashes import event_id_of, required_signers, verify_event_signature
from tinyserver.protocol.events import Event, parse_pdu
from tinyserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from tinyserver.protocol.signing import SignatureError, SigningKey
from tinyserver.push.notifications import NotificationMarks
from tinyserver.push.rules import PushRules
from tinyserver.rooms.append import Appender
from tinyserver.rooms.asked_elsewhere import Ancestor
from tinyserver.rooms.drafts import EventDraft, EventSigner
from tinyserver.rooms.pipeline import EventPipeline, Received
from tinyserver.rooms.policy import NoPolicyServers, PolicyCheck
from tinyserver.storage import events, names, room_state, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent

HERE = "here"
NO_POLICIES = PolicyCheck(HERE, NoPolicyServers())


class KnownKeys:
    """A key ring that has met everybody in the test."""

    def __init__(self, keys: dict[str, SigningKey]) -> None:
        self._keys = keys

    async def check(self, pdu: Mapping[str, Any], version: RoomVersion) -> None:
        for server in required_signers(pdu, version):
            key = self._keys[server]
            verify_event_signature(pdu, version, server, key.key_id, key.verify_key_base64)

    async def check_many(self, pdus: Sequence[Mapping[str, Any]], version: RoomVersion) -> list[SignatureError | None]:
        outcomes: list[SignatureError | None] = []
        for pdu in pdus:
            try:
                await self.check(pdu, version)
                outcomes.append(None)
            except SignatureError as error:
                outcomes.append(error)
        return outcomes

    async def fetch(self, origin: str, room: RoomRow, event: Event, missing: Sequence[str]) -> Sequence[Ancestor]:
        """Nobody to ask."""
        return ()


@dataclass(frozen=True)
class Base:
    """What a remote server builds upon: the room as it was when it last heard of it."""

    room: RoomRow
    parents: tuple[StoredEvent, ...]
    extra: tuple[Event, ...] = ()

    def after(self, pdu: Mapping[str, Any]) -> Base:
        """The same, continued by an event of the remote server itself."""
        return replace(self, extra=(parse_pdu(dict(pdu), self.room.version),))


class World:
    """Shorthand for what the tests do with a room."""

    def __init__(self, db: Database, pipeline: EventPipeline, keys: dict[str, SigningKey], clock: Clock) -> None:
        self.db = db
        self.pipeline = pipeline
        self.keys = keys
        self.clock = clock

    async def create_room(self, creator: str, version: str = "12") -> int:
        """A room with its creator and power levels; the creator is at 100 where that may be said."""
        room_version = ROOM_VERSIONS[version]
        content: dict[str, Any] = {"room_version": version}
        if room_version.creator_in_content:
            content["creator"] = creator
        room_id = None if room_version.room_id_is_create_hash else f"!{self.clock.now_ms()}:{creator.partition(':')[2]}"

        def step(tx: Any) -> int:
            draft = EventDraft("m.room.create", creator, content, state_key="")
            room = self.pipeline.create_room(tx, room_version, draft, room_id)
            join = EventDraft("m.room.member", creator, {"membership": "join"}, state_key=creator)
            self.pipeline.send(tx, room.nid, join)
            levels = EventDraft(
                "m.room.power_levels", creator, {"users": self.levels(version, {creator: 100})}, state_key=""
            )
            self.pipeline.send(tx, room.nid, levels)
            return room.nid

        return await self.db.write(step)

    @staticmethod
    def levels(version: str, users: dict[str, int]) -> dict[str, int]:
        """Power levels without the creator (@alice) where creators may not be listed."""
        if ROOM_VERSIONS[version].privileged_creators:
            return {user: level for user, level in users.items() if not user.startswith("@alice:")}
        return users

    async def send(
        self,
        room: int,
        sender: str,
        event_type: str,
        content: dict[str, Any],
        *,
        state_key: str | None = None,
        device: int | None = None,
        txn_id: str | None = None,
        redacts: str | None = None,
    ) -> StoredEvent:
        """Send as a local user."""
        draft = EventDraft(
            event_type, sender, content, state_key=state_key, device=device, txn_id=txn_id, redacts=redacts
        )
        return await self.db.write(lambda tx: self.pipeline.send(tx, room, draft))

    async def second_server(self, room: int) -> str:
        """Another server with a key of its own."""
        name = "there"
        self.keys[name] = SigningKey("t", bytes(range(1, 33)))
        return name

    async def join_from(self, server: str, room: int, user: str) -> StoredEvent:
        """A user of another server joins a public room."""
        pdu = self.remote_event(
            server, self.snapshot(room), user, "m.room.member", {"membership": "join"}, state_key=user
        )
        return (await self.receive(server, pdu)).stored

    def snapshot(self, room: int) -> Base:
        """The room as it is now."""

        def step(tx: Any) -> Base:
            row = rooms.get(tx, room)
            return Base(row, tuple(events.get_many(tx, row.extremities).values()))

        return self.db.glance(step)

    def remote_event(
        self,
        server: str,
        base: Base,
        sender: str,
        event_type: str,
        content: dict[str, Any],
        *,
        state_key: str | None = None,
    ) -> dict[str, Any]:
        """A signed PDU made by another server."""
        version = base.room.version
        signer = EventSigner(server, self.keys[server])
        keys = auth_keys_for(version, event_type, sender, state_key, content)
        auth = list(self.db.glance(lambda tx: room_state.events_at(tx, base.room.state, keys)).values())
        parents: Sequence[Any] = base.parents
        if base.extra:
            parents = [_Parent(event) for event in base.extra]
        redacts = content.get("redacts") if event_type == "m.room.redaction" else None
        draft = EventDraft(event_type, sender, content, state_key=state_key, redacts=redacts)
        event = signer.make(
            draft,
            version,
            room_id=base.room.room_id,
            parents=parents,
            auth_events=auth,
            now_ms=self.clock.now_ms(),
        )
        return event.pdu

    def id_of(self, pdu: Mapping[str, Any], room: int) -> str:
        """The event ID of a PDU."""
        return event_id_of(pdu, self.db.glance(lambda tx: rooms.get(tx, room)).version)

    async def receive(self, origin: str, pdu: Mapping[str, Any]) -> Received:
        """Hand a PDU in as another server does."""
        return await self.pipeline.receive(origin, pdu["room_id"], pdu)

    def nid(self, name: str) -> int:
        """The interned number of a string."""
        nid = self.db.glance(lambda tx: names.find(tx, name))
        assert nid is not None
        return nid


class _Parent:
    """An event of another server that is not stored here, as a parent."""

    def __init__(self, event: Event) -> None:
        self.event = event
        self.event_id = event.event_id
        self.nid = 0


@asynccontextmanager
async def open_world(path: Path) -> AsyncIterator[World]:
    """A database with a pipeline on it, closed at the end."""
    keys = {HERE: SigningKey("h", bytes(32))}
    clock = Clock()
    db = Database(path)
    db.start()
    known = KnownKeys(keys)
    appender = Appender(HERE, NotificationMarks(PushRules(db)))
    pipeline = EventPipeline(db, EventSigner(HERE, keys[HERE]), appender, clock, known, known, NO_POLICIES)
    try:
        yield World(db, pipeline, keys, clock)
    finally:
        await db.close()
