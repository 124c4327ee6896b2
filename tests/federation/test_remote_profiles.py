"""Profiles of users of other servers: asked for, remembered, and told from memory where a server keeps one waiting."""

from __future__ import annotations

import asyncio
import time

import pytest

from tinyserver.federation.participation import queries
from tinyserver.federation.participation.queries import PROFILE_FRESH, RemoteQueries
from tinyserver.protocol.errors import NotFound

from .network import Reply, Seen, json_reply
from .world import World


class Told:
    """A server that tells a name; not while it is `silent`, and not at all while it is `unknown`."""

    def __init__(self) -> None:
        self.name = "first"
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.unknown = False
        self.asked = 0

    async def handle(self, seen: Seen) -> Reply:
        self.asked += 1
        await self.speaks.wait()
        if self.unknown:
            return json_reply({"errcode": "M_NOT_FOUND", "error": "Nobody"}, 404)
        return json_reply({"displayname": self.name})


async def test_a_silent_server_keeps_nobody_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PATIENCE", 0.2)
    told = Told()
    peer = await world.peer(handler=told.handle)
    user = f"@bob:{peer.name}"
    profiles = RemoteQueries(world.client, world.time.monotonic)
    assert await profiles.fetch(user, None) == {"displayname": "first"}
    assert await profiles.fetch(user, None) == {"displayname": "first"}
    assert told.asked == 1
    world.time.pass_(PROFILE_FRESH + 1)
    told.name = "second"
    told.speaks.clear()
    begun = time.monotonic()
    many = await asyncio.gather(*(profiles.fetch(user, None) for _ in range(5)))
    assert many == [{"displayname": "first"}] * 5
    assert time.monotonic() - begun < 2
    assert await profiles.fetch(user, "displayname", {"displayname": "of a room"}) == {"displayname": "of a room"}
    assert told.asked == 3  # those who want the same ask together
    told.speaks.set()
    async with asyncio.timeout(5):
        while await profiles.fetch(user, None) != {"displayname": "second"}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert told.asked == 3


async def test_what_a_server_says_counts_more_than_what_is_known(world: World) -> None:
    told = Told()
    peer = await world.peer(handler=told.handle)
    profiles = RemoteQueries(world.client, world.time.monotonic)
    told.unknown = True
    with pytest.raises(NotFound):
        await profiles.fetch(f"@bob:{peer.name}", None, {"displayname": "of a room"})
    await peer.web.stop()
    assert await profiles.fetch(f"@bob:{peer.name}", None, {"displayname": "of a room"}) == {"displayname": "of a room"}
    with pytest.raises(NotFound):
        await profiles.fetch(f"@eve:{peer.name}", None)
