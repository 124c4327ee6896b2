"""The names by which users are found: those that they have now, and first those that fit whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tinyserver.accounts.requester import Requester
from tinyserver.bell import Bell
from tinyserver.directory.users import MAX_EXAMINED, UserDirectory
from tinyserver.search.indexing import SearchIndexing
from tinyserver.storage import names, user_directory
from tinyserver.storage.transaction import WriteTransaction

from .world import World, open_world

ALICE, BOB = "@alice:here", "@bob:there"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "test.db") as made:
        yield made


async def found(world: World, term: str) -> list[str]:
    bell = Bell(world.db.position, tag="test")
    directory = UserDirectory(world.db, SearchIndexing(world.db, bell), "here")
    users = await directory.search(Requester(ALICE, world.nid(ALICE)), term, None)
    return [f"{user.user_id} {user.display_name}" for user in users.users]


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
    assert await found(world, "sam") == ["@sam:there None"]
    listed = world.db.glance(lambda tx: user_directory.with_words(tx, ["sam"], MAX_EXAMINED))
    assert len(listed) == MAX_EXAMINED
