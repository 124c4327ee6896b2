"""Typing and receipts between servers, both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tinyserver.accounts.requester import Requester
from tinyserver.federation import presence_exchange
from tinyserver.storage import receipts
from tinyserver.storage.receipts import ReceiptKind

from .house import ALICE, House, open_house
from .receiver import Receiver, receiver
from .world import World


@pytest_asyncio.fixture
async def house(world: World) -> AsyncIterator[House]:
    async with open_house(world) as made:
        yield made


def alice(house: House) -> Requester:
    return Requester(
        user_id=ALICE,
        user_nid=house.rooms.nid(ALICE),
        device_id=None,
        device_nid=None,
        is_guest=False,
        is_admin=False,
        token_nid=None,
    )


async def test_others_are_told_who_types(house: House) -> None:
    there, stranger = await receiver(house.world, "a"), await receiver(house.world, "b")
    room, elsewhere = await house.public_room(), await house.public_room("12")
    await house.join(there.peer, room)
    await house.join(stranger.peer, elsewhere)
    room_id = house.room_id(room)
    house.typing.send(alice(house), room_id, ALICE, True, 30_000)
    await there.until(lambda: there.edus)
    house.typing.send(alice(house), room_id, ALICE, False, None)
    await there.until(lambda: len(there.edus) == 2)
    assert there.edus == [
        {"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": ALICE, "typing": typing}}
        for typing in (True, False)
    ]
    await house.rooms.send(elsewhere, ALICE, "m.room.message", {"body": "hello"})
    await stranger.until(lambda: stranger.bodies)
    assert stranger.edus == []


async def test_others_are_told_what_was_read_also_in_threads(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)
    first = (await house.rooms.send(room, ALICE, "m.room.message", {"body": "one"})).event_id
    await there.until(lambda: there.bodies)
    room_id = house.room_id(room)
    there.hold.clear()
    second = (await house.rooms.send(room, ALICE, "m.room.message", {"body": "two"})).event_id
    await there.until(lambda: len(there.tried) == 2)
    await house.receipts.send(alice(house), room_id, "m.read.private", second)
    await house.receipts.send(alice(house), room_id, "m.read", first)
    await house.receipts.send(alice(house), room_id, "m.read", second)
    await house.receipts.send(alice(house), room_id, "m.read", first, "main")
    there.hold.set()
    await there.until(lambda: len(there.edus) == 2)
    unthreaded, threaded = (edu["content"][room_id]["m.read"][ALICE] for edu in there.edus)
    assert unthreaded["event_ids"] == [second]
    assert set(unthreaded["data"]) == {"ts"}
    assert (threaded["event_ids"], threaded["data"]["thread_id"]) == ([first], "main")


async def test_typing_of_others(house: House) -> None:
    there, other = await receiver(house.world, "a"), await receiver(house.world, "b")
    room = await house.public_room()
    await house.join(there.peer, room)
    bob = f"@bob:{there.peer.name}"

    def typing(user: Any = bob, is_typing: Any = True, room_id: Any = None) -> dict[str, Any]:
        content = {"room_id": room_id or house.room_id(room), "user_id": user, "typing": is_typing}
        return {"edu_type": "m.typing", "content": content}

    bad = [typing(ALICE), typing(f"@eve:{there.peer.name}"), typing(7), typing(bob, "yes"), typing(room_id="!x:y")]
    assert (await house.put(there.peer, "1", [], bad)).status_code == 200
    await house.put(other.peer, "1", [], [typing()])
    assert list(house.typing.users_in(room)) == []
    await house.put(there.peer, "2", [], [typing()])
    assert list(house.typing.users_in(room)) == [bob]
    await house.put(there.peer, "3", [], [typing(is_typing=False)])
    assert list(house.typing.users_in(room)) == []
    acl = {"allow": ["*"], "deny": ["127.0.0.1"]}
    await house.rooms.send(room, ALICE, "m.room.server_acl", acl, state_key="")
    await house.put(there.peer, "4", [], [typing()])
    assert list(house.typing.users_in(room)) == []


async def test_receipts_of_others(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)
    one, two = [
        (await house.rooms.send(room, ALICE, "m.room.message", {"body": body})).event_id for body in ("one", "two")
    ]
    bob = f"@bob:{there.peer.name}"

    def edu(event_ids: Any, data: Any, user: str = bob) -> dict[str, Any]:
        content = {house.room_id(room): {"m.read": {user: {"event_ids": event_ids, "data": data}}}, "!no:where": {}}
        return {"edu_type": "m.receipt", "content": content}

    def read(thread: str = "") -> int | None:
        nid = house.rooms.nid(bob)
        return house.db.glance(lambda tx: receipts.place_of(tx, room, nid, ReceiptKind.READ, thread))

    bad = [
        edu([one], {}), edu([one], {"ts": 2**70}), edu([7], {"ts": 1}), edu("x", {"ts": 1}), edu([one], 7),
        edu([one], {"ts": 1}, ALICE), edu(["$no"], {"ts": 1}), edu([one], {"ts": 1, "thread_id": 7}),
        edu([one], {"ts": 1, "thread_id": "$no"}),
        {"edu_type": "m.receipt", "content": {house.room_id(room): {"m.read": {bob: 7}}}},
        {"edu_type": "m.receipt", "content": {house.room_id(room): 7}},
    ]  # fmt: skip
    assert (await house.put(there.peer, "1", [], bad)).status_code == 200
    assert read() is None
    await house.put(there.peer, "2", [], [edu([two], {"ts": 5}), edu([one], {"ts": 6, "thread_id": "main"})])
    newest, in_main = read(), read("main")
    assert newest is not None
    assert in_main is not None
    assert newest > in_main
    await house.put(there.peer, "3", [], [edu([one], {"ts": 9})])
    assert read() == newest
    acl = {"allow": ["*"], "deny": ["127.0.0.1"]}
    await house.rooms.send(room, ALICE, "m.room.server_acl", acl, state_key="")
    three = (await house.rooms.send(room, ALICE, "m.room.message", {"body": "three"})).event_id
    await house.put(there.peer, "4", [], [edu([three], {"ts": 10})])
    assert read() == newest
    await house.rooms.send(room, ALICE, "m.room.server_acl", {"allow": ["*"]}, state_key="")
    await house.put(there.peer, "5", [], [edu([three], {"ts": 10})])
    assert (read() or 0) > newest


async def leave(house: House, there: Receiver, room: int) -> None:
    """Bob leaves."""
    base, bob = house.rooms.snapshot(room), f"@bob:{there.peer.name}"
    left = {"membership": "leave"}
    pdu = house.rooms.remote_event(there.peer.name, base, bob, "m.room.member", left, state_key=bob)
    await house.rooms.receive(there.peer.name, pdu)


async def test_others_are_told_who_is_there(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_exchange, "FIRST_DELAY", 0.01)
    there, stranger = await receiver(house.world, "a"), await receiver(house.world, "b")
    room = await house.public_room()
    await house.join(there.peer, room)
    await house.join(stranger.peer, room)
    await leave(house, stranger, room)
    house.presence.put(alice(house), ALICE, "online", "tea")
    house.presence.put(alice(house), ALICE, "unavailable", "more tea")
    await there.until(lambda: there.edus)
    shown = {"user_id": ALICE, "presence": "unavailable", "status_msg": "more tea", "last_active_ago": 0}
    assert there.edus == [{"edu_type": "m.presence", "content": {"push": [shown]}}]
    assert stranger.edus == []


async def test_presence_of_others(house: House) -> None:
    there, other = await receiver(house.world, "a"), await receiver(house.world, "b")
    room = await house.public_room()
    await house.join(there.peer, room)
    bob = f"@bob:{there.peer.name}"
    nid = house.rooms.nid(ALICE)

    def edu(**changes: Any) -> dict[str, Any]:
        user = {"user_id": bob, "presence": "online", "last_active_ago": 5000, "currently_active": True, **changes}
        return {"edu_type": "m.presence", "content": {"push": [user]}}

    bad = [
        edu(user_id=ALICE), edu(user_id=7), edu(user_id=f"@eve:{there.peer.name}"), edu(presence="busy"),
        {"edu_type": "m.presence", "content": {"push": 7}}, {"edu_type": "m.presence", "content": {"push": [7]}},
    ]  # fmt: skip
    assert (await house.put(there.peer, "1", [], bad)).status_code == 200
    await house.put(other.peer, "1", [], [edu()])
    assert list(house.presence.changed_since(nid, 0)) == []
    await house.put(there.peer, "2", [], [edu(status_msg="coffee")])
    (shown,) = house.presence.changed_since(nid, 0)
    content = {"presence": "online", "last_active_ago": 5000, "currently_active": True, "status_msg": "coffee"}
    assert shown == {"type": "m.presence", "sender": bob, "content": content}
    moment = house.bell.moment
    await house.put(there.peer, "3", [], [edu(status_msg="coffee", last_active_ago=1)])
    assert list(house.presence.changed_since(nid, moment)) == []
    await house.put(there.peer, "4", [], [edu(presence="offline", last_active_ago=None)])
    (gone,) = house.presence.changed_since(nid, moment)
    assert gone["content"]["presence"] == "offline"
    await house.put(there.peer, "5", [], [edu()])
    await leave(house, there, room)
    assert list(house.presence.changed_since(nid, 0)) == []
