"""tinyserver with rooms, among other servers: its pipeline, its federation listener, and peers that sign."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tinyserver.accounts.requester import Requester
from tinyserver.api.app import build_app
from tinyserver.api.calls import Call
from tinyserver.api.federation.authentication import SignedRequests
from tinyserver.api.federation.transactions import TransactionsApi
from tinyserver.api.listeners import HttpListener
from tinyserver.api.rate_limits import RateLimiter
from tinyserver.api.routing import Router
from tinyserver.bell import Bell
from tinyserver.config import Listener, RateLimits
from tinyserver.encryption.device_keys import DeviceKeys
from tinyserver.encryption.removed_devices import RemovedDevices
from tinyserver.encryption.to_device import QueueLimits, ToDevice
from tinyserver.federation.device_messages import OutgoingDeviceMessages, ReceivedDeviceMessages
from tinyserver.federation.device_updates import DeviceUpdates
from tinyserver.federation.ephemeral import EphemeralExchange
from tinyserver.federation.inbox import Inbox
from tinyserver.federation.participation.backfill import Backfill
from tinyserver.federation.participation.event_budget import EventBudget
from tinyserver.federation.participation.missing_events import MissingEventsFetcher
from tinyserver.federation.participation.states import RemoteStates
from tinyserver.federation.presence_exchange import PresenceExchange
from tinyserver.federation.remote_devices import RemoteDeviceLists
from tinyserver.federation.sender import FederationSender
from tinyserver.federation.transactions import InboundTransactions
from tinyserver.presence.presence import Presence
from tinyserver.protocol.errors import UnknownToken
from tinyserver.protocol.request_auth import authorization
from tinyserver.push.notifications import NotificationMarks
from tinyserver.push.rules import PushRules
from tinyserver.rooms.append import Appender
from tinyserver.rooms.drafts import EventDraft, EventSigner
from tinyserver.rooms.many_ends import ManyEnds
from tinyserver.rooms.partial_state import PartialRooms
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.rooms.receipts import Receipts
from tinyserver.rooms.typing import Typing
from tinyserver.storage import accounts, device_keys, device_lists, devices, names, rooms
from tinyserver.storage.devices import Seen
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import WriteTransaction

from ..rooms.world import NO_POLICIES
from ..rooms.world import World as Rooms
from .world import Peer, World

US = "tiny.test"
ALICE = "@alice:tiny.test"


class Nobody:
    def is_exempt(self, token: str) -> bool:
        return False

    async def authenticate(self, token: str, call: Call[Any, Any]) -> Requester:
        raise UnknownToken


class House:
    """One server. `rooms` makes rooms and events, also those of peers that `admit` has let in."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.db = world.db
        key = world.identity.key
        self.bell = Bell(self.db.position, tag="test")
        self.db.on_commit = self.bell.ring
        appender = Appender(US, NotificationMarks(PushRules(self.db)))
        states = RemoteStates(self.db, world.client, world.key_ring, self.db.path.parent, EventBudget())
        missing = MissingEventsFetcher(self.db, world.client, world.key_ring, states)
        self.pipeline = EventPipeline(
            self.db, EventSigner(US, key), appender, world.clock, world.key_ring, missing, NO_POLICIES
        )
        partial = PartialRooms(self.db)
        self.backfill = Backfill(self.db, world.client, world.key_ring, states, missing, appender, partial, US)
        self.rooms = Rooms(self.db, self.pipeline, {US: key}, world.clock)
        self.missing = missing
        self.many_ends = ManyEnds(self.db, self.pipeline)
        self.inbox = self.new_inbox()
        self.inbound = InboundTransactions(self.db, self.inbox)
        self.sender = self.new_sender()
        self.typing = Typing(self.db, self.bell)
        self.receipts = Receipts(self.db, world.clock)
        exchange = EphemeralExchange(self.db, self.bell, self.typing, self.receipts, self.sender, US)
        self.inbound.handle("m.typing", exchange.take_typing)
        self.inbound.handle("m.receipt", exchange.take_receipts)
        self.presence = Presence(self.db, self.bell, clock=world.time.monotonic)
        self.presence_exchange = PresenceExchange(self.db, self.presence, self.sender)
        self.inbound.handle("m.presence", self.presence_exchange.take)
        limits = QueueLimits(messages=20)
        self.to_device = ToDevice(self.db, OutgoingDeviceMessages(limits), US, limits)
        self.inbound.handle("m.direct_to_device", ReceivedDeviceMessages(self.db, self.to_device).take)
        self.follow_devices()
        limiter = RateLimiter(RateLimits(), world.time.monotonic)
        router = Router()
        router.add(TransactionsApi(self.inbound))
        signed = SignedRequests(US, world.key_ring, world.destinations, limiter)
        self.listener = HttpListener(
            Listener(address="127.0.0.1:0"), build_app(router, Nobody(), limiter, server_authenticator=signed)
        )
        self.http = httpx.AsyncClient(trust_env=False, timeout=20)

    def new_sender(self) -> FederationSender:
        """A sender that has not started, as after a restart."""
        return FederationSender(self.db, self.bell, self.world.client, self.world.destinations, self.world.clock, US)

    def new_inbox(self) -> Inbox:
        """An inbox that has not started, as after a restart."""
        return Inbox(self.db, self.pipeline, self.missing, self.many_ends, self.world.clock)

    async def public_room(self, version: str = "11") -> int:
        """A room of Alice's that everybody may join."""
        room = await self.rooms.create_room(ALICE, version)
        await self.rooms.send(room, ALICE, "m.room.join_rules", {"join_rule": "public"}, state_key="")
        return room

    async def join(self, peer: Peer, room: int, name: str = "bob") -> StoredEvent:
        """A user of a peer joins."""
        self.rooms.keys[peer.name] = peer.key
        return await self.rooms.join_from(peer.name, room, f"@{name}:{peer.name}")

    def message(self, peer: Peer, room: int, body: str, name: str = "bob") -> dict[str, Any]:
        """A message of a peer's user, as a PDU."""
        base = self.rooms.snapshot(room)
        return self.rooms.remote_event(peer.name, base, f"@{name}:{peer.name}", "m.room.message", {"body": body})

    @staticmethod
    def draft(sender: str, content: dict[str, Any]) -> EventDraft:
        """A message of a local user."""
        return EventDraft("m.room.message", sender, content)

    def stop_noting(self) -> None:
        """Let the sender forget what it has sent, as a crash does."""
        self.sender._save = lambda: None  # type: ignore[method-assign]

    def follow_devices(self) -> None:
        """Begin to follow devices of others, as after a start."""
        self.remote_devices = RemoteDeviceLists(self.db, self.world.client, self.world.destinations)
        self.keys = DeviceKeys(self.db, self.remote_devices, US)
        updates = DeviceUpdates(self.db, self.remote_devices)
        self.inbound.handle("m.device_list_update", updates.take_list_update)
        self.inbound.handle("m.signing_key_update", updates.take_signing_keys)
        self.remote_devices.start()

    async def device(self, user_id: str = ALICE, device_id: str = "PHONE") -> Requester:
        """A local user's device that has no keys yet."""

        def step(tx: WriteTransaction) -> Requester:
            user = names.intern(tx, user_id)
            if accounts.get(tx, user) is None:
                accounts.add(tx, user_id, None, 0)
            device = devices.add(tx, user, device_id, None, Seen(0, "", ""))
            return Requester(user_id, user, device_id, device)

        return await self.db.write(step)

    async def publish(self, device: Requester, version: int = 1) -> None:
        """New keys of a device."""
        assert device.device_nid is not None
        assert device.device_id is not None
        nid, device_id = device.device_nid, device.device_id
        keys = json.dumps({"user_id": device.user_id, "device_id": device_id, "version": version}).encode()

        def step(tx: WriteTransaction) -> None:
            device_keys.put(tx, nid, keys)
            device_lists.note_change(tx, device.user_nid, [device_id])

        await self.db.write(step)

    async def log_out(self, device: Requester) -> None:
        """A device goes, with its keys."""
        assert device.device_nid is not None
        nid = device.device_nid

        def step(tx: WriteTransaction) -> None:
            RemovedDevices().devices_removed(tx, device.user_nid, [nid])
            devices.remove(tx, nid)

        await self.db.write(step)

    def room_id(self, room: int) -> str:
        return self.db.glance(lambda tx: rooms.room_id(tx, room))

    async def put(self, peer: Peer, txn_id: str, pdus: list[Any], edus: list[Any] | None = None) -> httpx.Response:
        """A transaction of a peer."""
        content: dict[str, Any] = {"origin": peer.name, "origin_server_ts": self.world.clock.now_ms(), "pdus": pdus}
        if edus is not None:
            content["edus"] = edus
        target = f"/_matrix/federation/v1/send/{txn_id}"
        header = authorization("PUT", target, peer.name, US, content, peer.key)
        return await self.http.put(
            self.listener.url + target, content=json.dumps(content).encode(), headers={"Authorization": header}
        )


@asynccontextmanager
async def open_house(world: World) -> AsyncIterator[House]:
    """A server that listens."""
    house = House(world)
    await house.listener.open()
    house.sender.start()
    try:
        yield house
    finally:
        await house.inbound.close()
        await house.inbox.close()
        await house.backfill.close()
        await house.sender.close()
        await house.remote_devices.close()
        house.typing.close()
        house.presence.close()
        house.presence_exchange.close()
        await house.http.aclose()
        house.listener.stop_accepting()
        await house.listener.finish(5)
