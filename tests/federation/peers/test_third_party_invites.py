"""Somebody is invited by mail address on one server, and proves the address on the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from ...identity_server import IdentityServer
from ..network import Authority
from .conftest import NewUser, Pair


@pytest_asyncio.fixture
async def identity(authority: Authority) -> AsyncIterator[IdentityServer]:
    async with IdentityServer(authority, "localhost") as made:
        yield made


def invite(identity: IdentityServer, address: str) -> dict[str, Any]:
    return {
        "medium": "email",
        "address": address,
        "id_server": identity.name,
        "id_access_token": identity.token,
    }


async def test_an_invite_is_exchanged(pair: Pair, new_user: NewUser, identity: IdentityServer) -> None:
    alice, carol = await new_user(pair.host, "alice"), await new_user(pair.guest, "carol")
    room = await alice.create_room(name="By mail")
    await alice.request("POST", f"{alice.room(room)}/invite", invite(identity, "carol@example.org"))
    (token,) = identity.invites
    assert identity.invites[token]["room_name"] == "By mail"
    # As identity servers do it, whatever the specification of servers says.
    told = await identity.prove("carol@example.org", carol.user_id, f"https://{pair.guest.server_name}", "POST")
    assert told.status_code == 200, told.text

    def invited(answer: Any) -> Any:
        return answer.get("rooms", {}).get("invite", {}).get(room)

    await carol.sync_until(invited)
    await carol.join(room)
    event = await carol.send(room, "here I am")

    def arrived(answer: Any) -> bool:
        events = answer.get("rooms", {}).get("join", {}).get(room, {}).get("timeline", {}).get("events", [])
        return event in [each["event_id"] for each in events]

    await alice.sync_until(arrived)


async def test_somebody_is_known_already(pair: Pair, new_user: NewUser, identity: IdentityServer) -> None:
    alice, carol = await new_user(pair.host, "alice"), await new_user(pair.guest, "carol")
    identity.bound["email", "carol@example.org"] = carol.user_id
    room = await alice.create_room(invite_3pid=[invite(identity, "carol@example.org")])
    await carol.sync_until(lambda answer: answer.get("rooms", {}).get("invite", {}).get(room))
    assert identity.invites == {}
    await carol.join(room)
