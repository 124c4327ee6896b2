"""The directory of published rooms."""

from __future__ import annotations

import pytest
import pytest_asyncio

from .client import Client, Json
from .conftest import NewUser

EVERY_FIELD = {
    "room_id",
    "name",
    "topic",
    "canonical_alias",
    "avatar_url",
    "num_joined_members",
    "world_readable",
    "guest_can_join",
    "join_rule",
    "room_type",
}


def visibility(room: str) -> str:
    return f"/directory/list/room/{room}"


async def search(client: Client, term: str, **body: Json) -> Json:
    wanted = {"generic_search_term": term, **body.pop("filter", {})}
    return await client.request("POST", "/publicRooms", {"filter": wanted, **body})


@pytest_asyncio.fixture
async def alice(new_user: NewUser) -> Client:
    return await new_user("alice")


async def test_all_fields_of_a_room(alice: Client, new_user: NewUser) -> None:
    bob = await new_user("bob")
    state = [
        {"type": "m.room.avatar", "content": {"url": "mxc://example.org/avatar"}},
        {"type": "m.room.guest_access", "content": {"guest_access": "can_join"}},
        {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}},
        {"type": "m.room.join_rules", "content": {"join_rule": "knock"}},
    ]
    room = await alice.create_room(
        bob,
        visibility="public",
        name="Cheese",
        topic=f"Tasty {alice.localpart}",
        room_alias_name=f"cheese-{alice.localpart}",
        creation_content={"type": "m.space"},
        initial_state=state,
    )
    (found,) = (await search(alice, f"tasty {alice.localpart.upper()}"))["chunk"]
    assert set(found) == EVERY_FIELD
    assert found == {
        "room_id": room,
        "name": "Cheese",
        "topic": f"Tasty {alice.localpart}",
        "canonical_alias": f"#cheese-{alice.localpart}:{alice.user_id.split(':', 1)[1]}",
        "avatar_url": "mxc://example.org/avatar",
        "num_joined_members": 2,
        "world_readable": True,
        "guest_can_join": True,
        "join_rule": "knock",
        "room_type": "m.space",
    }


async def test_bare_room_has_the_required_fields(alice: Client) -> None:
    room = await alice.create_room(visibility="public", preset="public_chat", topic=alice.localpart)
    (found,) = (await search(alice, alice.localpart))["chunk"]
    assert set(found) == {"room_id", "topic", "num_joined_members", "world_readable", "guest_can_join", "join_rule"}
    assert (found["room_id"], found["join_rule"], found["world_readable"]) == (room, "public", False)


async def test_search_by_name_alias_and_type(alice: Client) -> None:
    mark = alice.localpart
    named = await alice.create_room(visibility="public", name=f"Garden {mark}")
    addressed = await alice.create_room(visibility="public", room_alias_name=f"address-{mark}")
    space = await alice.create_room(visibility="public", name=mark, creation_content={"type": "m.space"})
    await alice.create_room(name=f"Garden {mark}, not published")

    async def found(term: str, **wanted: Json) -> set[str]:
        return {room["room_id"] for room in (await search(alice, term, filter=wanted))["chunk"]}

    assert await found(f"gARDEN {mark}") == {named}
    assert await found(f"#address-{mark}") == {addressed}
    assert await found(mark) == {named, addressed, space}
    assert await found(mark, room_types=["m.space"]) == {space}
    assert await found(mark, room_types=[None]) == {named, addressed}
    assert await found(mark, room_types=[None, "m.space"]) == {named, addressed, space}
    assert await found(mark, room_types=[]) == set()
    assert await found(f"{mark} nothing has this name") == set()


