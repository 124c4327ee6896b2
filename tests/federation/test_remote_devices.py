"""Devices of users of other servers: known at once where they are followed, right again after every gap."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import orjson
import pytest_asyncio

from tinyserver.accounts.requester import Requester
from tinyserver.storage import device_lists, names, remote_devices
from tinyserver.storage.remote_devices import KeptList

from .house import ALICE, House, open_house
from .network import Reply, Seen, json_reply
from .peers.eventually import eventually
from .world import Peer, World

ALGORITHM = "signed_curve25519"


class Owner:
    """A peer whose users have devices: `devices` by user and device ID, with the numbers of their keys. `asked` are
    the questions that came. While `answer` is set, it answers that; while `hold` is cleared, nothing."""

    peer: Peer

    def __init__(self) -> None:
        self.devices: dict[str, dict[str, int]] = {}
        self.streams: dict[str, int] = {}
        self.asked: list[tuple[str, list[str]]] = []
        self.answer: Reply | None = None
        self.claimed = 0
        self.hold = asyncio.Event()
        self.hold.set()

    async def handle(self, seen: Seen) -> Reply:
        what, _, rest = seen.target.removeprefix("/_matrix/federation/v1/user/").partition("/")
        content = json.loads(seen.body or b"{}")
        users = [unquote(rest)] if what == "devices" else list(content.get("device_keys", {}))
        self.asked.append((what if what == "devices" else rest, users))
        await self.hold.wait()
        if self.answer is not None:
            return self.answer
        if what == "devices":
            return self._list(users[0])
        if rest == "claim":
            self.claimed += 1
            found = {
                user: {device: {f"{ALGORITHM}:K{self.claimed}": {"key": "k", "signatures": {}}} for device in devices}
                for user, devices in content["one_time_keys"].items()
            }
            return json_reply({"one_time_keys": {**found, "@eve:other.test": {"D": {f"{ALGORITHM}:K": "k"}}}})
        keys = {
            user: {device: {**self.keys(user, device), "unsigned": {"device_display_name": device.lower()}}
                   for device in self.devices.get(user, {})}
            for user in users
        }  # fmt: skip
        return json_reply({"device_keys": {**keys, ALICE: {"FAKE": {"user_id": ALICE, "device_id": "FAKE"}}}})

    def _list(self, user: str) -> Reply:
        if user not in self.devices:
            return json_reply({"errcode": "M_NOT_FOUND", "error": "No such user"}, 404)
        devices = [
            {"device_id": device, "keys": self.keys(user, device), "device_display_name": device.lower()}
            for device in self.devices[user]
        ]
        return json_reply({"user_id": user, "stream_id": self.streams.get(user, 0), "devices": devices})

    def keys(self, user: str, device: str) -> dict[str, Any]:
        return {"user_id": user, "device_id": device, "keys": {f"ed25519:{device}": str(self.devices[user][device])}}

    def change(self, user: str, device: str, number: int | None, *, lost: bool = False) -> dict[str, Any]:
        """A device changes (None: it goes); the EDU that says so."""
        devices = self.devices.setdefault(user, {})
        if number is None:
            del devices[device]
        else:
            devices[device] = number
        before = self.streams.get(user)
        self.streams[user] = (before or 100) + 1
        content: dict[str, Any] = {"user_id": user, "device_id": device, "stream_id": self.streams[user]}
        content |= {"prev_id": [] if before is None else [before]}
        content |= {"deleted": True} if number is None else {"keys": self.keys(user, device)}
        content["device_display_name"] = device.lower()
        return {"edu_type": "m.device_list_update", "content": content}


async def owner(world: World, key_name: str = "k1") -> Owner:
    made = Owner()
    made.peer = await world.peer(key_name, handler=made.handle)
    return made


@pytest_asyncio.fixture
async def house(world: World) -> AsyncIterator[House]:
    async with open_house(world) as made:
        yield made


async def query(house: House, reader: Requester, *users: str, timeout: float = 10.0) -> tuple[Any, Any]:
    """The numbers of the keys of users' devices, and the failures."""
    found = await house.keys.query(reader, {user: [] for user in users}, timeout)
    keys = orjson.loads(orjson.dumps(found.device_keys))
    numbers = {
        user: {device: int(each["keys"][f"ed25519:{device}"]) for device, each in devices.items()}
        for user, devices in keys.items()
    }
    return numbers, found.failures


def changed_at(house: House, user: str) -> int:
    nid = house.db.glance(lambda tx: names.find(tx, user))
    return 0 if nid is None else house.db.glance(lambda tx: device_lists.last_change(tx, nid))


def kept(house: House, user: str) -> KeptList | None:
    nid = house.rooms.nid(user)
    return house.db.glance(lambda tx: remote_devices.get(tx, nid))


