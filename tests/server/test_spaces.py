"""Looking at spaces and at rooms from outside."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from .client import Client
from .conftest import NewUser
from .harness import TinyServer

V1 = "/_matrix/client/v1"


async def space(owner: Client, **options: Any) -> str:
    return await owner.create_room(creation_content={"type": "m.space"}, **options)


async def add(owner: Client, parent: str, child: str, **content: Any) -> None:
    await owner.put_state(parent, "m.space.child", {"via": [owner.user_id.partition(":")[2]], **content}, child)


async def hierarchy(reader: Client, room: str, **params: Any) -> Any:
    query = {key.rstrip("_"): str(value).lower() if isinstance(value, bool) else value for key, value in params.items()}
    return await reader.request("GET", f"{V1}{reader.room(room)}/hierarchy", params=query)


async def listed(reader: Client, room: str, **params: Any) -> list[str]:
    return [each["room_id"] for each in (await hierarchy(reader, room, **params))["rooms"]]


async def test_a_tree_in_its_order_each_room_once(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    top = await space(alice, preset="public_chat", name="Top")
    inner = await space(alice, preset="public_chat")
    first, second, deep = [await alice.create_room(preset="public_chat", name=name) for name in ("1", "2", "3")]
    secret = await alice.create_room()
    await add(alice, top, second, order="z")
    await add(alice, top, inner, order="m", suggested=True)
    await add(alice, top, first, order="a")
    await add(alice, top, secret, order="b")
    await add(alice, inner, deep, suggested=True)
    await add(alice, inner, top)
    await add(alice, inner, second)
    assert await listed(alice, top) == [top, first, secret, inner, deep, second]
    assert await listed(bob, top) == [top, first, inner, deep, second]
    assert await listed(bob, top, max_depth=0) == [top]
    assert await listed(bob, top, max_depth=1) == [top, first, inner, second]
    assert await listed(bob, top, suggested_only=True) == [top, inner, deep]
    (root, *_) = (await hierarchy(bob, top))["rooms"]
    assert (root["name"], root["room_type"], root["num_joined_members"]) == ("Top", "m.space", 1)
    assert [child["state_key"] for child in root["children_state"]] == [first, secret, inner, second]
    assert {"type", "state_key", "content", "sender", "origin_server_ts"} == root["children_state"][0].keys()


async def test_pages(new_user: NewUser) -> None:
    alice = await new_user("alice")
    top = await space(alice)
    rooms = [await alice.create_room(name=str(number)) for number in range(5)]
    for number, room in enumerate(rooms):
        await add(alice, top, room, order=str(number))
    found: list[str] = []
    token = None
    while True:
        page = await hierarchy(alice, top, limit=2, from_=token)
        found += [each["room_id"] for each in page["rooms"]]
        token = page.get("next_batch")
        if token is None:
            break
        assert len(page["rooms"]) == 2
    assert found == [top, *rooms]
    path = f"{V1}{alice.room(top)}/hierarchy"
    token = (await hierarchy(alice, top, limit=2))["next_batch"]
    for wrong in (
        {"from": "x"},
        {"from": token, "max_depth": 1},
        {"from": token, "suggested_only": "true"},
        {"limit": 0},
        {"limit": -1},
        {"max_depth": -1},
    ):
        await alice.request("GET", path, params=wrong, expect=400, errcode="M_INVALID_PARAM")


async def test_who_sees_which_room(new_user: NewUser) -> None:
    alice, bob, carol = [await new_user(name) for name in ("alice", "bob", "carol")]
    top = await space(alice, preset="public_chat")
    club = await alice.create_room(bob)
    restricted = await alice.create_room()
    rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
    await alice.put_state(restricted, "m.room.join_rules", rule)
    knocking = await alice.create_room()
    await alice.put_state(knocking, "m.room.join_rules", {"join_rule": "knock"})
    readable = await alice.create_room()
    await alice.put_state(readable, "m.room.history_visibility", {"history_visibility": "world_readable"})
    inviting = await alice.create_room()
    await alice.invite(inviting, carol)
    for order, room in enumerate((club, restricted, knocking, readable, inviting)):
        await add(alice, top, room, order=str(order))
    assert await listed(alice, top) == [top, club, restricted, knocking, readable, inviting]
    assert await listed(bob, top) == [top, club, restricted, knocking, readable]
    assert await listed(carol, top) == [top, knocking, readable, inviting]
    path = f"{V1}{bob.room(inviting)}/hierarchy"
    await bob.request("GET", path, expect=403, errcode="M_FORBIDDEN")
    await bob.request("GET", f"{V1}/rooms/x/hierarchy", expect=400, errcode="M_INVALID_PARAM")
    told = await bob.request("GET", f"{V1}/room_summary/{quote(restricted)}")
    assert (told["allowed_room_ids"], told["join_rule"]) == ([club], "restricted")
    await carol.request("GET", f"{V1}/room_summary/{quote(restricted)}", expect=404, errcode="M_NOT_FOUND")


@pytest.mark.parametrize(
    "path",
    [
        "/_matrix/client/v1/room_summary/{}",
        "/_matrix/client/unstable/im.nheko.summary/summary/{}",
        "/_matrix/client/unstable/im.nheko.summary/rooms/{}/summary",
    ],
)
async def test_summaries(server: TinyServer, new_user: NewUser, path: str) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    alias = f"#{alice.localpart}:{server.server_name}"
    encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room = await alice.create_room(
        preset="public_chat",
        room_alias_name=alice.localpart,
        topic="Tea",
        initial_state=[encryption],
        room_version="11",
    )
    told = await bob.request("GET", path.format(quote(alias)), params={"via": server.server_name})
    assert told == await bob.request("GET", path.format(quote(room)))
    assert (told["room_id"], told["topic"], told["room_version"]) == (room, "Tea", "11")
    assert told["encryption"] == told["im.nheko.summary.encryption"] == "m.megolm.v1.aes-sha2"
    assert "membership" not in told
    assert (await alice.request("GET", path.format(quote(room))))["membership"] == "join"
    nobody = Client(server.base_url)
    try:
        assert (await nobody.request("GET", path.format(quote(room))))["room_id"] == room
        await nobody.request("GET", path.format("%23x:far.example"), expect=404, errcode="M_NOT_FOUND")
    finally:
        await nobody.close()
    await bob.request("GET", path.format("!nowhere:far.example"), expect=404, errcode="M_NOT_FOUND")
    await bob.request("GET", path.format("x"), expect=400, errcode="M_INVALID_PARAM")
    await bob.request("GET", path.format(quote(room)), params={"via": "/"}, expect=400, errcode="M_INVALID_PARAM")
