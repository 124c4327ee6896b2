"""Whatever happens in rooms: a device is told exactly of those users whose devices it must look at again, or no more.

A model keeps who was in which room and when whose keys changed. What sync and `/keys/changes` say is compared with it:
over joins, leaves, kicks, changes of names and keys, of users of this and of another server, lost answers and restarts.
The other server tells of changes as long as it shares a room, now and then that is lost, and clients ask for the keys.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tinyserver.encryption.device_lists as device_list_changes
from tests.sync.devices import Device, SyncWorld, open_sync_world
from tinyserver.accounts.requester import Requester
from tinyserver.encryption.device_keys import DeviceKeys
from tinyserver.federation.client import FederationClient
from tinyserver.federation.destinations import Destinations
from tinyserver.federation.device_updates import DeviceUpdates
from tinyserver.federation.remote_devices import RemoteDeviceLists
from tinyserver.rooms.tokens import parse_token
from tinyserver.storage import cross_signing, device_lists, names

MAKER, BOB, CAROL, THERE = "@alice:here", "@bob:here", "@carol:here", "@dave:there"
USERS = [MAKER, BOB, CAROL, THERE]
SYNCING = [MAKER, BOB, CAROL]
ROOMS = 3

actions = st.one_of(
    st.tuples(st.just("toggle"), st.sampled_from([BOB, CAROL, THERE]), st.integers(0, ROOMS - 1)),
    st.tuples(st.just("toggle"), st.sampled_from([BOB, CAROL, THERE]), st.integers(0, ROOMS - 1)),
    st.tuples(st.just("maker toggles"), st.just(MAKER), st.integers(0, ROOMS - 1)),
    st.tuples(st.just("kick"), st.sampled_from([BOB, CAROL, THERE]), st.integers(0, ROOMS - 1)),
    st.tuples(st.just("rename"), st.sampled_from([BOB, CAROL]), st.integers(0, ROOMS - 1)),
    st.tuples(st.just("message"), st.just(MAKER), st.integers(0, ROOMS - 1)),
    st.tuples(st.just("keys"), st.sampled_from(SYNCING), st.just(0)),
    st.tuples(st.just("keys there"), st.just(THERE), st.integers(0, 3)),
    st.tuples(st.just("lost keys there"), st.just(THERE), st.integers(0, 3)),
    st.tuples(st.just("told again"), st.just(THERE), st.just(0)),
    st.tuples(st.just("query"), st.sampled_from(SYNCING), st.just(0)),
    st.tuples(st.just("sync"), st.sampled_from(SYNCING), st.just(0)),
    st.tuples(st.just("lost sync"), st.sampled_from(SYNCING), st.just(0)),
    st.tuples(st.just("restart"), st.just(MAKER), st.just(0)),
)


@dataclass
class Moment:
    """The world as it was when a device got an answer: who was in each room, and how often whose keys had changed."""

    token: str
    members: list[frozenset[str]]
    keys: dict[str, int]

    def acquaintances(self, user: str) -> set[str]:
        return {other for room in self.members if user in room for other in room} - {user}


@dataclass
class Model:
    """The whole truth."""

    members: list[set[str]] = field(default_factory=lambda: [{MAKER} for _ in range(ROOMS)])
    keys: dict[str, int] = field(default_factory=lambda: dict.fromkeys(USERS, 0))
    moments: dict[str, list[Moment]] = field(default_factory=lambda: {user: [] for user in SYNCING})

    def note(self, user: str, token: str) -> Moment:
        moment = Moment(token, [frozenset(room) for room in self.members], dict(self.keys))
        self.moments[user].append(moment)
        return moment


def expected(user: str, before: Moment, after: Moment) -> tuple[set[str], set[str]]:
    """Who changed and who left between two moments, as the specification says."""
    knew, knows = before.acquaintances(user), after.acquaintances(user)
    updated = {other for other in USERS if after.keys[other] != before.keys[other]}
    return (knows - knew) | (updated & (knows | {user})), knew - knows


class There:
    """The other server: the devices of its user with the versions of their keys, and the last change it told of.
    Stands in the place of the client that would ask it."""

    def __init__(self) -> None:
        self.devices: dict[str, int] = {}
        self.stream = 0
        self.last: dict[str, Any] = {}
        self.is_something_lost = False

    def change(self, which: int) -> None:
        """A device changes, or (the last one) goes."""
        device_id = f"D{which % 2}"
        before, self.stream = self.stream, self.stream + 1
        if which == 3:
            self.devices.pop(device_id, None)
        else:
            self.devices[device_id] = self.stream
        self.last = {"user_id": THERE, "device_id": device_id, "stream_id": self.stream, "prev_id": [before]}
        self.last |= {"deleted": True} if device_id not in self.devices else {"keys": self._keys(device_id)}

    def _keys(self, device_id: str) -> dict[str, Any]:
        return {"user_id": THERE, "device_id": device_id, "version": self.devices[device_id]}

    async def get(self, server: str, path: str, **options: Any) -> dict[str, Any]:
        """`/user/devices`."""
        devices = [{"device_id": device_id, "keys": self._keys(device_id)} for device_id in self.devices]
        return {"user_id": THERE, "stream_id": self.stream, "devices": devices}

    async def post(self, server: str, path: str, content: Any, **options: Any) -> dict[str, Any]:
        """`/user/keys/query`."""
        return {"device_keys": {THERE: {device_id: self._keys(device_id) for device_id in self.devices}}}


class Script:
    """Carries out actions in a world and in the model."""

    def __init__(self, home: SyncWorld, rooms: list[int]) -> None:
        self.home = home
        self.rooms = rooms
        self.model = Model()
        self.devices: dict[str, Device] = {}
        self.there = There()
        self.follow()

    def follow(self) -> None:
        """Begin to follow devices of others, as after a start."""
        client, destinations = cast(FederationClient, self.there), Destinations(self.home.db, self.home.world.clock)
        self.lists = RemoteDeviceLists(self.home.db, client, destinations)
        self.updates = DeviceUpdates(self.home.db, self.lists)
        self.keys = DeviceKeys(self.home.db, self.lists, "here")
        self.lists.start()

    async def restart(self, tag: str) -> None:
        await self.lists.close()
        self.home = SyncWorld(self.home.world, tag)
        for device in self.devices.values():
            device.home = self.home
        self.follow()

    async def change_there(self, which: int, *, lose: bool) -> None:
        self.there.change(which)
        if not any(THERE in room and len(room) > 1 for room in self.model.members):
            return
        if lose:
            self.there.is_something_lost = True
            return
        await self.updates.take_list_update("there", self.there.last)
        await self.settle()
        self.there.is_something_lost = False
        self.model.keys[THERE] += 1

    async def tell_again(self) -> None:
        """The last change that was told comes once more."""
        if self.there.last and not self.there.is_something_lost:
            before = self.last_change()
            await self.updates.take_list_update("there", self.there.last)
            await self.settle()
            self.model.keys[THERE] += self.last_change() != before

    async def settle(self) -> None:
        """Wait until what was missed has been fetched."""
        while tasks := list(self.lists._tasks):
            await asyncio.wait(tasks)

    def last_change(self) -> int:
        return self.home.db.glance(lambda tx: device_lists.last_change(tx, names.find(tx, THERE) or 0))

    async def query(self, user: str) -> None:
        """A client is shown the devices as they are, unless their server failed to tell of a change."""
        before = self.last_change()
        requester = Requester(user, self.home.world.nid(user))
        found = await self.keys.query(requester, {THERE: []}, 10.0)
        await self.settle()
        shown = orjson.loads(orjson.dumps(found.device_keys.get(THERE, {})))
        versions = {device_id: keys["version"] for device_id, keys in shown.items()}
        assert found.failures == {}
        assert versions == self.there.devices or self.there.is_something_lost
        self.model.keys[THERE] += self.last_change() != before  # others who follow the user learn of it, too

    async def run(self, kind: str, user: str, which: int) -> None:
        members = self.model.members[which % ROOMS]
        room = self.rooms[which % ROOMS]
        if kind == "toggle":
            await self.set_membership(user, which, joined=user not in members)
        elif kind == "maker toggles":
            if MAKER in members and len(members) > 1:
                await self.set_membership(MAKER, which, joined=False)
            elif MAKER not in members:
                await self.set_membership(MAKER, which, joined=True)
        elif kind == "kick" and user in members and MAKER in members:
            await self.home.member(room, MAKER, "leave", user)
            members.discard(user)
        elif kind == "rename" and user in members:
            await self.home.member(room, user, "join", displayname=f"N{self.home.bell.position}")
        elif kind == "message" and MAKER in members:
            await self.home.message(room, MAKER, "hello")
        elif kind == "keys":
            await self.home.db.write(lambda tx: device_lists.note_news(tx, names.intern(tx, user)))
            self.model.keys[user] += 1
        elif kind in ("keys there", "lost keys there"):
            await self.change_there(which, lose=kind == "lost keys there")
        elif kind == "told again":
            await self.tell_again()
        elif kind == "query":
            await self.query(user)
        elif kind in ("sync", "lost sync"):
            await self.sync(user, lose=kind == "lost sync")

    async def set_membership(self, user: str, which: int, *, joined: bool) -> None:
        room, members = self.rooms[which], self.model.members[which]
        if not user.endswith(":there"):
            if joined and not members:
                return
            await self.home.member(room, user, "join" if joined else "leave")
        elif joined:
            await self.home.world.join_from("there", room, user)
        else:
            leave = {"membership": "leave"}
            base = self.home.world.snapshot(room)
            pdu = self.home.world.remote_event("there", base, user, "m.room.member", leave, state_key=user)
            await self.home.world.receive("there", pdu)
        (members.add if joined else members.discard)(user)

    async def sync(self, user: str, *, lose: bool) -> None:
        device = self.devices[user]
        before = device.since
        lists = (await device.sync()).get("device_lists", {})
        assert device.since is not None
        told = set(lists.get("changed", ())), set(lists.get("left", ()))
        assert len(lists.get("changed", ())) == len(told[0])
        after = self.model.note(user, device.since)
        if before is not None:
            last = next(moment for moment in reversed(self.model.moments[user]) if moment.token == before)
            assert told == expected(user, last, after)
        if lose:
            device.since = before

    async def check_key_changes(self, user: str) -> None:
        """`/keys/changes` from every moment until now says the same as the model."""
        now = self.model.note(user, "")
        until = self.home.bell.position
        for moment in self.model.moments[user][:-1]:
            since = parse_token(moment.token, "from").position
            nid = self.devices[user].reader.user
            changed, left = await self.home.device_news.list_changes(nid, since, until)
            assert (set(changed), set(left)) == expected(user, moment, now)


@pytest.mark.parametrize("few", [device_list_changes.FEW, 0], ids=["looked up", "whole rooms"])
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=st.lists(actions, max_size=40))
@example(script=[("toggle", BOB, 0), ("sync", MAKER, 0), ("toggle", BOB, 0), ("toggle", BOB, 1)])
@example(script=[("toggle", BOB, 0), ("sync", MAKER, 0), ("toggle", BOB, 1), ("keys", BOB, 0)])
@example(script=[("toggle", BOB, 0), ("sync", MAKER, 0), ("maker toggles", MAKER, 0), ("keys", BOB, 0)])
@example(script=[("toggle", THERE, 0), ("query", MAKER, 0), ("lost keys there", THERE, 0), ("keys there", THERE, 1)])
@example(
    script=[
        ("toggle", THERE, 0),
        ("query", MAKER, 0),
        ("keys there", THERE, 0),
        ("toggle", THERE, 0),
        ("keys there", THERE, 1),
        ("toggle", THERE, 1),
        ("query", MAKER, 0),
        ("keys there", THERE, 3),
    ]
)
def test_device_lists_are_exact(few: int, script: list[tuple[str, str, int]]) -> None:
    asyncio.run(play(few, script))


async def play(few: int, script: list[tuple[str, str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as directory:
        patch.setattr(device_list_changes, "FEW", few)
        async with open_sync_world(Path(directory) / "t.db") as home:
            rooms = [await home.public_room(MAKER) for _ in range(ROOMS)]
            await home.world.second_server(rooms[0])
            running = Script(home, rooms)
            for user in SYNCING:
                running.devices[user] = await home.device(user)
                await running.sync(user, lose=False)
            for number, (kind, user, which) in enumerate(script):
                if kind == "restart":
                    await running.restart(f"again{number}")
                else:
                    await running.run(kind, user, which)
            for user in SYNCING:
                await running.sync(user, lose=False)
                await running.check_key_changes(user)
                await running.query(user)
            await running.lists.close()


async def test_a_change_while_the_answer_is_made_is_told_next_time(tmp_path: Path) -> None:
    """The position of an answer is fixed before the store is read: what comes in between belongs to the next one."""
    async with open_sync_world(tmp_path / "t.db") as home:
        room = await home.public_room(MAKER)
        await home.member(room, BOB, "join")
        bob = await home.device(BOB)
        maker = home.world.nid(MAKER)
        start = home.bell.position
        await home.db.write(lambda tx: device_lists.note_news(tx, maker))
        until = home.bell.position
        await home.member(room, MAKER, "leave")

        def changes(since: int, to: int, joined: set[int]) -> Any:
            return home.db.glance(
                lambda tx: device_list_changes.changes_between(tx, bob.reader.user, since, to, joined, joined)
            )

        assert changes(start, until, {room}) == device_list_changes.ListChanges(changed=frozenset({maker}))
        await home.db.write(lambda tx: device_lists.note_news(tx, maker))
        assert changes(start, until, {room}).left == frozenset()
        assert changes(until, home.bell.position, {room}).left == {maker}
        await home.member(room, MAKER, "join")
        assert changes(until, home.bell.position, {room}).changed == {maker}


async def test_signing_somebody_tells_the_own_devices(tmp_path: Path) -> None:
    async with open_sync_world(tmp_path / "t.db") as home:
        room = await home.public_room(MAKER)
        await home.member(room, BOB, "join")
        await home.member(room, CAROL, "join")
        bob, carol = await home.device(BOB), await home.device(CAROL)
        await bob.sync()
        await carol.sync()
        maker = home.world.nid(MAKER)
        signature = cross_signing.UserSignature(maker, "key", "ed25519:x", "signature")
        await home.db.write(lambda tx: cross_signing.sign(tx, bob.reader.user, signature))
        assert (await bob.sync())["device_lists"] == {"changed": [MAKER], "left": []}
        assert "device_lists" not in await carol.sync()