async def until_good(house: House, user: str) -> KeptList:
    async def condition() -> KeptList | None:
        found = kept(house, user)
        return None if found is None or found.is_stale else found

    found = await eventually(condition)
    assert found is not None
    return found


async def tell(house: House, there: Owner, *edus: Any) -> None:
    tell.count += 1  # type: ignore[attr-defined]
    answer = await house.put(there.peer, f"t{tell.count}", [], list(edus))  # type: ignore[attr-defined]
    assert answer.status_code == 200


tell.count = 0  # type: ignore[attr-defined]


async def test_what_is_followed_is_asked_once(house: House) -> None:
    there = await owner(house.world)
    bob, ben = f"@bob:{there.peer.name}", f"@ben:{there.peer.name}"
    alice = await house.device()
    room = await house.public_room()
    await house.join(there.peer, room)
    there.change(bob, "PHONE", 1)
    there.change(ben, "LAPTOP", 2)
    found = await house.keys.query(alice, {bob: [], ben: ["OTHER"]}, 10.0)
    keys = orjson.loads(orjson.dumps(found.device_keys))
    assert keys[bob]["PHONE"]["unsigned"] == {"device_display_name": "phone"}
    assert (keys[ben], found.failures) == ({}, {})
    assert await query(house, alice, bob) == ({bob: {"PHONE": 1}}, {})
    assert [set(users) for _, users in there.asked] == [{bob, ben}]
    # Nobody tells of those with whom no room is shared.
    await query(house, alice, ben)
    assert len(there.asked) == 2
    assert kept(house, bob) is not None


async def test_changes_are_applied_and_gaps_are_closed(house: House) -> None:
    there = await owner(house.world)
    bob = f"@bob:{there.peer.name}"
    alice = await house.device()
    await house.join(there.peer, await house.public_room())
    there.change(bob, "PHONE", 1)
    await query(house, alice, bob)
    await tell(house, there, there.change(bob, "PHONE", 2))
    assert (await until_good(house, bob)).stream == there.streams[bob]
    asked = len(there.asked)
    first = changed_at(house, bob)
    new, gone = there.change(bob, "LAPTOP", 3), there.change(bob, "PHONE", None)
    await tell(house, there, new, gone)
    assert changed_at(house, bob) > first
    assert await query(house, alice, bob) == ({bob: {"LAPTOP": 3}}, {})
    before = changed_at(house, bob)
    await tell(house, there, gone)
    assert (changed_at(house, bob), len(there.asked)) == (before, asked)
    there.change(bob, "TABLET", 4)
    await tell(house, there, there.change(bob, "LAPTOP", 5))
    await until_good(house, bob)
    assert there.asked[asked:] == [("devices", [bob])]
    assert await query(house, alice, bob) == ({bob: {"LAPTOP": 5, "TABLET": 4}}, {})
    assert len(there.asked) == asked + 1


async def test_a_gap_is_closed_when_the_server_is_back_also_after_a_restart(house: House) -> None:
    there = await owner(house.world)
    bob = f"@bob:{there.peer.name}"
    alice = await house.device()
    await house.join(there.peer, await house.public_room())
    there.change(bob, "PHONE", 1)
    await query(house, alice, bob)
    there.answer = json_reply({}, 503)
    there.change(bob, "PHONE", 2)
    await tell(house, there, there.change(bob, "LAPTOP", 3))
    numbers, failures = await query(house, alice, bob)
    assert numbers == {bob: {"PHONE": 1}}
    assert list(failures) == [there.peer.name]
    await house.remote_devices.close()
    house.world.destinations.on_return.clear()
    house.follow_devices()
    there.answer = None
    before = changed_at(house, bob)
    house.world.destinations.contacted(there.peer.name)
    await until_good(house, bob)
    assert changed_at(house, bob) > before
    assert await query(house, alice, bob) == ({bob: {"PHONE": 2, "LAPTOP": 3}}, {})


async def test_nothing_is_believed_after_the_last_shared_room(house: House) -> None:
    there = await owner(house.world)
    bob = f"@bob:{there.peer.name}"
    alice = await house.device()
    room = await house.public_room()
    await house.join(there.peer, room)
    there.change(bob, "PHONE", 1)
    await query(house, alice, bob)
    await house.rooms.send(room, ALICE, "m.room.member", {"membership": "leave"}, state_key=bob)
    unheard = there.change(bob, "PHONE", 2)
    before = changed_at(house, bob)
    await tell(house, there, unheard)
    assert changed_at(house, bob) == before
    await house.join(there.peer, room)
    assert await query(house, alice, bob) == ({bob: {"PHONE": 2}}, {})


