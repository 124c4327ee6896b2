"""Spaces that other servers ask about; over real signed HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tinyserver.protocol.room_versions import ROOM_VERSIONS
from tinyserver.rooms.drafts import EventDraft

from .serving import ALICE, US, V1, Site, open_site, refused
from .world import Peer, World


@pytest_asyncio.fixture
async def site(world: World) -> AsyncIterator[Site]:
    async with open_site(world) as made:
        yield made


@pytest_asyncio.fixture
async def peer(world: World) -> Peer:
    return await world.peer()


async def space(site: Site) -> int:
    """A public space of Alice's."""

    def step(tx: Any) -> int:
        content = {"room_version": "11", "type": "m.space"}
        draft = EventDraft("m.room.create", ALICE, content, state_key="")
        room = site.pipeline.create_room(tx, ROOM_VERSIONS["11"], draft, f"!space:{US}")
        join = EventDraft("m.room.member", ALICE, {"membership": "join"}, state_key=ALICE)
        site.pipeline.send(tx, room.nid, join)
        return room.nid

    room = await site.db.write(step)
    await site.state(room, "m.room.join_rules", {"join_rule": "public"})
    return room


async def add(site: Site, parent: int, child_id: str, **content: Any) -> None:
    content = {"via": [US], **content}
    await site.rooms.send(parent, ALICE, "m.space.child", content, state_key=child_id)


async def test_a_space_and_its_children(site: Site, peer: Peer) -> None:
    parent = await space(site)
    room = await site.public_room()
    await site.state(room, "m.room.name", {"name": "Tea"})
    secret = await site.rooms.create_room(ALICE, "12")
    club = await site.rooms.create_room(ALICE, "12")
    allow = [{"type": "m.room_membership", "room_id": site.room_id(parent)}]
    await site.state(club, "m.room.join_rules", {"join_rule": "restricted", "allow": allow})
    await add(site, parent, site.room_id(secret), order="b")
    await add(site, parent, site.room_id(room), order="a", suggested=True)
    await add(site, parent, site.room_id(club))
    await add(site, parent, "!unknown:other.test", order=7)
    await add(site, parent, "!gone:other.test", via=[])
    target = f"{V1}/hierarchy/{site.quoted_id(parent)}"
    answer = (await site.get(peer, target)).json()
    shown = answer["room"]
    assert (shown["room_id"], shown["room_type"], shown["room_version"]) == (site.room_id(parent), "m.space", "11")
    assert [child["state_key"] for child in shown["children_state"]] == [
        site.room_id(room),
        site.room_id(secret),
        site.room_id(club),
        "!unknown:other.test",
    ]
    assert set(shown["children_state"][0]) == {"type", "state_key", "sender", "content", "origin_server_ts"}
    (child,) = answer["children"]
    assert (child["room_id"], child["name"], child["join_rule"]) == (site.room_id(room), "Tea", "public")
    assert answer["inaccessible_children"] == [site.room_id(secret), site.room_id(club)]

    only = (await site.get(peer, target, suggested_only="true")).json()
    assert [child["state_key"] for child in only["room"]["children_state"]] == [site.room_id(room)]

    await site.join(peer, parent)
    await site.member(secret, ALICE, f"@bob:{peer.name}", "invite")
    answer = (await site.get(peer, target)).json()
    assert [child["room_id"] for child in answer["children"]] == [site.room_id(each) for each in (room, secret, club)]
    assert answer["children"][2]["allowed_room_ids"] == [site.room_id(parent)]
    assert answer["inaccessible_children"] == []


async def test_rooms_that_one_cannot_get_into_are_not_there(site: Site, peer: Peer) -> None:
    secret = await site.rooms.create_room(ALICE, "12")
    refused(await site.get(peer, f"{V1}/hierarchy/{site.quoted_id(secret)}"), 404, "M_NOT_FOUND")
    refused(await site.get(peer, f"{V1}/hierarchy/!nowhere:{US}"), 404, "M_NOT_FOUND")
    room = await site.public_room()
    assert (await site.get(peer, f"{V1}/hierarchy/{site.quoted_id(room)}")).json()["children"] == []
    await site.state(room, "m.room.server_acl", {"allow": ["other.test"]})
    refused(await site.get(peer, f"{V1}/hierarchy/{site.quoted_id(room)}"), 404, "M_NOT_FOUND")
