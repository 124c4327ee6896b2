"""A server with one user that talks with a real server process over TLS: joins its rooms by the ordinary handshake,
says things there, and tells of them whoever asks. What it answers can be bent by the test: `answers`."""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit

import httpx

from tinyserver.protocol.event_hashes import add_content_hash, event_id_of, sign_event
from tinyserver.protocol.request_auth import authorization
from tinyserver.protocol.room_versions import get_room_version
from tinyserver.protocol.server_keys import make_key_document
from tinyserver.protocol.signing import SigningKey

from .network import Authority, Reply, Seen, WebServer, json_reply

VERSION = get_room_version("11")
WAIT = 200.0
Pdu = dict[str, Any]
Answer = Callable[[Seen], Awaitable[Reply]]


class NamedServer(Protocol):
    """The server that is talked with."""

    @property
    def server_name(self) -> str:
        """Its name, at which it listens with TLS."""


@dataclass
class RemoteRoom:
    """A room as the peer knows it: whom its messages follow, what authorises them, its state by event ID."""

    room_id: str
    auth: list[str] = field(default_factory=list)
    last: str = ""
    depth: int = 0
    state: dict[str, Pdu] = field(default_factory=dict)
    chain: dict[str, Pdu] = field(default_factory=dict)


class ScriptedPeer:
    """The peer. `answers` are tried before what it answers by itself, by the name of the endpoint; `taken` are the
    transactions that it was sent, `asked` the targets of all other requests."""

    def __init__(self, authority: Authority, server: NamedServer, seed: bytes = b"p") -> None:
        self.key = SigningKey("p", seed.ljust(32, b"p"))
        self.name = ""
        self.answers: dict[str, Answer] = {}
        self.rooms: dict[str, RemoteRoom] = {}
        self.said: dict[str, Pdu] = {}
        self.taken: list[Any] = []
        self.asked: list[str] = []
        self._server = server
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        self.http = httpx.AsyncClient(
            base_url=f"https://{server.server_name}", verify=context, timeout=WAIT, trust_env=False
        )
        self._transactions = 0

    @property
    def user_id(self) -> str:
        return f"@bob:{self.name}"

    # -- what it answers

    async def handle(self, seen: Seen) -> Reply:
        """Publish the key, take what comes, tell what was said and what the state was when it came in."""
        parts = urlsplit(seen.target).path.split("/")
        endpoint = "key" if parts[2] == "key" else parts[4]
        if endpoint in self.answers:
            return await self.answers[endpoint](seen)
        if endpoint == "key":
            until = int(time.time() * 1000) + 3600_000
            return json_reply(make_key_document(self.name, [self.key], [], until))
        if endpoint == "send":
            self.taken.append(json.loads(seen.body))
            return json_reply({"pdus": {}})
        self.asked.append(seen.target)
        found = self._told(endpoint, [unquote(part) for part in parts[5:]], seen)
        return json_reply({"errcode": "M_NOT_FOUND", "error": "No"}, 404) if found is None else json_reply(found)

    def _told(self, endpoint: str, path: list[str], seen: Seen) -> Any:
        if endpoint == "event":
            known = [self.said, *(events for room in self.rooms.values() for events in (room.state, room.chain))]
            found = next((events[path[0]] for events in known if path[0] in events), None)
            return None if found is None else {"origin": self.name, "origin_server_ts": 0, "pdus": [found]}
        room = self.rooms.get(path[0]) if path else None
        if room is None:
            return None
        if endpoint == "get_missing_events":
            return {"events": self._before(json.loads(seen.body))}
        if endpoint == "state_ids":
            return {"pdu_ids": list(room.state), "auth_chain_ids": list(room.chain)}
        if endpoint == "state":
            return {"pdus": list(room.state.values()), "auth_chain": list(room.chain.values())}
        if endpoint == "event_auth":
            return {"auth_chain": [*room.state.values(), *room.chain.values()]}
        if endpoint == "backfill":
            starts = parse_qs(urlsplit(seen.target).query).get("v", [])
            known_starts = [start for start in starts if start in self.said]
            asked = {"earliest_events": [], "latest_events": known_starts, "limit": 100}
            return {"origin": self.name, "origin_server_ts": 0, "pdus": self._before(asked)[::-1]}
        return None

    def _before(self, asked: Any) -> list[Pdu]:
        found: list[Pdu] = []
        earliest = set(asked["earliest_events"])
        todo = [event_id for event_id in asked["latest_events"] if event_id in self.said]
        while todo and len(found) < asked["limit"]:
            parents = self.said[todo.pop()]["prev_events"]
            new = [parent for parent in parents if parent in self.said and parent not in earliest]
            found += [self.said[parent] for parent in new]
            todo += new
        return found[::-1]

    # -- what it does

    async def raw(self, method: str, target: str, content: Any = None) -> httpx.Response:
        """A signed request."""
        header = authorization(method, target, self.name, self._server.server_name, content, self.key)
        body = None if content is None else json.dumps(content).encode()
        return await self.http.request(method, target, content=body, headers={"Authorization": header})

    async def request(self, method: str, target: str, content: Any = None) -> Any:
        """The answer to a signed request that must succeed."""
        answer = await self.raw(method, target, content)
        answer.raise_for_status()
        return answer.json()

    def finish(self, event: Pdu) -> tuple[Pdu, str]:
        """An event with its hash and signature, and its ID."""
        signed = sign_event(add_content_hash(event), VERSION, self.name, self.key)
        return signed, event_id_of(signed, VERSION)

    async def make_join(self, room_id: str) -> Any:
        """The server's template for the peer's join."""
        path = f"{quote(room_id, safe='')}/{quote(self.user_id, safe='')}"
        return await self.request("GET", f"/_matrix/federation/v1/make_join/{path}?ver={VERSION.identifier}")

    async def join(self, room_id: str) -> RemoteRoom:
        """Come into a room of the server."""
        made = await self.make_join(room_id)
        now = int(time.time() * 1000)
        join, join_id = self.finish({**made["event"], "origin_server_ts": now, "origin": self.name})
        target = f"/_matrix/federation/v2/send_join/{quote(room_id, safe='')}/{quote(join_id, safe='')}"
        answer = await self.request("PUT", target, join)
        state = {event_id_of(pdu, VERSION): pdu for pdu in answer["state"]}
        wanted = ("m.room.create", "m.room.power_levels")
        auth = [event_id for event_id, pdu in state.items() if pdu["type"] in wanted]
        chain = {event_id_of(pdu, VERSION): pdu for pdu in answer["auth_chain"]}
        room = RemoteRoom(room_id, [*auth, join_id], join_id, join["depth"], {**state, join_id: join}, chain)
        self.rooms[room_id] = room
        return room

    def say(self, room: RemoteRoom, body: str, **changes: Any) -> Pdu:
        """A message that follows the last one, with some fields changed; it is not sent yet."""
        pdu, room.last = self.finish(
            {
                "type": "m.room.message",
                "room_id": room.room_id,
                "sender": self.user_id,
                "content": {"msgtype": "m.text", "body": body},
                "depth": room.depth + 1,
                "prev_events": [room.last],
                "auth_events": room.auth,
                "origin_server_ts": int(time.time() * 1000),
                **changes,
            }
        )
        room.depth += 1
        self.said[room.last] = pdu
        return pdu

    async def transaction(self, pdus: list[Any], edus: list[Any] | None = None) -> httpx.Response:
        """Send a transaction; the answer, whatever it is."""
        self._transactions += 1
        now = int(time.time() * 1000)
        content: dict[str, Any] = {"origin": self.name, "origin_server_ts": now, "pdus": pdus, "edus": edus or []}
        return await self.raw("PUT", f"/_matrix/federation/v1/send/b{self._transactions}", content)

    async def send(self, pdus: list[Pdu]) -> None:
        """Send events that must be taken."""
        answer = await self.transaction(pdus)
        answer.raise_for_status()
        for error in (result.get("error") for result in answer.json()["pdus"].values()):
            if error:
                raise RuntimeError(f"an event was refused: {error}")

    async def close(self) -> None:
        await self.http.aclose()


@contextlib.asynccontextmanager
async def scripted_peer(authority: Authority, server: NamedServer, seed: bytes = b"p") -> AsyncIterator[ScriptedPeer]:
    """A peer that listens at a port of 127.0.0.1, after which it is named."""
    peer = ScriptedPeer(authority, server, seed)
    async with WebServer(authority.issue("127.0.0.1"), peer.handle) as web:
        peer.name = f"127.0.0.1:{web.port}"
        try:
            yield peer
        finally:
            await peer.close()
