"""The list of notifications in rooms that have more events than are looked at for one page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from tests.rooms.world import open_world
from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.push import past

from .test_marks import BOB, Marked

MENTION = {"m.mentions": {"user_ids": [BOB]}}


@pytest.fixture
async def marked(tmp_path: Path) -> AsyncIterator[Marked]:
    async with open_world(tmp_path / "test.db") as world:
        room = Marked(world)
        await room.set_up()
        yield room


@pytest.mark.parametrize("limit", [1, 3])
async def test_pages_reach_mentions_behind_much_else(
    marked: Marked, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(past, "MAX_EXAMINED", 4)
    quiet, busy = marked, Marked(marked.world)
    await marked.say("old in the first", **MENTION)
    busy.room = await marked.world.create_room("@alice:here")
    await marked.world.send(busy.room, "@alice:here", "m.room.join_rules", {"join_rule": "public"}, state_key="")
    await busy.member(BOB, "join")
    await busy.say("old in the second", **MENTION)
    for number in range(11):
        await busy.say(str(number))
    await quiet.say("new", **MENTION)
    listed = past.PastNotifications(marked.world.db, marked.world.clock, marked.rules, IgnoredUsers())
    found: list[str] = []
    token: str | None = None
    for _ in range(20):
        page = await listed.page(marked.bob, token, limit, highlights_only=True)
        found += [orjson.loads(each.event)["content"]["body"] for each in page.notifications]
        token = page.next
        if token is None:
            break
    assert found == ["new", "old in the second", "old in the first"]
