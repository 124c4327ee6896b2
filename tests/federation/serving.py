"""tinyserver with rooms that other servers use: real signed requests to its federation listener."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx

from tinyserver.accounts.directory import AccountsDirectory
from tinyserver.accounts.profiles import Profiles
from tinyserver.accounts.requester import Requester
from tinyserver.api.app import build_app
from tinyserver.api.calls import Call
from tinyserver.api.federation.authentication import SignedRequests
from tinyserver.api.federation.events import EventsApi
from tinyserver.api.federation.joins import JoinsApi
from tinyserver.api.federation.queries import QueriesApi
from tinyserver.api.federation.spaces import SpacesApi
from tinyserver.api.federation.user_keys import UserKeysApi
from tinyserver.api.listeners import HttpListener
from tinyserver.api.rate_limits import RateLimiter
from tinyserver.api.routing import Router
from tinyserver.appservices.services import Services
from tinyserver.config import Listener, RateLimits
from tinyserver.directory.aliases import Aliases
from tinyserver.directory.public_rooms import PublicRooms
from tinyserver.encryption.device_keys import DeviceKeys
from tinyserver.encryption.remote import NobodyElse
from tinyserver.federation.serving.handshakes import Handshakes
from tinyserver.federation.serving.history import ServedHistory
from tinyserver.federation.serving.spaces import ServedSpaces
from tinyserver.federation.serving.state import RoomStates
from tinyserver.federation.serving.templates import Templates
from tinyserver.protocol.errors import UnknownToken
from tinyserver.protocol.event_hashes import add_content_hash, event_id_of, sign_event
from tinyserver.protocol.request_auth import authorization
from tinyserver.protocol.room_versions import ROOM_VERSIONS
from tinyserver.push.notifications import NotificationMarks
from tinyserver.push.rules import PushRules
from tinyserver.rooms.alone import Alone
from tinyserver.rooms.append import Appender
from tinyserver.rooms.drafts import EventSigner
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.storage import events, rooms
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent

from ..rooms.world import NO_POLICIES
from ..rooms.world import World as Rooms
from .world import Peer, World

US = "tiny.test"
ALICE = f"@alice:{US}"
CAROL = f"@carol:{US}"
V1, V2 = "/_matrix/federation/v1", "/_matrix/federation/v2"


class Nobody:
    def is_exempt(self, token: str) -> bool:
        return False

    async def authenticate(self, token: str, call: Call[Any, Any]) -> Requester:
        raise UnknownToken


class Site:
    """The server: `rooms` does what its own users do, the other methods what peers do."""

    def __init__(self, world: World) -> None:
        self.world, self.db = world, world.db
        key = world.identity.key
        appender = Appender(US, NotificationMarks(PushRules(self.db)))
        alone = Alone(US, key)
        self.pipeline = EventPipeline(
            self.db, EventSigner(US, key), appender, world.clock, world.key_ring, alone, NO_POLICIES
        )
        self.rooms = Rooms(self.db, self.pipeline, {US: key}, world.clock)
        states = RoomStates(self.db)
        self.aliases = Aliases(self.db, self.pipeline, US, Services(self.db, world.clock, US, []))
        self.directory = PublicRooms(self.db, US)
        self.profiles = Profiles(self.db, AccountsDirectory(self.db, US))
        handshakes = Handshakes(self.db, self.pipeline, world.key_ring, states, US, key)
        router = Router()
        router.add(JoinsApi(Templates(self.db, world.clock, US), handshakes, US))
        router.add(EventsApi(ServedHistory(self.db), states, US, world.clock))
        router.add(SpacesApi(ServedSpaces(self.db)))
        self.keys = DeviceKeys(self.db, NobodyElse(), US)
        router.add(UserKeysApi(self.keys, US))
        router.add(QueriesApi(self.aliases, self.profiles, self.directory, US))
        limiter = RateLimiter(RateLimits(), world.time.monotonic)
        signed = SignedRequests(US, world.key_ring, world.destinations, limiter)
        self.listener = HttpListener(
            Listener(address="127.0.0.1:0"), build_app(router, Nobody(), limiter, server_authenticator=signed)
        )
        self.http = httpx.AsyncClient(trust_env=False, timeout=20)

    # -- requests

    async def request(self, peer: Peer, method: str, target: str, content: Any = None) -> httpx.Response:
        header = authorization(method, target, peer.name, US, content, peer.key)
        body = None if content is None else json.dumps(content).encode()
        return await self.http.request(
            method, self.listener.url + target, content=body, headers={"Authorization": header}
        )

    async def get(self, peer: Peer, path: str, **query: Any) -> httpx.Response:
        pairs = [
            (name, one) for name, value in query.items() for one in (value if isinstance(value, list) else [value])
        ]
        text = str(httpx.QueryParams(pairs))
        return await self.request(peer, "GET", path + (f"?{text}" if text else ""))

    async def make(self, peer: Peer, what: str, room: int, user: str, *versions: str) -> httpx.Response:
        """`make_join`, `make_leave` or `make_knock`."""
        known = list(versions) or list(ROOM_VERSIONS)
        return await self.get(peer, f"{V1}/make_{what}/{self.quoted_id(room)}/{quote(user, safe='')}", ver=known)

    def complete(self, peer: Peer, made: httpx.Response, **changes: Any) -> dict[str, Any]:
        """The event of a template, changed and then signed by the peer."""
        answer = made.json()
        version = ROOM_VERSIONS[answer["room_version"]]
        event = {**answer["event"], "origin": peer.name, **changes}
        if version.event_id_in_pdu:
            event["event_id"] = f"$made-{len(event['prev_events'])}-{event['depth']}:{peer.name}"
        return sign_event(add_content_hash(event), version, peer.name, peer.key)

    async def send(self, peer: Peer, what: str, room: int, pdu: dict[str, Any], query: str = "") -> httpx.Response:
        """`send_join`, `send_leave` or `send_knock`."""
        prefix = V1 if what == "knock" else V2
        event_id = quote(self.event_id(room, pdu), safe="")
        return await self.request(peer, "PUT", f"{prefix}/send_{what}/{self.quoted_id(room)}/{event_id}{query}", pdu)

    async def join(self, peer: Peer, room: int, name: str = "bob", query: str = "") -> dict[str, Any]:
        """The whole handshake; what `send_join` answers."""
        self.rooms.keys[peer.name] = peer.key
        made = await self.make(peer, "join", room, f"@{name}:{peer.name}")
        assert made.status_code == 200, made.text
        answer = await self.send(peer, "join", room, self.complete(peer, made), query)
        assert answer.status_code == 200, answer.text
        joined: dict[str, Any] = answer.json()
        return joined

    # -- rooms

    async def public_room(self, version: str = "12") -> int:
        """A room of Alice's that everybody may join."""
        room = await self.rooms.create_room(ALICE, version)
        await self.state(room, "m.room.join_rules", {"join_rule": "public"})
        return room

    async def state(self, room: int, event_type: str, content: dict[str, Any], sender: str = ALICE) -> StoredEvent:
        return await self.rooms.send(room, sender, event_type, content, state_key="")

    async def member(self, room: int, sender: str, target: str, membership: str) -> StoredEvent:
        return await self.rooms.send(room, sender, "m.room.member", {"membership": membership}, state_key=target)

    async def say(self, room: int, body: str, sender: str = ALICE) -> StoredEvent:
        return await self.rooms.send(room, sender, "m.room.message", {"body": body, "msgtype": "m.text"})

    def row(self, room: int) -> RoomRow:
        return self.db.glance(lambda tx: rooms.get(tx, room))

    def room_id(self, room: int) -> str:
        return self.row(room).room_id

    def quoted_id(self, room: int) -> str:
        return quote(self.room_id(room), safe="")

    def event_id(self, room: int, pdu: dict[str, Any]) -> str:
        return event_id_of(pdu, self.row(room).version)

    def ids(self, room: int, pdus: list[dict[str, Any]]) -> list[str]:
        return [self.event_id(room, pdu) for pdu in pdus]

    def stored(self, event_id: str) -> StoredEvent:
        found = self.db.glance(lambda tx: events.by_id(tx, event_id))
        assert found is not None
        return found


@asynccontextmanager
async def open_site(world: World) -> AsyncIterator[Site]:
    """A server that listens."""
    site = Site(world)
    await site.listener.open()
    try:
        yield site
    finally:
        await site.http.aclose()
        site.listener.stop_accepting()
        await site.listener.finish(5)


def refused(answer: httpx.Response, status: int, errcode: str) -> dict[str, Any]:
    """The error object of an answer that must be this error."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["errcode"]) == (status, errcode), answer.text
    return body
