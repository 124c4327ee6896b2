"""Conditions that become true when another server has heard of something."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ...server.client import Client

T = TypeVar("T")


async def eventually(condition: Callable[[], Awaitable[T]], *, seconds: float = 15.0) -> T:
    """Ask until the answer is truthy and return it; AssertionError after `seconds`, or the condition's own."""
    deadline = time.monotonic() + seconds
    while True:
        failure: AssertionError | None = None
        try:
            if found := await condition():
                return found
        except AssertionError as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure or AssertionError(f"not true in {seconds} s: {condition}")
        await asyncio.sleep(0.05)


async def state_ids(client: Client, room: str) -> dict[tuple[str, str], str]:
    """The room's current state as the client's server has it: event IDs by type and state key."""
    events = await client.request("GET", f"{client.room(room)}/state")
    return {(event["type"], event["state_key"]): event["event_id"] for event in events}


async def whole_history(reader: Client, room: str) -> list[Any]:
    """All events of the room that the reader sees, newest first, paged to the room's creation."""
    seen: list[Any] = []
    token: str | None = None
    while True:
        page = await reader.messages(room, from_=token, limit=100)
        seen += page["chunk"]
        token = page.get("end")
        if token is None or (seen and seen[-1]["type"] == "m.room.create"):
            return seen


async def same_state(room: str, *clients: Client, seconds: float = 15.0) -> dict[tuple[str, str], str]:
    """Wait until the servers of all clients have the same state, event by event; that state."""

    async def condition() -> dict[tuple[str, str], str]:
        first, *others = [await state_ids(client, room) for client in clients]
        for other in others:
            differing = {
                key: (first.get(key), other.get(key)) for key in first | other if first.get(key) != other.get(key)
            }
            assert not differing, f"states differ: {differing}"
        return first

    return await eventually(condition, seconds=seconds)


async def membership_of(client: Client, room: str, user_id: str) -> str | None:
    """What the client's server says about the user's membership in the room, None if nothing."""
    answer = await client.raw("GET", f"{client.room(room)}/state/m.room.member/{user_id}")
    membership: str | None = answer.json().get("membership") if answer.status_code == 200 else None
    return membership


def invited(room: str) -> Callable[[Any], Any]:
    """Of a sync answer: the stripped state of the invitation to the room."""
    return lambda answer: answer.get("rooms", {}).get("invite", {}).get(room, {}).get("invite_state", {}).get("events")


def left(room: str) -> Callable[[Any], Any]:
    """Of a sync answer: whether the room is among those left."""
    return lambda answer: room in answer.get("rooms", {}).get("leave", {})


def ephemeral(room: str, kind: str, text: str) -> Callable[[Any], Any]:
    """Of a sync answer: the ephemeral event of a kind in the room, if the text occurs in it."""

    def find(answer: Any) -> Any:
        events = answer.get("rooms", {}).get("join", {}).get(room, {}).get("ephemeral", {}).get("events", [])
        return next((event for event in events if event["type"] == kind and text in json.dumps(event)), None)

    return find


def presence_status(text: str) -> Callable[[Any], Any]:
    """Of a sync answer: whether somebody's presence has the status message."""
    return lambda answer: any(
        event["content"].get("status_msg") == text for event in answer.get("presence", {}).get("events", [])
    )
