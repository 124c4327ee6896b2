"""Asking policy servers: what they answer, and that slow ones do not hold up events of others."""

from __future__ import annotations

from typing import Any

import pytest

from tinyserver.federation.policy_servers import SLOW_PAUSE, THEIRS_TIMEOUT, RemotePolicyServers
from tinyserver.protocol.errors import Forbidden, MatrixError, Unknown

from .network import Reply, Seen, json_reply
from .world import World

PDU = {"type": "m.room.message", "content": {"body": "hello"}, "unsigned": {"age": 1}}


class Asked:
    """A policy server that takes its time, and answers what the test says."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seconds = 0.0
        self.reply: Reply = json_reply({})
        self.bodies: list[bytes] = []

    async def handle(self, seen: Seen) -> Reply:
        assert (seen.method, seen.target) == ("POST", "/_matrix/policy/v1/sign")
        self.bodies.append(seen.body)
        self.world.time.pass_(self.seconds)
        return self.reply


async def asked(world: World) -> tuple[Asked, str, RemotePolicyServers]:
    made = Asked(world)
    peer = await world.peer("policy", handler=made.handle)
    return made, peer.name, RemotePolicyServers(world.client, "tiny.test", world.time.monotonic)


async def test_who_is_slow_is_left_alone_with_events_of_others(world: World) -> None:
    policy, name, servers = await asked(world)
    policy.seconds = THEIRS_TIMEOUT / 2 + 0.1
    await servers.sign(name, PDU, is_ours=True)  # users here wait longer
    await servers.sign(name, PDU, is_ours=False)
    policy.seconds = 0
    assert len(policy.bodies) == 2
    for _ in range(2):
        with pytest.raises(Unknown) as caught:
            await servers.sign(name, PDU, is_ours=False)
        assert caught.value.status == 503
    assert len(policy.bodies) == 2
    await servers.sign(name, PDU, is_ours=True)
    world.time.pass_(SLOW_PAUSE)
    await servers.sign(name, PDU, is_ours=False)
    await servers.sign(name, PDU, is_ours=False)
    assert len(policy.bodies) == 5
    assert b"unsigned" not in b"".join(policy.bodies)


@pytest.mark.parametrize(
    ("reply", "status", "errcode"),
    [
        (json_reply({"errcode": "M_FORBIDDEN", "error": "Spam"}, 400), 400, "M_FORBIDDEN"),
        (json_reply({"errcode": "M_NOT_FOUND", "error": "Unknown room"}, 404), 404, "M_NOT_FOUND"),
        (json_reply({"errcode": "M_UNRECOGNIZED", "error": "No"}, 404), 403, "M_FORBIDDEN"),
        (json_reply({"errcode": "M_UNKNOWN", "error": "Oh"}, 500), 503, "M_UNKNOWN"),
        (Reply(404, b"<html>", {}), 503, "M_UNKNOWN"),
        (Reply(200, b"nonsense", {}), 503, "M_UNKNOWN"),
        (Reply(200, b"[]", {}), 503, "M_UNKNOWN"),
        (json_reply({"too": "x" * 70_000}), 503, "M_UNKNOWN"),
    ],
)
async def test_what_it_answers_is_told(world: World, reply: Reply, status: int, errcode: str) -> None:
    policy, name, servers = await asked(world)
    policy.reply = reply
    with pytest.raises(MatrixError) as caught:
        await servers.sign(name, PDU, is_ours=True)
    assert (caught.value.status, caught.value.errcode) == (status, errcode)


async def test_this_server_is_none(world: World) -> None:
    _, _, servers = await asked(world)
    with pytest.raises(Forbidden):
        await servers.sign("tiny.test", PDU, is_ours=True)


async def test_only_so_many_slow_ones_are_remembered(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("tinyserver.federation.policy_servers.MAX_SLOW", 1)
    first, name, servers = await asked(world)
    second = Asked(world)
    other = await world.peer("another", handler=second.handle)
    first.seconds = second.seconds = THEIRS_TIMEOUT
    await servers.sign(name, PDU, is_ours=False)
    await servers.sign(other.name, PDU, is_ours=False)
    await servers.sign(name, PDU, is_ours=False)
    assert len(first.bodies) == 2
