"""A room's policy server is asked about every event, and what it does not want is not sent and not shown.

The policy server here is one of the test: it signs for real, over TLS.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest_asyncio

from tinyserver.protocol.event_hashes import add_content_hash, event_id_of, sign_event, verify_event_signature
from tinyserver.protocol.request_auth import authorization
from tinyserver.protocol.room_versions import ROOM_VERSIONS
from tinyserver.protocol.signing import SigningKey

from ..federation.conftest import make_world
from ..federation.network import Reply, Seen, json_reply
from ..federation.world import Peer, World
from .client import Client
from .conftest import MakeServer, NewUser
from .harness import TinyServer

__all__ = ["make_world"]

VERSION = ROOM_VERSIONS["11"]
POLICY_KEY = SigningKey("policy_server", b"judge".ljust(32, b"!"))
V1, V2 = "/_matrix/federation/v1", "/_matrix/federation/v2"


class Judge:
    """A server whose user is in the room, which signs what has no spam in it, and takes what others send."""

    peer: Peer

    def __init__(self, server: TinyServer) -> None:
        self.server = server
        self.asked: list[dict[str, Any]] = []
        self.got: list[dict[str, Any]] = []
        self.key = POLICY_KEY
        self.answers = True
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def handle(self, seen: Seen) -> Reply:
        if seen.target.startswith(f"{V1}/send/"):
            self.got += json.loads(seen.body).get("pdus", [])
            return json_reply({"pdus": {}})
        if seen.target != "/_matrix/policy/v1/sign":
            return json_reply({"errcode": "M_UNRECOGNIZED", "error": "No"}, 404)
        assert seen.headers["authorization"].startswith("X-Matrix")
        pdu = json.loads(seen.body)
        self.asked.append(pdu)
        await self.go_on.wait()
        if not self.answers:
            return Reply(502, b"nobody is here", {})
        if "spam" in json.dumps(pdu["content"]):
            return json_reply({"errcode": "M_FORBIDDEN", "error": "This looks like spam"}, 400)
        bare = {name: value for name, value in pdu.items() if name != "signatures"}
        return json_reply(sign_event(bare, VERSION, self.peer.name, self.key)["signatures"])

    async def request(self, client: Client, peer: Peer, method: str, path: str, content: Any = None) -> Any:
        header = authorization(method, path, peer.name, self.server.server_name, content, peer.key)
        return await client.request(method, path, content, headers={"Authorization": header})

    async def join(self, client: Client, peer: Peer, room: str) -> str:
        """A user of a peer joins the room."""
        user = f"@guest:{peer.name}"
        path = f"{V1}/make_join/{quote(room, safe='')}/{quote(user, safe='')}?ver=11"
        event = (await self.request(client, peer, "GET", path))["event"]
        event["origin_server_ts"] = int(time.time() * 1000)
        pdu = sign_event(add_content_hash(event), VERSION, peer.name, peer.key)
        event_id = event_id_of(pdu, VERSION)
        path = f"{V2}/send_join/{quote(room, safe='')}/{quote(event_id, safe='')}"
        await self.request(client, peer, "PUT", path, pdu)
        return event_id

    async def message(self, client: Client, peer: Peer, room: str, body: str, *, signed: bool) -> str:
        """A message of the peer's user comes in a transaction; its event ID."""
        state = await client.request("GET", f"/rooms/{quote(room, safe='')}/state")
        user = f"@guest:{peer.name}"
        wanted = {("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", user)}
        newest = await client.request("GET", f"/rooms/{quote(room, safe='')}/messages?dir=b&limit=1")
        pdu = {
            "room_id": room,
            "type": "m.room.message",
            "sender": user,
            "content": {"msgtype": "m.text", "body": body},
            "origin_server_ts": int(time.time() * 1000),
            "depth": 100,
            "prev_events": [newest["chunk"][0]["event_id"]],
            "auth_events": [each["event_id"] for each in state if (each["type"], each["state_key"]) in wanted],
        }
        pdu = sign_event(add_content_hash(pdu), VERSION, peer.name, peer.key)
        if signed:
            pdu = sign_event(pdu, VERSION, self.peer.name, self.key)
        event_id = event_id_of(pdu, VERSION)
        content = {"origin": peer.name, "origin_server_ts": pdu["origin_server_ts"], "pdus": [pdu]}
        path = f"{V1}/send/{quote(event_id, safe='')}"
        answer = await self.request(client, peer, "PUT", path, content)
        assert answer["pdus"] == {event_id: {}}
        return event_id


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.02)


Court = tuple[Judge, World, TinyServer]


