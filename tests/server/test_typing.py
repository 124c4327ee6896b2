"""Typing notifications over HTTP."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .client import Client, joined
from .harness import TinyServer

SERVER_CONFIG = {"rate_limits": {"enabled": False}}

NewUser = Callable[..., Awaitable[Client]]


def typing_in(answer: Any, room: str) -> list[str] | None:
    """Who is typing in a room, None if the answer does not say."""
    for event in joined(answer, room).get("ephemeral", {}).get("events", []):
        if event["type"] == "m.typing":
            users: list[str] = event["content"]["user_ids"]
            return users
    return None


async def two_in_a_room(new_user: NewUser) -> tuple[Client, Client, str]:
    alice, bob = await new_user("alice"), await new_user("bob")
    return alice, bob, await alice.create_room(bob)


async def test_typing_starts_and_stops(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, room = await two_in_a_room(new_user)
    await alice.sync_on()
    await bob.typing(room)
    assert typing_in(await alice.sync_on(timeout=5000), room) == [bob.user_id]
    assert typing_in(await alice.sync(), room) == [bob.user_id]
    await bob.typing(room)  # he goes on: that is no news
    assert typing_in(await alice.sync_on(), room) is None
    await bob.typing(room, typing=False)
    assert typing_in(await alice.sync_on(timeout=5000), room) == []
    await bob.typing(room, typing=False)
    assert typing_in(await alice.sync_on(), room) is None
    assert not typing_in(await alice.sync(), room)


async def test_typing_ends_by_itself(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, room = await two_in_a_room(new_user)
    await alice.sync_on()
    began = time.monotonic()
    await bob.typing(room, timeout=700)
    await alice.typing(room, timeout=60_000)
    both = {alice.user_id, bob.user_id}
    await alice.sync_until(lambda answer: set(typing_in(answer, room) or ()) == both)
    await alice.sync_until(lambda answer: typing_in(answer, room) == [alice.user_id])
    assert 0.6 < time.monotonic() - began < 5


async def test_who_leaves_types_no_more(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, room = await two_in_a_room(new_user)
    await bob.typing(room)
    await alice.sync_on()
    await bob.leave(room)
    await alice.sync_until(lambda answer: typing_in(answer, room) == [])


async def test_typing_is_refused(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, room = await two_in_a_room(new_user)
    stranger = await new_user("stranger")
    body = {"typing": True, "timeout": 1000}
    await alice.request("PUT", f"{alice.room(room)}/typing/{bob.user_id}", body, expect=403, errcode="M_FORBIDDEN")
    path = f"{alice.room(room)}/typing/"
    await stranger.request("PUT", path + stranger.user_id, body, expect=403, errcode="M_FORBIDDEN")
    own = path + alice.user_id
    await alice.request("PUT", own, {"typing": True, "timeout": -1}, expect=400, errcode="M_INVALID_PARAM")
    await alice.request("PUT", own, {"typing": True, "timeout": 10**30})
    await alice.request("PUT", own, {"typing": False})


@pytest.mark.parametrize("body", [{}, {"typing": "yes"}, {"typing": 1}, {"typing": True, "timeout": "long"}, []])
async def test_typing_body_is_checked(server: TinyServer, new_user: NewUser, body: Any) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    await alice.request("PUT", f"{alice.room(room)}/typing/{alice.user_id}", body, expect=400)
