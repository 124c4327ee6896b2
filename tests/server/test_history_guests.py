"""What guests may read."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from .client import Client, bodies
from .conftest import NewUser
from .harness import TinyServer

SERVER_CONFIG = {"registration": {"mode": "open", "allow_guests": True}}


async def test_guest_peeks_and_joins(new_user: NewUser, connect: Callable[..., Client], server: TinyServer) -> None:
    alice = await new_user("alice")
    open_to_guests = [
        {"type": "m.room.guest_access", "content": {"guest_access": "can_join"}},
        {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}},
    ]
    room = await alice.create_room(preset="public_chat", name="Open", initial_state=open_to_guests)
    said = await alice.send(room, "welcome")
    private = await alice.create_room()

    guest = connect(server)
    guest._become(await guest.request("POST", "/register", {}, params={"kind": "guest"}), "")
    assert bodies((await guest.messages(room))["chunk"]) == ["welcome"]
    for path in ("state", "members", "state/m.room.name", f"event/{quote(said)}", f"context/{quote(said)}"):
        await guest.request("GET", f"{guest.room(room)}/{path}")
        expect = 404 if path.startswith("event") else 403
        await guest.request("GET", f"{guest.room(private)}/{path}", expect=expect)
    for path in (f"{guest.room(room)}/joined_members", f"{guest.room(room)}/aliases", f"/events/{quote(said)}"):
        await guest.request("GET", path, expect=403, errcode="M_GUEST_ACCESS_FORBIDDEN")
    await guest.request("POST", "/publicRooms", {}, expect=403, errcode="M_GUEST_ACCESS_FORBIDDEN")
    await guest.request("POST", f"{guest.room(room)}/join", {})
    members = (await alice.request("GET", f"{alice.room(room)}/members"))["chunk"]
    assert guest.user_id in [member["state_key"] for member in members]
