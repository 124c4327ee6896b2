"""Sticky events, which the other server may know nothing of, and rooms that name it as their policy server, which it is
not."""

from __future__ import annotations

from typing import Any

from ...server.client import Client
from ...server.harness import TinyServer
from .conftest import NewUser, Pair
from .eventually import eventually, same_state

STICKY = {"org.matrix.msc4354.sticky_duration_ms": 600_000}


async def bodies(reader: Client, room: str) -> list[Any]:
    page = await reader.messages(room, limit=50)
    return [each["content"].get("body") for each in page["chunk"] if each["type"] == "m.room.message"][::-1]


async def test_sticky_events_are_events(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    room = await alice.create_room(preset="public_chat")
    path = f"{alice.room(room)}/send/m.room.message"
    await alice.request("PUT", f"{path}/before", {"msgtype": "m.text", "body": "before"}, params=STICKY)
    await bob.join(room, params={"via": pair.host.server_name})
    for user in (alice, bob):
        content = {"msgtype": "m.text", "body": user.localpart}
        await user.request("PUT", f"{path}/{user.localpart}", content, params=STICKY)
    said = {"before", alice.localpart, bob.localpart}

    async def everything(reader: Client) -> bool:
        return said <= set(await bodies(reader, room))

    for reader in (alice, bob):
        await eventually(lambda reader=reader: everything(reader))
    await same_state(room, alice, bob)


async def test_a_server_that_is_no_policy_server(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    tiny, other = (alice, bob) if isinstance(pair.host, TinyServer) else (bob, alice)
    via = (pair.guest if tiny is alice else pair.host).server_name
    levels = {"users": {tiny.user_id: 100, other.user_id: 100}}
    room = await tiny.create_room(preset="public_chat", room_version="11", power_level_content_override=levels)
    await other.join(room, params={"via": (pair.host if tiny is alice else pair.guest).server_name})
    await other.send(room, "before")
    await eventually(lambda: _says(tiny, room, "before"))
    keys = {"ed25519": "6yhHGKhCiXTSEN2ksjV7kX_N6rBQZ3Xb-M7LlC6NS-s"}
    await tiny.put_state(room, "m.room.policy", {"via": via, "public_keys": keys})
    await tiny.send(room, "nobody signs this", expect=403, errcode="M_FORBIDDEN")
    await same_state(room, tiny, other)
    await tiny.put_state(room, "m.room.policy", {})
    await same_state(room, tiny, other)
    await tiny.send(room, "free")
    await other.send(room, "both of us")
    await eventually(lambda: _says(tiny, room, "both of us"))
    await eventually(lambda: _says(other, room, "free"))
    assert "nobody signs this" not in await bodies(other, room)


async def _says(reader: Client, room: str, body: str) -> bool:
    return body in await bodies(reader, room)
