"""Rooms with more than a hundred members, which a server joins without waiting for all of them."""

from __future__ import annotations

import asyncio

from ...server.client import Client
from ...server.harness import TinyServer
from .conftest import AnyServer, NewUser, Pair
from .eventually import eventually, same_state

MEMBERS = 110
AT_ONCE = 8


async def crowd(server: AnyServer, room: str, new_user: NewUser) -> list[Client]:
    """Many users of a server who have joined a room of it."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one() -> Client:
        async with turns:
            member = await new_user(server, "member")
            await member.join(room)
            return member

    return await asyncio.gather(*(one() for _ in range(MEMBERS)))


async def test_a_room_of_many_is_joined(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    room = await alice.create_room(preset="public_chat", name="Everybody")
    members = await crowd(pair.host, room, new_user)
    banned, speaker, gone = members[:3]
    await alice.membership("ban", room, banned)
    await bob.join(room, params={"via": pair.host.server_name})
    first = await bob.send(room, "is somebody there?")
    await gone.leave(room)
    await bob.sync_on()
    await alice.sync_event(room, first)
    await bob.sync_event(room, await speaker.send(room, "we all are"))

    async def all_known() -> bool:
        answer = await bob.request("GET", f"{bob.room(room)}/joined_members")
        joined = set(answer["joined"])
        assert joined == {alice.user_id, bob.user_id, *(member.user_id for member in members)} - {
            banned.user_id,
            gone.user_id,
        }
        return True

    await eventually(all_known)
    await same_state(room, alice, bob)
    await alice.sync_event(room, await bob.send(room, "good"))
    # Each in its own words: the members were fetched afterwards.
    said = "all of the state of" if isinstance(pair.guest, TinyServer) else "Clearing partial-state flag for"
    assert f"{said} {room}" in pair.guest.log.text()
