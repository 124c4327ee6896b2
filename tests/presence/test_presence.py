"""Presence on a turned clock: what happens by itself, who is told, and what that costs."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.rooms.world import World, open_world
from tinyserver.accounts.requester import Requester
from tinyserver.bell import Bell
from tinyserver.presence import presence as presence_module
from tinyserver.presence.presence import Presence
from tinyserver.presence.state import ACTIVE_FOR, IDLE_AFTER, LINGER, UserPresence
from tinyserver.storage import accounts, names

ALICE, BOB, CAROL = "@alice:here", "@bob:here", "@carol:here"


class Scene:
    """Alice and Bob share a room, Carol is alone. `woken` are the users for whom the bell rang."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = 1000.0
        self.bell = Bell(world.db.position, "tag")
        world.db.on_commit = self.bell.ring
        self.woken: list[set[int]] = []
        self.bell.subscribe_moments(lambda room, users: self.woken.append(set(users)))
        self.presence = Presence(world.db, self.bell, clock=lambda: self.now)

    async def set_up(self) -> None:
        await self.world.db.write(lambda tx: [accounts.add(tx, user, None, 1) for user in (ALICE, BOB, CAROL)])
        self.alice, self.bob, self.carol = (self.world.nid(user) for user in (ALICE, BOB, CAROL))
        self.room = await self.world.create_room(ALICE)
        await self.world.send(self.room, ALICE, "m.room.join_rules", {"join_rule": "public"}, state_key="")
        await self.join(BOB)

    async def join(self, user: str) -> None:
        await self.world.send(self.room, user, "m.room.member", {"membership": "join"}, state_key=user)

    def pass_by(self, seconds: float) -> None:
        """Time passes, and what was due happens."""
        self.now += seconds
        self.presence.close()  # the timer of the real clock
        self.presence._on_time()

    def seen(self, reader: int, moment: int = 0) -> dict[str, str]:
        return {event["sender"]: event["content"]["presence"] for event in self.presence.changed_since(reader, moment)}

    def of_bob(self) -> Any:
        return self.presence.get(Requester(ALICE, self.alice), BOB)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_world(tmp_path / "test.db") as world:
        scene = Scene(world)
        await scene.set_up()
        yield scene
        scene.presence.close()


async def test_who_does_nothing_becomes_idle_and_who_does_something_is_back(scene: Scene) -> None:
    scene.presence.synced(scene.bob, 1, "online", 3600)
    assert scene.of_bob() == {"presence": "online", "currently_active": True, "last_active_ago": 0}
    scene.pass_by(ACTIVE_FOR + 1)
    scene.presence.synced(scene.bob, 1, "online", 300)
    assert scene.of_bob() == {"presence": "online", "currently_active": False, "last_active_ago": 61_000}
    scene.pass_by(IDLE_AFTER - ACTIVE_FOR)
    scene.presence.synced(scene.bob, 1, "online", 300)
    assert scene.of_bob()["presence"] == "unavailable"
    await scene.world.send(scene.room, BOB, "m.room.message", {"body": "hi"}, device=1, txn_id="t")
    assert scene.of_bob() == {"presence": "online", "currently_active": True, "last_active_ago": 0}


async def test_who_does_not_sync_again_goes_offline(scene: Scene) -> None:
    scene.presence.synced(scene.bob, 1, "online", 30)
    scene.presence.synced(scene.bob, 2, "unavailable", 200)
    scene.pass_by(29 + LINGER)
    assert scene.of_bob()["presence"] == "online"
    scene.pass_by(2)
    assert scene.of_bob()["presence"] == "unavailable"
    scene.pass_by(200)
    assert scene.of_bob()["presence"] == "offline"
    assert scene.seen(scene.alice) == {}
    assert scene.seen(scene.alice, 1) == {BOB: "offline"}


async def test_only_those_who_share_a_room_see_and_are_woken(scene: Scene) -> None:
    for user in (scene.alice, scene.bob, scene.carol):
        scene.presence.synced(user, 1, "online", 30)
    scene.pass_by(2)
    assert scene.seen(scene.alice) == {ALICE: "online", BOB: "online"}
    assert scene.seen(scene.carol) == {CAROL: "online"}
    scene.woken.clear()
    moment = scene.bell.moment
    scene.presence.put(Requester(BOB, scene.bob, device_nid=1), BOB, "unavailable", None)
    scene.pass_by(2)
    assert scene.woken == [{scene.alice, scene.bob}]
    assert scene.seen(scene.alice, moment) == {BOB: "unavailable"}
    assert scene.seen(scene.carol, moment) == {}
    assert scene.seen(scene.alice, scene.bell.moment) == {}


async def test_who_joins_sees_those_who_are_there(scene: Scene) -> None:
    for user in (scene.alice, scene.carol):
        scene.presence.synced(user, 1, "online", 30)
    moment = scene.bell.moment
    await scene.join(CAROL)
    assert scene.seen(scene.carol, moment) == {ALICE: "online", CAROL: "online"}
    assert scene.seen(scene.alice, moment)[CAROL] == "online"
    assert scene.seen(scene.carol, scene.bell.moment) == {}


async def test_changes_of_a_while_wake_once(scene: Scene) -> None:
    scene.presence.synced(scene.alice, 1, "online", 300)
    scene.presence.synced(scene.bob, 1, "online", 300)
    scene.pass_by(2)
    scene.woken.clear()
    for number in range(100):
        status = Requester(BOB, scene.bob, device_nid=1), BOB, "online", f"status {number}"
        scene.presence.put(*status)
        scene.pass_by(0.05)
    assert 1 <= len(scene.woken) <= 6
    scene.pass_by(2)
    assert scene.of_bob()["status_msg"] == "status 99"


async def test_being_active_all_the_time_is_no_news(scene: Scene) -> None:
    scene.presence.synced(scene.bob, 1, "online", 300)
    moment = scene.bell.moment
    for _ in range(1000):
        scene.now += 0.01
        scene.presence.active(scene.bob)
        scene.presence.synced(scene.bob, 1, "online", 300)
    assert scene.bell.moment == moment


async def test_there_is_one_timer_and_none_when_nobody_is_there(scene: Scene) -> None:
    loop = asyncio.get_running_loop()
    scheduled: list[Any] = loop._scheduled  # type: ignore[attr-defined]

    def armed() -> int:
        return sum(not timer.cancelled() for timer in scheduled)

    before = armed()
    for user in (scene.alice, scene.bob, scene.carol):
        for device in range(3):
            scene.presence.synced(user, device, "online", 30)
    assert armed() == before + 1
    for _ in range(3):
        scene.pass_by(1000)
    assert armed() == before
    assert scene.seen(scene.alice) == {}


async def test_memory_is_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_module, "MAX_USERS", 3)
    users = await scene.world.db.write(lambda tx: [names.intern(tx, f"@u{number}:here") for number in range(10)])
    for user in users:
        scene.presence.synced(user, 1, "online", 30)
    scene.pass_by(2)
    assert len(scene.presence._users) == 3
    assert scene.seen(users[-1]) == {"@u9:here": "online"}


@pytest.mark.parametrize(
    ("chosen", "says"), list(itertools.product([None, "unavailable", "offline"], ["online", "unavailable"]))
)
def test_what_is_chosen_against_what_devices_say(chosen: str | None, says: str) -> None:
    user = UserPresence(BOB, devices={1: (says, 100.0)}, chosen=chosen, last_active=0.0)
    wanted = "offline" if chosen == "offline" else "unavailable" if chosen or says == "unavailable" else "online"
    assert user.at(50.0).presence == wanted
    assert user.at(100.0).presence == "offline"
