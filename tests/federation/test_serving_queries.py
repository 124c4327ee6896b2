"""What other servers ask about aliases, users and published rooms; over real signed HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tinyserver.accounts.requester import Requester
from tinyserver.storage import accounts, rooms

from .serving import ALICE, US, V1, Site, open_site, refused
from .world import Peer, World


@pytest_asyncio.fixture
async def site(world: World) -> AsyncIterator[Site]:
    async with open_site(world) as made:
        yield made


@pytest_asyncio.fixture
async def peer(world: World) -> Peer:
    return await world.peer()


async def test_the_room_of_an_alias(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    await site.db.write(lambda tx: rooms.set_alias(tx, f"#tea:{US}", room, 1))
    await site.join(peer, room)
    target = f"{V1}/query/directory"
    answer = (await site.get(peer, target, room_alias=f"#tea:{US}")).json()
    assert answer["room_id"] == site.room_id(room)
    assert sorted(answer["servers"]) == sorted([US, peer.name])
    refused(await site.get(peer, target, room_alias=f"#coffee:{US}"), 404, "M_NOT_FOUND")
    refused(await site.get(peer, target, room_alias="#tea:other.test"), 404, "M_NOT_FOUND")
    refused(await site.get(peer, target, room_alias="tea"), 400, "M_INVALID_PARAM")
    refused(await site.get(peer, target), 400, "M_MISSING_PARAM")
    refused(await site.get(peer, f"{V1}/query/nonsense"), 404, "M_UNRECOGNIZED")


async def test_profiles(site: Site, peer: Peer) -> None:
    nid = await site.db.write(lambda tx: accounts.add(tx, ALICE, None, 0))
    target = f"{V1}/query/profile"
    assert (await site.get(peer, target, user_id=ALICE)).json() == {}
    await site.profiles.put_field(Requester(ALICE, nid), ALICE, "displayname", {"displayname": "Alice"})
    assert (await site.get(peer, target, user_id=ALICE)).json() == {"displayname": "Alice"}
    assert (await site.get(peer, target, user_id=ALICE, field="displayname")).json() == {"displayname": "Alice"}
    refused(await site.get(peer, target, user_id=ALICE, field="avatar_url"), 404, "M_NOT_FOUND")
    refused(await site.get(peer, target, user_id=f"@nobody:{US}"), 404, "M_NOT_FOUND")
    refused(await site.get(peer, target, user_id="@alice:other.test"), 404, "M_NOT_FOUND")
    refused(await site.get(peer, target, user_id="alice"), 400, "M_INVALID_PARAM")
    refused(await site.get(peer, target), 400, "M_MISSING_PARAM")


async def test_published_rooms(site: Site, peer: Peer) -> None:
    target = f"{V1}/publicRooms"
    assert (await site.get(peer, target)).json() == {"chunk": [], "total_room_count_estimate": 0}
    for name in ("Tea", "Coffee"):
        room = await site.public_room()
        await site.state(room, "m.room.name", {"name": name})
        await site.db.write(lambda tx, room=room: rooms.set_public(tx, room, True))  # type: ignore[misc]
    first = (await site.get(peer, target, limit=1)).json()
    second = (await site.get(peer, target, limit=1, since=first["next_batch"])).json()
    assert {page["chunk"][0]["name"] for page in (first, second)} == {"Tea", "Coffee"}
    found = (await site.request(peer, "POST", target, {"filter": {"generic_search_term": "coff"}})).json()
    assert [room["name"] for room in found["chunk"]] == ["Coffee"]
    spaces = (await site.request(peer, "POST", target, {"filter": {"room_types": ["m.space"]}})).json()
    assert spaces["chunk"] == []
    irc = (await site.get(peer, target, third_party_instance_id="irc")).json()
    assert irc["chunk"] == []
    refused(await site.get(peer, target, since="nonsense"), 400, "M_INVALID_PARAM")
    refused(await site.request(peer, "POST", target, {"limit": "many"}), 400, "M_BAD_JSON")