async def test_publishing(alice: Client, new_user: NewUser) -> None:
    bob, admin = await new_user("bob"), await new_user("admin", admin=True)
    room = await alice.create_room(bob, preset="private_chat")
    anonymous = Client(alice.base_url)
    try:
        assert await anonymous.request("GET", visibility(room)) == {"visibility": "private"}
    finally:
        await anonymous.close()
    await bob.request("PUT", visibility(room), {"visibility": "public"}, expect=403, errcode="M_FORBIDDEN")
    await alice.request("PUT", visibility(room), {})
    assert await bob.request("GET", visibility(room)) == {"visibility": "public"}
    await admin.request("PUT", visibility(room), {"visibility": "private"})
    assert await bob.request("GET", visibility(room)) == {"visibility": "private"}
    await alice.request("PUT", visibility(room), {"visibility": "secret"}, expect=400, errcode="M_BAD_JSON")
    unknown = visibility("!gone:example.org")
    await alice.request("GET", unknown, expect=404, errcode="M_NOT_FOUND")
    await alice.request("PUT", unknown, {"visibility": "public"}, expect=404, errcode="M_NOT_FOUND")
    await alice.request("GET", visibility("junk"), expect=400, errcode="M_INVALID_PARAM")


async def test_pages_forward_and_back(alice: Client, new_user: NewUser) -> None:
    bob = await new_user("bob")
    mark = alice.localpart
    crowded = await alice.create_room(bob, visibility="public", preset="public_chat", name=mark)
    others = [await alice.create_room(visibility="public", name=mark) for _ in range(6)]
    expected = [crowded, *others]  # the largest first, then in the order of their making

    pages, since = [], None
    while True:
        page = await search(alice, mark, limit=3, **({"since": since} if since else {}))
        pages.append([room["room_id"] for room in page["chunk"]])
        since = page.get("next_batch")
        if since is None or len(pages) > 10:
            break
    assert [room for rooms in pages for room in rooms] == expected
    assert page["total_room_count_estimate"] >= 7

    back = await search(alice, mark, limit=3, since=page["prev_batch"])
    assert [room["room_id"] for room in back["chunk"]] == pages[-2]
    again = await search(alice, mark, limit=3, since=back["next_batch"])
    assert [room["room_id"] for room in again["chunk"]][: len(pages[-1])] == pages[-1]

    first = await alice.request("GET", "/publicRooms", params={"limit": 2})
    second = await alice.request("GET", "/publicRooms", params={"limit": 2, "since": first["next_batch"]})
    assert "prev_batch" not in first
    assert not {room["room_id"] for room in first["chunk"]} & {room["room_id"] for room in second["chunk"]}
    back = await alice.request("GET", "/publicRooms", params={"limit": 2, "since": second["prev_batch"]})
    assert back["chunk"] == first["chunk"]
    assert "prev_batch" not in back


async def test_listing_needs_no_account_but_searching_does(alice: Client) -> None:
    await alice.create_room(visibility="public", name="for all")
    anonymous = Client(alice.base_url)
    try:
        assert (await anonymous.request("GET", "/publicRooms"))["chunk"]
        await anonymous.request("POST", "/publicRooms", {}, expect=401, errcode="M_MISSING_TOKEN")
    finally:
        await anonymous.close()


@pytest.mark.parametrize(
    ("params", "status", "errcode"),
    [
        ({"since": "junk"}, 400, "M_INVALID_PARAM"),
        ({"since": "n1_" + "9" * 99}, 400, "M_INVALID_PARAM"),
        ({"limit": "all"}, 400, "M_INVALID_PARAM"),
        ({"limit": -1}, 400, "M_INVALID_PARAM"),
        ({"server": "elsewhere.example"}, 404, "M_NOT_FOUND"),
        ({"server": "not a server"}, 400, "M_INVALID_PARAM"),
    ],
)
async def test_wrong_queries(alice: Client, params: Json, status: int, errcode: str) -> None:
    await alice.request("GET", "/publicRooms", expect=status, errcode=errcode, params=params)


async def test_third_party_networks(alice: Client) -> None:
    room = await alice.create_room(visibility="public", name=alice.localpart)
    server = {"server": alice.user_id.split(":", 1)[1]}
    irc = {"third_party_instance_id": "irc", "filter": {"generic_search_term": alice.localpart}}
    assert (await alice.request("POST", "/publicRooms", irc, params=server))["chunk"] == []
    everywhere = irc | {"include_all_networks": True}
    found = (await alice.request("POST", "/publicRooms", everywhere, params=server))["chunk"]
    assert [entry["room_id"] for entry in found] == [room]
