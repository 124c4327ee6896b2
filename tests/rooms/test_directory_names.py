"""Finding users among many, by the names that they have now; rooms in common with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tinyserver.accounts.requester import Requester
from tinyserver.bell import Bell
from tinyserver.directory import users
from tinyserver.directory.users import MAX_EXAMINED, FoundUsers, UserDirectory
from tinyserver.search.indexing import SearchIndexing
from tinyserver.storage import names, rooms
from tinyserver.storage.transaction import WriteTransaction

from .world import World, open_world

ALICE, BOB = "@alice:here", "@bob:there"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "test.db") as made:
        yield made


def directory_of(world: World) -> UserDirectory:
    return UserDirectory(world.db, SearchIndexing(world.db, Bell(world.db.position, tag="test")), "here")


async def search(world: World, term: str) -> FoundUsers:
    return await directory_of(world).search(Requester(ALICE, world.nid(ALICE)), term, None)


async def found(world: World, term: str) -> list[str]:
    return [f"{user.user_id} {user.display_name}" for user in (await search(world, term)).users]


async def test_an_old_name_that_comes_late_is_not_the_name(world: World) -> None:
    room = await world.create_room(ALICE)
    await world.send(room, ALICE, "m.room.join_rules", {"join_rule": "public"}, state_key="")
    server = await world.second_server(room)
    await world.join_from(server, room, BOB)
    base = world.snapshot(room)
    both = [
        world.remote_event(
            server, base, BOB, "m.room.member", {"membership": "join", "displayname": name}, state_key=BOB
        )
        for name in ("Robert", "Bobby")
    ]
    # The order in which state resolution takes them: the last one stays.
    old, new = sorted(both, key=lambda pdu: (pdu["origin_server_ts"], world.id_of(pdu, room)))
    await world.receive(server, new)
    await world.receive(server, old)
    name, former = new["content"]["displayname"], old["content"]["displayname"]
    assert await found(world, name) == [f"{BOB} {name}"]
    assert await found(world, former) == []


async def test_many_with_longer_names_do_not_hide_somebody(world: World) -> None:
    def fill(tx: WriteTransaction) -> None:
        for number in range(MAX_EXAMINED):
            nid = names.intern(tx, f"@sam{number}:there")
            tx.execute("INSERT INTO user_words (rowid, words) VALUES (?, ?)", (nid, f"sam{number}"))

    await world.db.write(fill)
    room = await world.create_room(ALICE)
    await world.send(room, ALICE, "m.room.join_rules", {"join_rule": "public"}, state_key="")
    await world.join_from(await world.second_server(room), room, "@sam:there")
    # Nothing but the number of those who are looked at hides them: strangers fit as well.
    for term in ("sam", "sa", "s"):
        answer = await search(world, term)
        assert [user.user_id for user in answer.users] == ["@sam:there"], term
        assert answer.limited  # not everybody who fits was looked at


async def test_people_in_a_public_room_are_found_while_this_server_follows_it(world: World) -> None:
    room = await world.create_room(ALICE)
    await world.send(room, ALICE, "m.room.join_rules", {"join_rule": "public"}, state_key="")
    await world.join_from(await world.second_server(room), room, BOB)
    carol = "@carol:here"
    await world.send(room, carol, "m.room.member", {"membership": "join"}, state_key=carol)
    for user, seen in ((ALICE, [f"{BOB} None"]), (carol, [])):
        await world.send(room, user, "m.room.member", {"membership": "leave"}, state_key=user)
        assert await found(world, "bob") == seen  # what is known of them is old as soon as nobody here is in the room


async def test_rooms_in_common_come_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "MUTUAL_ROOMS", 2)
    made = []
    for _ in range(5):
        room = await world.create_room(ALICE)
        await world.send(room, ALICE, "m.room.join_rules", {"join_rule": "public"}, state_key="")
        await world.join_from(await world.second_server(room), room, BOB)
        made.append(room)
    pages: list[Sequence[str]] = []
    token: str | None = None
    while not pages or token is not None:
        page = await directory_of(world).mutual_rooms(Requester(ALICE, world.nid(ALICE)), BOB, token)
        assert page.count == 5
        pages.append(page.room_ids)
        token = page.next
    ids = world.db.glance(lambda tx: [rooms.room_id(tx, room) for room in made])
    assert pages == [ids[:2], ids[2:4], ids[4:]]