@pytest_asyncio.fixture
async def court(make_world: Callable[..., Awaitable[World]], make_server: MakeServer) -> AsyncIterator[Court]:
    world = await make_world()
    outgoing = {"extra_ca_files": [str(world.authority.ca_file)], "allow_private_addresses": True}
    server = make_server(config={"outgoing": outgoing, "federation": {"retry_pause": "1s"}})
    judge = Judge(server)
    judge.peer = await world.peer("judge", handler=judge.handle)
    yield judge, world, server


def policy(judge: Judge) -> dict[str, Any]:
    return {"via": judge.peer.name, "public_keys": {"ed25519": POLICY_KEY.verify_key_base64}}


async def judged_room(judge: Judge, alice: Client) -> str:
    """A room that uses the policy server."""
    judge.asked.clear()
    room = await alice.create_room(preset="public_chat", room_version="11")
    await alice.put_state(room, "m.room.policy", policy(judge))
    await alice.send(room, "spam, before the policy server is in the room")
    assert judge.asked == []
    await judge.join(alice, judge.peer, room)
    judge.asked.clear()
    return room


async def bodies(client: Client, room: str) -> list[str]:
    page = await client.request("GET", f"/rooms/{quote(room, safe='')}/messages?dir=f&limit=100")
    return [each["content"].get("body") for each in page["chunk"] if each["type"] == "m.room.message"][1:]


async def test_events_of_users_here_are_sent_with_a_signature_or_not_at_all(court: Court, new_user: NewUser) -> None:
    judge, _, server = court
    alice, bob = await new_user("alice", server=server), await new_user("bob", server=server)
    room = await judged_room(judge, alice)
    await alice.send(room, "hello")
    refused = await alice.send(room, "buy spam", expect=400, errcode="M_FORBIDDEN")
    assert refused["error"] == "This looks like spam"
    await alice.put_state(room, "m.room.topic", {"topic": "spam"}, expect=400, errcode="M_FORBIDDEN")
    await alice.put_state(room, "m.room.topic", {"topic": "tea"})
    await alice.put_state(room, "m.room.policy", {"spam": 1}, "not empty", expect=400, errcode="M_FORBIDDEN")
    await bob.join(room)
    reason = {"user_id": bob.user_id, "reason": "spam"}
    await alice.request("POST", f"/rooms/{quote(room, safe='')}/kick", reason, expect=400, errcode="M_FORBIDDEN")
    await bob.leave(room)
    assert await bodies(alice, room) == ["hello"]
    wanted = {"m.room.message", "m.room.topic", "m.room.member"}
    await until(lambda: len([pdu for pdu in judge.got if pdu["type"] in wanted]) >= 4)
    for pdu in judge.got:
        verify_event_signature(pdu, VERSION, judge.peer.name, POLICY_KEY.key_id, POLICY_KEY.verify_key_base64)
        assert set(pdu["signatures"]) == {judge.peer.name, server.server_name}

    asked = len(judge.asked)
    await alice.put_state(room, "m.room.policy", {})
    await alice.send(room, "spam is free now")
    assert len(judge.asked) == asked
    # A name that some room refuses is still the user's name.
    await alice.put_state(room, "m.room.policy", policy(judge))
    await alice.request("PUT", f"/profile/{alice.user_id}/displayname", {"displayname": "spam"})
    member = await alice.request("GET", f"/rooms/{quote(room, safe='')}/state/m.room.member/{alice.user_id}")
    assert "displayname" not in member


async def test_rooms_with_policy_servers_are_upgraded(court: Court, new_user: NewUser) -> None:
    judge, _, server = court
    alice = await new_user("alice", server=server)
    for version in ("11", "12"):
        room = await judged_room(judge, alice)
        answer = await alice.request("POST", f"{alice.room(room)}/upgrade", {"new_version": version})
        tombstone = await alice.get_state(room, "m.room.tombstone")
        assert tombstone["replacement_room"] == answer["replacement_room"]
        create = await alice.get_state(answer["replacement_room"], "m.room.create")
        assert (create["room_version"], create["predecessor"]["room_id"]) == (version, room)
        # What was asked is what was sent: the tombstone and the power levels.
        assert [pdu["type"] for pdu in judge.asked] == ["m.room.tombstone", "m.room.power_levels"]
        assert await alice.get_state(answer["replacement_room"], "m.room.policy") == policy(judge)


