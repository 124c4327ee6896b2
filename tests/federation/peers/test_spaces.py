"""Spaces whose rooms are on another server."""

from __future__ import annotations

from urllib.parse import quote

from .conftest import NewUser, Pair

V1 = "/_matrix/client/v1"


async def test_a_space_of_another_server(pair: Pair, new_user: NewUser) -> None:
    alice = await new_user(pair.host, "alice")
    bob = await new_user(pair.guest, "bob")
    via = [pair.host.server_name]
    top = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"}, name="Top")
    inner = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"})
    tea, secret = await alice.create_room(preset="public_chat", name="Tea"), await alice.create_room()
    for parent, child, order in ((top, inner, "a"), (top, secret, "b"), (inner, tea, "c")):
        await alice.put_state(parent, "m.space.child", {"via": via, "order": order}, child)
    entrance = await bob.create_room(creation_content={"type": "m.space"})
    await bob.put_state(entrance, "m.space.child", {"via": via}, top)
    page = await bob.request("GET", f"{V1}{bob.room(entrance)}/hierarchy")
    assert [room["room_id"] for room in page["rooms"]] == [entrance, top, inner, tea]
    assert [room.get("name") for room in page["rooms"]] == [None, "Top", None, "Tea"]
    path = f"{V1}/room_summary/{{}}"
    told = await bob.request("GET", path.format(quote(tea)), params={"via": pair.host.server_name})
    assert (told["name"], told["join_rule"], told["num_joined_members"]) == ("Tea", "public", 1)
    hidden = path.format(quote(secret))
    await bob.request("GET", hidden, params={"via": pair.host.server_name}, expect=404, errcode="M_NOT_FOUND")
