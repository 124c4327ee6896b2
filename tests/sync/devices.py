"""Devices that sync with a server's rooms without its HTTP, and a model of what a client makes of the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.rooms.world import World, open_world
from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.bell import Bell
from tinyserver.encryption.device_news import DeviceNewsReader
from tinyserver.presence.presence import Presence
from tinyserver.protocol.filters import parse_filter
from tinyserver.push.rules import PushRules
from tinyserver.push.unread import UnreadCounter
from tinyserver.rooms.partial_state import PartialRooms
from tinyserver.rooms.receipts import Receipts
from tinyserver.rooms.tokens import parse_token
from tinyserver.rooms.typing import Typing
from tinyserver.storage import account_data, events, names, room_state, rooms
from tinyserver.sync.engine import SyncEngine
from tinyserver.sync.requests import FilterSet, Reader, SyncRequest
from tinyserver.sync.service import SyncService
from tinyserver.sync.sliding.service import SlidingSyncService
from tinyserver.sync.sources import Sources
from tinyserver.sync.waiting import Followers

Json = Any


class SyncWorld:
    """A world with sync on it."""

    def __init__(self, world: World, tag: str) -> None:
        self.world = world
        self.db = world.db
        self.bell = Bell(world.db.position, tag)
        world.db.on_commit = self.bell.ring
        self.typing = Typing(world.db, self.bell)
        self.receipts = Receipts(world.db, world.clock)
        self.presence = Presence(world.db, self.bell)
        self.followers = Followers(self.bell)
        self.device_news = DeviceNewsReader(world.db, self.bell)
        rules = PushRules(world.db)
        sources = Sources(
            UnreadCounter(rules, IgnoredUsers()), self.receipts, self.typing, self.presence, rules, self.device_news
        )
        engine = SyncEngine(world.db, self.bell, sources, self.followers, PartialRooms(world.db))
        self.service = SyncService(world.db, self.bell, world.clock, sources, engine, self.followers)
        self.sliding = SlidingSyncService(world.db, self.bell, world.clock, sources, engine, self.followers)

    async def device(self, user: str, number: int = 1, **filters: Json) -> Device:
        """A device of a user, who is known from now on."""
        user_nid = await self.db.write(lambda tx: names.intern(tx, user))
        return Device(self, Reader(user, user_nid, number), FilterSet(parse_filter(filters)))

    async def member(self, room: int, sender: str, membership: str, user: str | None = None, **content: Json) -> Json:
        """Change a membership: one's own, or that of another user."""
        user = user or sender
        return await self.world.send(
            room, sender, "m.room.member", {"membership": membership, **content}, state_key=user
        )

    async def message(self, room: int, sender: str, body: str, **more: Json) -> str:
        """Send a message; its event ID."""
        return (await self.world.send(room, sender, "m.room.message", {"body": body}, **more)).event_id

    async def public_room(self, creator: str = "@alice:here", version: str = "12") -> int:
        """A room that everybody may join."""
        room = await self.world.create_room(creator, version)
        await self.world.send(room, creator, "m.room.join_rules", {"join_rule": "public"}, state_key="")
        return room

    async def put_account_data(self, user: str, data_type: str, content: Json, room_id: str | None = None) -> None:
        """Store account data."""
        nid = await self.db.write(lambda tx: names.intern(tx, user))
        await self.db.write(lambda tx: account_data.put(tx, nid, room_id, data_type, json.dumps(content).encode()))

    def room_id(self, room: int) -> str:
        return self.db.glance(lambda tx: rooms.get(tx, room)).room_id

    def current_state(self, room: int) -> dict[tuple[str, str], str]:
        """The event IDs of a room's current state."""

        def step(tx: Any) -> dict[tuple[str, str], str]:
            root = rooms.get(tx, room).state
            return {stored.event.key: stored.event_id for stored in room_state.all_events(tx, root)}

        return self.db.glance(step)

    def timeline_ids(self, room: int) -> list[str]:
        """The event IDs of a room's whole timeline."""

        def step(tx: Any) -> list[str]:
            nids = [
                row[0]
                for row in tx.execute("SELECT nid FROM events WHERE room = ? AND place > 0 ORDER BY place", (room,))
            ]
            return [events.get(tx, nid).event_id for nid in nids]

        return self.db.glance(step)


class Device:
    """A client that follows its `next_batch`."""

    def __init__(self, home: SyncWorld, reader: Reader, filters: FilterSet) -> None:
        self.home = home
        self.reader = reader
        self.filters = filters
        self.since: str | None = None

    async def sync(
        self,
        *,
        timeout: float = 0.0,
        full_state: bool = False,
        state_after: tuple[str, ...] = (),
        since: str | None = None,
        filters: FilterSet | None = None,
        presence: str = "offline",
    ) -> Json:
        """One sync, from where the last one ended (unless `since` says otherwise)."""
        token = since or self.since
        request = SyncRequest(
            self.reader,
            filters or self.filters,
            None if token is None else parse_token(token, "since"),
            timeout,
            full_state,
            presence,
            state_after,
        )
        answer = json.loads(await self.home.service.sync(request))
        self.since = answer["next_batch"]
        return answer

    async def joined(self, room: int, **how: Json) -> Json:
        """Sync, and what it says of a room that the user is in ({} if nothing)."""
        answer = await self.sync(**how)
        return answer.get("rooms", {}).get("join", {}).get(self.home.room_id(room), {})


async def until_waiting(device: Device) -> None:
    """Let others go on until a sync of the device's user waits for news."""
    while not device.home.followers.get(device.reader.user).waiting:  # noqa: ASYNC110
        await asyncio.sleep(0)


def ids(section: Json) -> list[str]:
    """The event IDs of a timeline or state."""
    return [event["event_id"] for event in section["events"]]


def bodies(section: Json) -> list[str]:
    """What the messages of a timeline say."""
    return [event["content"]["body"] for event in section["events"] if event["type"] == "m.room.message"]


@asynccontextmanager
async def open_sync_world(path: Path, tag: str = "run1") -> AsyncIterator[SyncWorld]:
    """A world with sync on it, closed at the end."""
    async with open_world(path) as world:
        home = SyncWorld(world, tag)
        try:
            yield home
        finally:
            home.typing.close()
            home.presence.close()
