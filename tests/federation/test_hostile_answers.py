"""Answers of another server with anything at any place: whoever asked gets a well-formed answer, never an error of this
server."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest

from ..server.client import Client
from ..server.harness import TinyServer
from .hostile import alice, authority, peer, running, server
from .network import Reply, Seen
from .scripted_peer import ScriptedPeer
from .test_hostile_junk import bent_everywhere

__all__ = ["alice", "authority", "peer", "running", "server"]

PER_KIND = 50
V1 = "/_matrix/client/v1"
_numbers = count(1)
Asked = Callable[[str], tuple[str, str, Any]]
"""What a client asks for (method, path, body) that leads to a question to the peer, whose name is given."""


def new(prefix: str, name: str) -> str:
    """A name on the peer that nobody has asked about."""
    return quote(f"{prefix}n{next(_numbers)}:{name}", safe="")


def room_told(name: str) -> dict[str, Any]:
    return {
        "room_id": f"!x:{name}",
        "name": "x",
        "topic": "x",
        "num_joined_members": 5,
        "world_readable": True,
        "guest_can_join": False,
        "join_rule": "public",
        "allowed_room_ids": ["!y:z"],
        "children_state": [
            {
                "type": "m.space.child",
                "state_key": "!c:d",
                "sender": "@a:b",
                "content": {"via": ["d"], "order": "a"},
                "origin_server_ts": 1,
            }
        ],
    }


def template(name: str) -> dict[str, Any]:
    event = {"auth_events": ["$a"], "prev_events": ["$b"], "depth": 5, "content": {"membership": "join"}}
    return {"room_version": "11", "event": event}


def device(name: str) -> dict[str, Any]:
    user = f"@bob:{name}"
    keys = {"user_id": user, "device_id": "D", "algorithms": ["x"], "keys": {"ed25519:D": "k"}, "signatures": {}}
    master = {"user_id": user, "usage": ["master"], "keys": {"ed25519:m": "m"}}
    return {"device_keys": {user: {"D": keys}}, "master_keys": {user: master}, "self_signing_keys": {user: master}}


KEY = {"key": "k", "signatures": {"@x:y": {"ed25519:a": "b"}}}
KINDS: dict[str, tuple[str, Callable[[str], Any], Asked]] = {
    "join": ("make_join", template, lambda name: ("POST", f"/join/{new('!', name)}?via={name}", {})),
    "knock": ("make_knock", template, lambda name: ("POST", f"/knock/{new('!', name)}?via={name}", {})),
    "profile": (
        "query",
        lambda name: {"displayname": "x", "avatar_url": "mxc://a/b", "m.tz": "Europe/Berlin"},
        lambda name: ("GET", f"/profile/{new('@', name)}", None),
    ),
    "alias": (
        "query",
        lambda name: {"room_id": f"!x:{name}", "servers": [name, "x.test"]},
        lambda name: ("GET", f"/directory/room/{new('#', name)}", None),
    ),
    "directory": (
        "publicRooms",
        lambda name: {
            "chunk": [room_told(name)],
            "next_batch": "x",
            "prev_batch": "y",
            "total_room_count_estimate": 5,
        },
        lambda name: ("GET", f"/publicRooms?server={name}", None),
    ),
    "summary": (
        "hierarchy",
        lambda name: {"room": room_told(name), "children": [room_told(name)], "inaccessible_children": ["!i:j"]},
        lambda name: ("GET", f"{V1}/room_summary/{new('!', name)}?via={name}", None),
    ),
    "keys": ("user", device, lambda name: ("POST", "/keys/query", {"device_keys": {f"@bob:{name}": []}})),
    "claim": (
        "user",
        lambda name: {"one_time_keys": {f"@bob:{name}": {"D": {"signed_curve25519:A": KEY}}}},
        lambda name: ("POST", "/keys/claim", {"one_time_keys": {f"@bob:{name}": {"D": "signed_curve25519"}}}),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_answers_with_anything_anywhere(server: TinyServer, alice: Client, peer: ScriptedPeer, kind: str) -> None:
    endpoint, good, ask = KINDS[kind]
    bodies = [json.dumps(bent).encode() for bent in bent_everywhere(good(peer.name))]
    chosen = random.Random(kind).sample(bodies, min(len(bodies), PER_KIND))
    body = b""

    async def answer(seen: Seen) -> Reply:
        return Reply(200, body)

    peer.answers = {endpoint: answer}
    for body in chosen:
        method, path, content = ask(peer.name)
        answered = await alice.raw(method, path, content)
        assert answered.status_code in (200, 400, 403, 404, 502), f"{body!r}: {answered.status_code} {answered.text}"
    server.answer()
    server.log.check()
