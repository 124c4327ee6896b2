"""Junk from a server that signs it: at every endpoint, in events of every kind, in ephemeral messages. The answer is
never an error of the server itself, and nothing is stored that must not be."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any
from urllib.parse import quote

from ..server.client import Client
from ..server.harness import TinyServer
from ..server.junk import Junk
from .hostile import alice, authority, entered, peer, running, server, stored_events
from .scripted_peer import RemoteRoom, ScriptedPeer

__all__ = ["alice", "authority", "peer", "running", "server"]

V1, V2 = "/_matrix/federation/v1", "/_matrix/federation/v2"
NOTHING = "$" + "A" * 43
PER_ENDPOINT = 25
ROOM_PATHS = (  # in one place of each stands something that is none
    "event_auth/{room}/{}",
    "state/{room}?event_id={}",
    "state_ids/{room}?event_id={}",
    "backfill/{room}?v={}&limit={}",
    "timestamp_to_event/{room}?ts={}&dir=f",
    "make_join/{room}/{}?ver=11",
    "make_leave/{room}/{}",
    "make_knock/{room}/{}?ver=11",
)
PATHS = (
    "event/{}",
    "backfill/{}?limit=-5",
    "make_join/{}/{}?ver=11&ver={}",
    "query/directory?room_alias={}",
    "query/profile?user_id={}&field={}",
    "publicRooms?limit={}&since={}",
    "hierarchy/{}",
    "user/devices/{}",
    "openid/userinfo?access_token={}",
    "media/download/{}",
    "media/thumbnail/{}?width={}&height=5",
    "{}/{}",
)


class Bender:
    """Makes requests that are right but for a few places."""

    def __init__(self, peer: ScriptedPeer, room: RemoteRoom, other: str, alice: Client) -> None:
        self.random = random.Random(20)
        self._junk = Junk(self.random)
        self._peer, self._room, self._other, self._alice = peer, room, other, alice
        bob = peer.user_id
        self._member = {
            "type": "m.room.member",
            "room_id": room.room_id,
            "sender": bob,
            "state_key": bob,
            "content": {"membership": "join", "displayname": "x"},
            "depth": room.depth + 1,
            "prev_events": [room.last],
            "auth_events": room.auth,
            "origin_server_ts": int(time.time() * 1000),
        }
        self._message = {**self._member, "type": "m.room.message", "content": {"body": "x"}}
        del self._message["state_key"]
        invite = {"state_key": alice.user_id, "content": {"membership": "invite"}, "room_id": other}
        self._invite = {**self._member, **invite}
        self._texts = ["", "x", "!x:y", NOTHING, "@:", bob, "\U0001f600", "%00", "x" * 300, "../..", room.room_id]

    def target(self, path: str) -> str:
        """A path with something in its open places."""
        while "{}" in path:
            path = path.replace("{}", quote(self.random.choice(self._texts), safe=""), 1)
        return path

    def event(self, good: dict[str, Any]) -> Any:
        """Changed at some places, and then perhaps rightly hashed and signed, where that can be done."""
        bent = self._junk.mutated(good)
        return self.signed(bent) if self.random.randrange(2) else bent

    def signed(self, bent: Any) -> Any:
        """Hashed and signed, where that can be done."""
        with suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError):
            bare = {key: each for key, each in bent.items() if key not in ("hashes", "signatures")}
            return self._peer.finish(bare)[0]
        return bent

    def edus(self) -> list[Any]:
        """One of each kind."""
        bob, alice, room = self._peer.user_id, self._alice.user_id, self._room.room_id
        key = {"user_id": bob, "usage": ["master"], "keys": {"ed25519:a": "a"}}
        contents: dict[str, Any] = {
            "m.typing": {"room_id": room, "user_id": bob, "typing": True},
            "m.receipt": {room: {"m.read": {bob: {"event_ids": [self._room.last], "data": {"ts": 1}}}}},
            "m.presence": {"push": [{"user_id": bob, "presence": "online", "last_active_ago": 1}]},
            "m.direct_to_device": {
                "sender": bob,
                "type": "m.x",
                "message_id": "1",
                "messages": {alice: {"*": {"a": 1}}},
            },
            "m.device_list_update": {"user_id": bob, "device_id": "D", "stream_id": 1, "prev_id": [], "keys": {}},
            "m.signing_key_update": {"user_id": bob, "master_key": key},
        }
        return [{"edu_type": kind, "content": content} for kind, content in contents.items()]

    def plain_bodies(self) -> list[tuple[str, str, Any]]:
        """Method, path and a right body, of those endpoints whose bodies are no events."""
        room, alice = quote(self._room.room_id, safe=""), self._alice.user_id
        missing = {"earliest_events": [NOTHING], "latest_events": [self._room.last], "limit": 10, "min_depth": 0}
        directory = {"limit": 5, "since": "x", "filter": {"generic_search_term": "x", "room_types": [None]}}
        bound = {"address": "a@b", "medium": "email", "mxid": alice, "invites": [{}]}
        keys = {"server_keys": {self._peer.name: {"ed25519:p": {"minimum_valid_until_ts": 5}}}}
        return [
            ("PUT", f"{V1}/3pid/onbind", bound),
            ("POST", f"{V1}/get_missing_events/{room}", missing),
            ("POST", f"{V1}/publicRooms", directory),
            ("POST", f"{V1}/user/keys/query", {"device_keys": {alice: ["x"]}}),
            ("POST", f"{V1}/user/keys/claim", {"one_time_keys": {alice: {"x": "signed_curve25519"}}}),
            ("POST", "/_matrix/key/v2/query", keys),
        ]

    def events(self) -> list[dict[str, Any]]:
        """A message and a join."""
        return [self._message, self._member]

    def requests(self) -> list[tuple[str, str, Callable[[], Any] | None]]:
        """Method, path and what makes a body, of all endpoints."""
        room, other = (quote(room_id, safe="") for room_id in (self._room.room_id, self._other))
        bend = self._junk.mutated

        def body(good: Any) -> Callable[[], Any]:
            return lambda: bend(good)

        def event(good: dict[str, Any]) -> Callable[[], Any]:
            return lambda: self.event(good)

        def invite() -> Any:
            version = self.random.choice(["11", "1", 7, None])
            told = bend([self._member])
            return bend({"event": self.event(self._invite), "room_version": version, "invite_room_state": told})

        def transaction() -> Any:
            return {"pdus": [self.event(self._message) for _ in range(10)], "edus": [bend(edu) for edu in self.edus()]}

        found: list[tuple[str, str, Callable[[], Any] | None]] = [
            ("PUT", f"{V1}/send/{{}}", transaction),
            ("PUT", f"{V1}/send/{{}}", body({"origin": "x", "origin_server_ts": 1, "pdus": [], "edus": []})),
            ("PUT", f"{V2}/invite/{other}/{{}}", invite),
            ("PUT", f"{V1}/invite/{other}/{{}}", event(self._invite)),
            ("PUT", f"{V1}/exchange_third_party_invite/{room}", event(self._invite)),
            ("GET", "/_matrix/key/v2/server/{}", None),
        ]
        found += [(method, path, body(good)) for method, path, good in self.plain_bodies()]
        for prefix, what in ((V1, "join"), (V2, "join"), (V1, "leave"), (V2, "leave"), (V1, "knock")):
            found.append(("PUT", f"{prefix}/send_{what}/{room}/{{}}", event(self._member)))
        found += [("GET", f"{V1}/{path.replace('{room}', room)}", None) for path in ROOM_PATHS]
        return found + [("GET", f"{V1}/{path}", None) for path in PATHS]


def is_plain(value: Any) -> bool:
    """Whether a value can be sent as JSON that is signed."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        return "%RAW" not in text and bool(text.encode())
    except (ValueError, RecursionError):
        return False


