"""Finding people, and the rooms that one shares with them."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Client
from .conftest import NewUser


async def search(reader: Client, term: str, **options: Any) -> Any:
    return await reader.request("POST", "/user_directory/search", {"search_term": term, **options})


async def found(reader: Client, term: str, **options: Any) -> list[str]:
    return [user["user_id"] for user in (await search(reader, term, **options))["results"]]


async def named(new_user: NewUser, name: str, display_name: str) -> Client:
    user = await new_user(name)
    await user.request("PUT", f"/profile/{user.user_id}/displayname", {"displayname": display_name})
    return user


async def test_only_those_whom_one_could_meet(new_user: NewUser) -> None:
    alice, bob, carol = [await new_user(name) for name in ("searcher", "quokka", "quokka")]
    assert await found(alice, "quokka") == []
    room = await alice.create_room(bob)
    assert await found(alice, "quokka") == [bob.user_id]
    await bob.leave(room)
    assert await found(alice, "quokka") == []
    public = await carol.create_room(preset="public_chat")
    assert await found(alice, "quokka") == [carol.user_id]
    await carol.put_state(public, "m.room.join_rules", {"join_rule": "invite"})
    assert await found(alice, "quokka") == []
    await carol.put_state(public, "m.room.history_visibility", {"history_visibility": "world_readable"})
    assert await found(alice, "quokka") == [carol.user_id]


async def test_names_and_ids(new_user: NewUser) -> None:
    alice = await new_user("alice")
    zoe = await named(new_user, "zoe", "Zoë Müller")
    zoltan = await named(new_user, "zoltan", "Zoltán")
    await alice.create_room(zoe, zoltan)
    (user,) = (await search(alice, "muller"))["results"]
    assert user == {"user_id": zoe.user_id, "display_name": "Zoë Müller"}
    for term in ("ZOE", "zoë mül", zoe.user_id, zoe.user_id[:-3], f"@{zoe.localpart}"):
        assert await found(alice, term) == [zoe.user_id], term
    assert sorted(await found(alice, "zo")) == sorted([zoe.user_id, zoltan.user_id])
    assert await found(alice, "zoltan") == [zoltan.user_id]
    assert await found(alice, "@zoe:elsewhere.example") == await found(alice, "oe") == await found(alice, " ") == []
    limited = await search(alice, "zo", limit=1)
    assert (len(limited["results"]), limited["limited"]) == (1, True)
    assert (await search(alice, "zo"))["limited"] is False
    await zoe.request("PUT", f"/profile/{zoe.user_id}/displayname", {"displayname": "Ada"})
    assert await found(alice, "muller") == []
    assert await found(alice, "ada") == [zoe.user_id]
    await search_fails(alice, {"search_term": 1}, "M_BAD_JSON")
    await search_fails(alice, {"search_term": "x", "limit": -1}, "M_INVALID_PARAM")


async def search_fails(reader: Client, body: Any, errcode: str) -> None:
    await reader.request("POST", "/user_directory/search", body, expect=400, errcode=errcode)


@pytest.mark.parametrize(
    "path", ["/_matrix/client/v1/mutual_rooms", "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"]
)
async def test_mutual_rooms(new_user: NewUser, path: str) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    rooms = [await alice.create_room(bob) for _ in range(3)]
    await alice.create_room()
    await bob.leave(rooms[1])

    async def mutual(other: str, **options: Any) -> Any:
        return await alice.request("GET", path, params={"user_id": other}, **options)

    assert await mutual(bob.user_id) == {"joined": [rooms[0], rooms[2]], "count": 2}
    assert await mutual("@nobody:far.example") == {"joined": [], "count": 0}
    await mutual(alice.user_id, expect=400, errcode="M_INVALID_PARAM")
    await mutual("bob", expect=400, errcode="M_INVALID_PARAM")
    await alice.request("GET", path, expect=400, errcode="M_MISSING_PARAM")
    params = {"user_id": bob.user_id, "from": "x"}
    await alice.request("GET", path, params=params, expect=400, errcode="M_INVALID_PARAM")