async def test_a_silent_server_holds_nobody_up_and_is_heard_later(house: House) -> None:
    there, dead = await owner(house.world, "a"), await owner(house.world, "b")
    bob, dan = f"@bob:{there.peer.name}", f"@dan:{dead.peer.name}"
    alice = await house.device()
    room = await house.public_room()
    await house.join(there.peer, room)
    await house.join(dead.peer, room, "dan")
    there.change(bob, "PHONE", 1)
    dead.change(dan, "PHONE", 2)
    dead.hold.clear()
    several = await asyncio.gather(*(query(house, alice, bob, dan, timeout=0.3) for _ in range(5)))
    assert all(numbers == {bob: {"PHONE": 1}} and list(failures) == [dead.peer.name] for numbers, failures in several)
    assert (len(there.asked), len(dead.asked)) == (1, 1)
    before = changed_at(house, dan)
    dead.hold.set()
    await until_good(house, dan)
    assert changed_at(house, dan) > before
    assert await query(house, alice, dan) == ({dan: {"PHONE": 2}}, {})
    await dead.peer.web.stop()
    claim = {dan: {"PHONE": ALGORITHM}, bob: {"PHONE": ALGORITHM}}
    keys, failures = await house.keys.claim(claim, 5.0)
    assert keys == {bob: {"PHONE": {f"{ALGORITHM}:K1": {"key": "k", "signatures": {}}}}}
    assert list(failures) == [dead.peer.name]
    asked = len(dead.asked)
    assert list((await house.keys.claim(claim, 5.0))[1]) == [dead.peer.name]
    assert len(dead.asked) == asked


async def test_what_changes_while_it_is_asked_for_is_asked_again(house: House) -> None:
    there = await owner(house.world)
    bob = f"@bob:{there.peer.name}"
    alice = await house.device()
    await house.join(there.peer, await house.public_room())
    there.change(bob, "PHONE", 1)
    there.hold.clear()
    asking = asyncio.ensure_future(query(house, alice, bob))

    async def is_asked() -> bool:
        return bool(there.asked)

    await eventually(is_asked)
    await tell(house, there, there.change(bob, "PHONE", 2))
    there.hold.set()
    await asking
    assert (await until_good(house, bob)).stream == there.streams[bob]
    assert await query(house, alice, bob) == ({bob: {"PHONE": 2}}, {})


async def test_nonsense_changes_nothing(house: House) -> None:
    there, other = await owner(house.world, "a"), await owner(house.world, "b")
    bob = f"@bob:{there.peer.name}"
    alice = await house.device()
    room = await house.public_room()
    await house.join(there.peer, room)
    await house.join(other.peer, room)
    there.change(bob, "PHONE", 1)
    await query(house, alice, bob)
    await tell(house, there, there.change(bob, "PHONE", 2))
    await until_good(house, bob)
    good = there.change(bob, "PHONE", 3)["content"]
    del there.devices[bob]
    changes: list[dict[str, Any]] = [
        {"user_id": 7}, {"user_id": ALICE}, {"device_id": 7}, {"device_id": "x" * 2000}, {"stream_id": "7"},
        {"stream_id": -1}, {"stream_id": 2**70}, {"stream_id": True}, {"prev_id": 7},
        {"user_id": f"@x:{other.peer.name}"},
    ]  # fmt: skip
    before = changed_at(house, bob)
    await tell(house, there, *({"edu_type": "m.device_list_update", "content": {**good, **bad}} for bad in changes))
    await tell(house, other, {"edu_type": "m.device_list_update", "content": good})
    signing = [
        {"user_id": bob, "master_key": 7},
        {"user_id": bob, "master_key": {"user_id": ALICE}},
        {"user_id": 7},
        {},
    ]
    await tell(house, there, *({"edu_type": "m.signing_key_update", "content": each} for each in signing))
    assert changed_at(house, bob) == before
    assert await query(house, alice, bob) == ({bob: {"PHONE": 2}}, {})


async def test_cross_signing_keys_of_others(house: House) -> None:
    there = await owner(house.world)
    bob = f"@bob:{there.peer.name}"
    alice = await house.device()
    await house.join(there.peer, await house.public_room())
    there.change(bob, "PHONE", 1)
    await query(house, alice, bob)
    public = "nqOvzeuGWT/sRx3h7+MHoInYj3Uk2LD/unI9kDYcHwk"
    master = {"user_id": bob, "usage": ["master"], "keys": {f"ed25519:{public}": public}}
    before = changed_at(house, bob)
    await tell(house, there, {"edu_type": "m.signing_key_update", "content": {"user_id": bob, "master_key": master}})
    assert changed_at(house, bob) > before
    found = await house.keys.query(alice, {bob: []}, 10.0)
    assert found.master_keys == {bob: master}
    assert len(there.asked) == 1