async def test_a_request_that_comes_twice_while_the_policy_server_thinks(court: Court, new_user: NewUser) -> None:
    judge, _, server = court
    alice = await new_user("alice", server=server)
    room = await judged_room(judge, alice)
    judge.go_on.clear()
    twice = [asyncio.create_task(alice.send(room, "once", txn="same")) for _ in range(2)]
    await until(lambda: len(judge.asked) == 2)
    # Others are not held up meanwhile.
    other = await alice.create_room()
    await alice.send(other, "elsewhere")
    judge.go_on.set()
    first, second = await asyncio.gather(*twice)
    assert first == second
    assert await bodies(alice, room) == ["once"]


async def test_no_answer_and_wrong_signatures(court: Court, new_user: NewUser) -> None:
    judge, _, server = court
    alice = await new_user("alice", server=server)
    room = await judged_room(judge, alice)
    judge.key = SigningKey("policy_server", b"another".ljust(32, b"!"))
    await alice.send(room, "signed with another key", expect=403, errcode="M_FORBIDDEN")
    judge.key = POLICY_KEY
    judge.answers = False
    await alice.send(room, "nobody there", expect=503, errcode="M_UNKNOWN")
    assert await bodies(alice, room) == []
    await alice.put_state(room, "m.room.policy", {})
    await alice.send(room, "free")
    assert await bodies(alice, room) == ["free"]


async def test_events_of_other_servers_without_a_signature_are_not_shown(court: Court, new_user: NewUser) -> None:
    judge, world, server = court
    alice = await new_user("alice", server=server)
    room = await judged_room(judge, alice)
    peer = await world.peer("other", handler=judge.handle)
    await judge.join(alice, peer, room)
    assert [pdu["sender"] for pdu in judge.asked] == [f"@guest:{peer.name}"]
    judge.asked.clear()
    await judge.message(alice, peer, room, "spam that somebody let through", signed=True)
    assert judge.asked == []
    await judge.message(alice, peer, room, "forgotten to ask", signed=False)
    hidden = await judge.message(alice, peer, room, "more spam", signed=False)
    await judge.message(alice, peer, room, "and on", signed=True)
    assert [pdu["content"]["body"] for pdu in judge.asked] == ["forgotten to ask", "more spam"]
    assert await bodies(alice, room) == ["spam that somebody let through", "forgotten to ask", "and on"]
    await alice.request("GET", f"/rooms/{quote(room, safe='')}/event/{quote(hidden, safe='')}", expect=404)
    # What it signed is passed on with the signature.
    path = f"{V1}/event/{quote(event_id_of(judge.asked[0], VERSION), safe='')}"
    (pdu,) = (await judge.request(alice, judge.peer, "GET", path))["pdus"]
    assert "ed25519:policy_server" in pdu["signatures"][judge.peer.name]


async def test_when_the_policy_server_is_silent_only_what_it_has_signed_is_shown(
    court: Court, new_user: NewUser
) -> None:
    judge, world, server = court
    alice = await new_user("alice", server=server)
    room = await judged_room(judge, alice)
    peer = await world.peer("other", handler=judge.handle)
    await judge.join(alice, peer, room)
    judge.answers = False
    await judge.message(alice, peer, room, "unsigned", signed=False)
    await judge.message(alice, peer, room, "signed", signed=True)
    assert await bodies(alice, room) == ["signed"]


async def test_this_server_is_no_policy_server(make_server: MakeServer, new_user: NewUser) -> None:
    server = make_server(config={"federation": {"enabled": False}})
    alice = await new_user("alice", server=server)
    room = await alice.create_room(room_version="11")
    keys = {"ed25519": POLICY_KEY.verify_key_base64}
    for content in ({"via": "tiny.test"}, {"public_keys": keys}, {"via": 7, "public_keys": keys}, {"via": "tiny.test"}):
        await alice.put_state(room, "m.room.policy", content)
        await alice.send(room, "it names no server, or no key")
    await alice.put_state(room, "m.room.policy", {"via": "elsewhere.test", "public_keys": keys})
    await alice.send(room, "it is not in the room")
    await alice.put_state(room, "m.room.policy", {"via": "tiny.test", "public_keys": keys})
    await alice.send(room, "nobody could sign this", expect=403, errcode="M_FORBIDDEN")
    await alice.put_state(room, "m.room.policy", {})
    await alice.send(room, "free")


async def test_the_key_of_a_policy_server_of_this_name(make_server: MakeServer) -> None:
    server = make_server(config={"policy_server": {"public_key": POLICY_KEY.verify_key_base64}})
    async with Client(server.base_url) as client:
        told = await client.request("GET", "/.well-known/matrix/policy_server")
        assert told == {"public_keys": {"ed25519": POLICY_KEY.verify_key_base64}}