async def test_junk_at_every_endpoint(server: TinyServer, alice: Client, peer: ScriptedPeer) -> None:
    room = await entered(alice, peer)
    bender = Bender(peer, room, await alice.create_room(preset="public_chat", room_version="11"), alice)
    before = stored_events(server, room.room_id)
    tried = 0
    for method, path, make in bender.requests():
        for _ in range(PER_ENDPOINT):
            target, content = bender.target(path), None if make is None else make()
            if not is_plain(content):
                continue
            tried += 1
            answer = await peer.raw(method, target, content)
            assert answer.status_code < 500, f"{method} {target} {content}: {answer.text}"
            if answer.status_code != 200:
                assert set(answer.json()) >= {"errcode", "error"}, f"{method} {target}: {answer.text}"
    assert tried > 25 * PER_ENDPOINT
    # A harmless change makes another good event. Nobody but the peer's own user has sent one.
    assert stored_events(server, room.room_id) < before + tried / 4
    with closing(sqlite3.connect(f"file:{server.data_dir / 'tinyserver.db'}?mode=ro", uri=True)) as db:
        strangers = db.execute(
            "SELECT n.name FROM events e JOIN names n ON n.nid = e.sender JOIN rooms r ON r.nid = e.room "
            "WHERE r.room_id = ? AND e.place IS NOT NULL AND n.name NOT IN (?, ?)",
            (room.room_id, peer.user_id, alice.user_id),
        ).fetchall()
    assert strangers == []
    await peer.send([peer.say(room, "still here")])


NUMBERS: list[Any] = [10**400, -(10**400), 2**64, 2**53, -1, 1.5, 1e308]
OTHERS: list[Any] = [True, None, "", "x" * 70_000, [], {}]


def bent_everywhere(value: Any) -> Iterator[Any]:
    """The value with one of the above at one place, for all places and all of them."""
    yield from NUMBERS
    yield from OTHERS
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        for bent in bent_everywhere(member):
            copied = value.copy()
            copied[key] = bent
            yield copied


async def test_ephemeral_messages_with_anything_anywhere(server: TinyServer, alice: Client, peer: ScriptedPeer) -> None:
    room = await entered(alice, peer)
    bender = Bender(peer, room, room.room_id, alice)
    for edu in bender.edus():
        bent = [{**edu, "content": content} for content in bent_everywhere(edu["content"])]
        for start in range(0, len(bent), 50):
            answer = await peer.transaction([], bent[start : start + 50])
            assert answer.status_code == 200, answer.text
    server.answer()
    server.log.check()


async def test_bodies_with_anything_anywhere(server: TinyServer, alice: Client, peer: ScriptedPeer) -> None:
    room = await entered(alice, peer)
    bender = Bender(peer, room, room.room_id, alice)
    for method, path, good in bender.plain_bodies():
        for bent in bent_everywhere(good):
            if isinstance(bent, dict):
                answer = await peer.raw(method, path, bent)
                assert answer.status_code < 500, f"{method} {path} {bent}: {answer.text}"
    before = stored_events(server, room.room_id)
    for good in bender.events():
        bent = [bender.signed(each) for each in bent_everywhere(good)]
        for start in range(0, len(bent), 50):
            answer = await peer.transaction(bent[start : start + 50])
            assert answer.status_code == 200, answer.text
    assert stored_events(server, room.room_id) < before + 100  # what is harmless, such as other contents
    await peer.send([peer.say(room, "still here")])
    server.answer()
    server.log.check()
