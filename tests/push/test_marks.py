"""Which users an event is marked for: those who mean something else by it than its class says, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.rooms.world import NO_POLICIES, World, open_world
from tinyserver.accounts.requester import Requester
from tinyserver.push.notifications import NotificationMarks
from tinyserver.push.rules import PushRules
from tinyserver.rooms.append import Appender
from tinyserver.rooms.drafts import EventSigner
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.storage import accounts

ALICE, BOB, CAROL = "@alice:here", "@bob:here", "@carol:here"
HIGHLIGHT = {"actions": ["notify", {"set_tweak": "highlight"}]}


class Marked:
    """A room of Alice, Bob and Carol whose marks can be counted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rules = PushRules(world.db)
        appender = Appender("here", NotificationMarks(self.rules))
        signer = EventSigner("here", world.keys["here"])
        missing: Any = world.pipeline._missing_events
        world.pipeline = EventPipeline(world.db, signer, appender, world.clock, missing, missing, NO_POLICIES)

    async def set_up(self) -> None:
        await self.world.db.write(lambda tx: [accounts.add(tx, user, None, 1) for user in (ALICE, BOB, CAROL)])
        self.bob = Requester(BOB, self.world.nid(BOB))
        self.room = await self.world.create_room(ALICE)
        await self.world.send(self.room, ALICE, "m.room.join_rules", {"join_rule": "public"}, state_key="")
        for user in (BOB, CAROL):
            await self.member(user, "join")

    async def member(self, user: str, membership: str, **content: Any) -> None:
        content["membership"] = membership
        await self.world.send(self.room, user, "m.room.member", content, state_key=user)

    async def say(self, body: str, **content: Any) -> list[tuple[str, int]]:
        """A message of Alice's; (user, kind) of the marks that it got."""
        content |= {"msgtype": "m.text", "body": body}
        event = await self.world.send(self.room, ALICE, "m.room.message", content)
        sql = "SELECT n.name, kind FROM highlights JOIN names n ON n.nid = user WHERE room = ? AND place = ?"
        return sorted(self.world.db.glance(lambda tx: tx.rows(sql, (self.room, event.place))))


@pytest.fixture
async def marked(tmp_path: Path) -> AsyncIterator[Marked]:
    async with open_world(tmp_path / "test.db") as world:
        room = Marked(world)
        await room.set_up()
        yield room


async def test_ordinary_messages_write_nothing(marked: Marked) -> None:
    assert await marked.say("hello") == []
    assert await marked.say("mine", **{"m.mentions": {"user_ids": [ALICE, "@far:away", "@none:here", 7]}}) == []


async def test_mentions_are_marked_unless_the_rules_say_the_same(marked: Marked) -> None:
    mention = {"m.mentions": {"user_ids": [BOB]}}
    assert await marked.say("Bob!", **mention) == [(BOB, 3)]
    await marked.rules.set_enabled(marked.bob, "override", ".m.rule.is_user_mention", {"enabled": False})
    assert await marked.say("Bob!", **mention) == []
    await marked.rules.set_enabled(marked.bob, "override", ".m.rule.master", {"enabled": True})
    assert await marked.say("Bob!", **mention) == []


async def test_keywords_cost_only_those_who_have_them_and_are_in_the_room(marked: Marked) -> None:
    await marked.rules.put(marked.bob, "content", "cake", {**HIGHLIGHT, "pattern": "cake"})
    assert marked.rules.inexact_users == {marked.bob.user_nid}
    assert PushRules(marked.world.db).inexact_users == {marked.bob.user_nid}
    assert await marked.say("bread") == []
    assert await marked.say("cake") == [(BOB, 3)]
    await marked.member(BOB, "leave")
    assert await marked.say("cake") == []
    await marked.member(BOB, "join", displayname="Robert")
    assert await marked.say("cake") == [(BOB, 3)]
    await marked.rules.delete(marked.bob, "content", "cake")
    assert marked.rules.inexact_users == frozenset()
    assert await marked.say("cake") == []


async def test_names_follow_the_member_event(marked: Marked) -> None:
    body = {**HIGHLIGHT, "conditions": [{"kind": "contains_display_name"}]}
    await marked.rules.put(marked.bob, "override", "name", body)
    await marked.member(BOB, "join", displayname="Robert")
    assert await marked.say("Robert, come") == [(BOB, 3)]
    await marked.member(BOB, "join", displayname="Bobby")
    assert await marked.say("Robert, come") == []
    assert await marked.say("Bobby, come") == [(BOB, 3)]


async def test_a_sender_may_be_silenced(marked: Marked) -> None:
    await marked.rules.put(marked.bob, "sender", ALICE, {"actions": []})
    assert await marked.say("hello") == [(BOB, 0)]
