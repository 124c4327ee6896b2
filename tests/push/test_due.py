"""What pushers are told of invites that their user does not want to see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rooms.world import open_world
from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.push.due import DueReader
from tinyserver.push.unread import UnreadCounter
from tinyserver.storage import account_data
from tinyserver.storage.pushers import PusherRow, PusherSettings

from .test_marks import BOB, Marked


@pytest.fixture
async def marked(tmp_path: Path) -> AsyncIterator[Marked]:
    async with open_world(tmp_path / "test.db") as world:
        room = Marked(world)
        await room.set_up()
        yield room


async def test_blocked_invites_are_not_pushed(marked: Marked) -> None:
    world, bob = marked.world, marked.bob.user_nid
    since = world.db.position
    room = await world.create_room("@alice:here")
    # As from another server that shares the room: nobody could keep it out.
    await world.send(room, "@alice:here", "m.room.member", {"membership": "invite"}, state_key=BOB)
    settings = PusherSettings(None, "app", "key", "http", "App", "Phone", None, "en", {}, True)
    pusher = PusherRow(1, bob, settings, 0, since, 0, None, 0, 0)
    ignored = IgnoredUsers()
    reader = DueReader(marked.rules, ignored, UnreadCounter(marked.rules, ignored))

    def told() -> list[str]:
        due = world.db.glance(lambda tx: reader.read(tx, pusher, since, world.db.position, 0))
        return [event.rest["type"] for event in due.events]

    async def say(config: bytes) -> None:
        await world.db.write(lambda tx: account_data.put(tx, bob, None, "m.invite_permission_config", config))

    assert told() == ["m.room.member"]
    await say(b'{"default_action":"block"}')
    assert told() == []
    await say(b"{}")
    assert told() == ["m.room.member"]
