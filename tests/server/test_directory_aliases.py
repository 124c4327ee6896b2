"""Room aliases."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest

from .client import Client
from .conftest import NewUser
from .harness import TinyServer


def path(alias: str) -> str:
    return f"/directory/room/{quote(alias, safe='')}"


def alias_of(client: Client, name: str = "room") -> str:
    return f"#{name}-{client.localpart}:{client.user_id.split(':', 1)[1]}"


async def test_life_of_an_alias(new_user: NewUser, connect: Callable[..., Client], server: TinyServer) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    alias = alias_of(alice, "ünicode/slash")
    await alice.request("GET", path(alias), expect=404, errcode="M_NOT_FOUND")
    assert await alice.request("PUT", path(alias), {"room_id": room}) == {}
    found = await connect(server).request("GET", path(alias))
    assert found == {"room_id": room, "servers": [alice.user_id.split(":", 1)[1]]}
    assert await alice.request("GET", f"{alice.room(room)}/aliases") == {"aliases": [alias]}
    taken = await alice.request("PUT", path(alias), {"room_id": room}, expect=409, errcode="M_UNKNOWN")
    assert alias in taken["error"]
    assert await alice.request("DELETE", path(alias)) == {}
    await alice.request("DELETE", path(alias), expect=404, errcode="M_NOT_FOUND")
    assert await alice.request("GET", f"{alice.room(room)}/aliases") == {"aliases": []}


async def test_join_by_alias(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(preset="public_chat", room_alias_name=f"lounge-{alice.localpart}")
    joined = await bob.join(alias_of(alice, "lounge"))
    assert joined == {"room_id": room}


@pytest.mark.parametrize("alias", ["#no-server", "no-sigil:example.org", "#" + "x" * 300 + ":example.org"])
async def test_what_is_no_alias(new_user: NewUser, alias: str) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    await alice.request("PUT", path(alias), {"room_id": room}, expect=400, errcode="M_INVALID_PARAM")
    await alice.request("GET", path(alias), expect=400, errcode="M_INVALID_PARAM")


async def test_refused_aliases(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room()
    alias = alias_of(alice)
    foreign = "#room:elsewhere.example"
    nameless = f"#:{alice.user_id.split(':', 1)[1]}"
    await alice.request("PUT", path(nameless), {"room_id": room}, expect=400, errcode="M_INVALID_PARAM")
    await alice.request("PUT", path(foreign), {"room_id": room}, expect=400, errcode="M_INVALID_PARAM")
    await alice.request("GET", path(foreign), expect=404, errcode="M_NOT_FOUND")
    await alice.request("PUT", path(alias), {"room_id": "nothing"}, expect=400, errcode="M_INVALID_PARAM")
    await alice.request("PUT", path(alias), {"room_id": "!gone:example.org"}, expect=404, errcode="M_NOT_FOUND")
    await alice.request("PUT", path(alias), {}, expect=400, errcode="M_BAD_JSON")
    await bob.request("PUT", path(alias), {"room_id": room}, expect=403, errcode="M_FORBIDDEN")


async def test_who_may_take_an_alias_away(new_user: NewUser) -> None:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    admin = await new_user("admin", admin=True)
    room = await alice.create_room(bob, carol, preset="private_chat")
    alias = alias_of(bob)
    for remover in (bob, alice, admin):  # who made it, who has the power, who runs the server
        await bob.request("PUT", path(alias), {"room_id": room})
        await carol.request("DELETE", path(alias), expect=403, errcode="M_FORBIDDEN")
        await remover.request("DELETE", path(alias))


async def test_main_address_follows(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room(room_alias_name=f"main-{alice.localpart}")
    main, other, third = (alias_of(alice, name) for name in ("main", "other", "third"))
    for alias in (other, third):
        await alice.request("PUT", path(alias), {"room_id": room})
    await alice.put_state(room, "m.room.canonical_alias", {"alias": main, "alt_aliases": [other, third]})
    await alice.request("DELETE", path(other))
    assert await alice.get_state(room, "m.room.canonical_alias") == {"alias": main, "alt_aliases": [third]}
    await alice.request("DELETE", path(main))
    assert await alice.get_state(room, "m.room.canonical_alias") == {"alt_aliases": [third]}


async def test_aliases_of_a_world_readable_room(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(room_alias_name=f"seen-{alice.localpart}")
    await bob.request("GET", f"{bob.room(room)}/aliases", expect=403, errcode="M_FORBIDDEN")
    await alice.put_state(room, "m.room.history_visibility", {"history_visibility": "world_readable"})
    assert await bob.request("GET", f"{bob.room(room)}/aliases") == {"aliases": [alias_of(alice, "seen")]}
    await bob.request("GET", f"{bob.room('junk')}/aliases", expect=400, errcode="M_INVALID_PARAM")
