"""What sliding sync tells besides rooms, over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from .client import Client
from .conftest import NewUser
from .crypto_device import CryptoDevice
from .harness import TinyServer
from .sliding import LAZY, SlidingSync, a_list, event_ids

Json = Any


async def send_to(sender: Client, receiver: Client, *numbers: int) -> None:
    for number in numbers:
        messages = {receiver.user_id: {receiver.device_id: {"number": number}}}
        await sender.request("PUT", f"/sendToDevice/org.example.x/{sender.transaction()}", {"messages": messages})


def numbers(answer: Json) -> list[int]:
    return [event["content"]["number"] for event in answer["extensions"]["to_device"]["events"]]


async def test_messages_are_kept_until_they_have_arrived(new_user: NewUser, fresh_server: TinyServer) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await send_to(alice, bob, *range(5))
    wanted: Json = {"enabled": True, "limit": 3}
    sliding = SlidingSync(bob, "encryption", lists={}, extensions={"to_device": wanted})
    assert numbers(await sliding.sync()) == [0, 1, 2]
    assert numbers(await sliding.sync()) == [0, 1, 2]  # nobody has said that they arrived
    answer = await sliding.ask()
    assert answer["extensions"]["to_device"]["events"][0]["sender"] == alice.user_id
    await asyncio.to_thread(fresh_server.kill)
    await asyncio.to_thread(fresh_server.start)
    sliding.pos = None
    assert numbers(await sliding.sync()) == [0, 1, 2]
    wanted["since"] = answer["extensions"]["to_device"]["next_batch"]
    answer = await sliding.sync(30_000)  # there are more: nothing to wait for
    assert numbers(answer) == [3, 4]
    wanted["since"] = answer["extensions"]["to_device"]["next_batch"]
    assert numbers(await sliding.sync()) == []
    waiting = asyncio.ensure_future(sliding.sync(30_000))
    await send_to(alice, bob, 5)
    assert numbers(await waiting) == [5]
    wanted["since"] = "999999999"  # of another time
    assert numbers(await sliding.sync()) == [5]
    # Another connection of the device, or /sync, does not take them away without having said that it has them.
    assert len((await bob.sync())["to_device"]["events"]) == 1


async def test_devices_and_keys(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    sliding = SlidingSync(bob, "encryption", lists={}, extensions={"e2ee": {"enabled": True}})
    first = (await sliding.sync())["extensions"]["e2ee"]
    assert first == {"device_one_time_keys_count": {"signed_curve25519": 0}, "device_unused_fallback_key_types": []}
    waiting = asyncio.ensure_future(sliding.sync(30_000))
    await CryptoDevice(alice).start()
    assert (await waiting)["extensions"]["e2ee"]["device_lists"] == {"changed": [alice.user_id], "left": []}
    assert "device_lists" not in (await sliding.sync())["extensions"]["e2ee"]
    await alice.leave(room)
    assert (await sliding.sync())["extensions"]["e2ee"]["device_lists"] == {"changed": [], "left": [alice.user_id]}
    keys = CryptoDevice(bob)
    await keys.start(1)
    await keys.upload(fallback_keys=keys.fallback_key(1))
    news = (await sliding.sync())["extensions"]["e2ee"]
    assert news["device_one_time_keys_count"] == {"signed_curve25519": 1}
    assert news["device_unused_fallback_key_types"] == ["signed_curve25519"]


async def test_account_data(new_user: NewUser) -> None:
    alice = await new_user("alice")
    rooms = [await alice.create_room() for _ in range(2)]
    data = f"/user/{alice.user_id}"
    await alice.request("PUT", f"{data}/account_data/org.example.a", {"n": 1})
    for room in rooms:
        await alice.request("PUT", f"{data}/rooms/{room}/tags/u.a", {})
    wanted = {"account_data": {"enabled": True}}
    sliding = SlidingSync(alice, lists={"all": a_list(0)}, extensions=wanted)
    news = (await sliding.sync())["extensions"]["account_data"]
    assert {each["type"] for each in news["global"]} == {"org.example.a", "m.push_rules"}
    tag = {"type": "m.tag", "content": {"tags": {"u.a": {}}}}
    assert news["rooms"] == {rooms[1]: [tag]}
    assert (await sliding.sync())["extensions"]["account_data"] == {"global": [], "rooms": {}}
    waiting = asyncio.ensure_future(sliding.sync(30_000))
    await alice.request("PUT", f"{data}/account_data/org.example.a", {"n": 2})
    news = (await waiting)["extensions"]["account_data"]
    assert news == {"global": [{"type": "org.example.a", "content": {"n": 2}}], "rooms": {}}
    await alice.request("PUT", f"{data}/rooms/{rooms[1]}/account_data/org.example.b", {"n": 3})
    news = (await sliding.sync())["extensions"]["account_data"]
    assert news == {"global": [], "rooms": {rooms[1]: [{"type": "org.example.b", "content": {"n": 3}}]}}
    sliding.request["lists"] = {"all": a_list(1)}
    assert (await sliding.sync())["extensions"]["account_data"]["rooms"] == {rooms[0]: [tag]}
    # Who does not ask for a while gets all of it again.
    sliding.request["extensions"] = {}
    await alice.request("PUT", f"{data}/account_data/org.example.a", {"n": 4})
    await alice.request("PUT", f"{data}/rooms/{rooms[0]}/tags/u.b", {})
    await sliding.sync()
    sliding.request["extensions"] = wanted
    news = (await sliding.sync())["extensions"]["account_data"]
    assert {"type": "org.example.a", "content": {"n": 4}} in news["global"]
    assert news["rooms"][rooms[0]][0]["content"] == {"tags": {"u.a": {}, "u.b": {}}}


async def test_receipts(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    rooms = [await alice.create_room(bob) for _ in range(2)]
    old = await alice.send(rooms[0], "old")
    await bob.receipt(rooms[0], old)
    new = await alice.send(rooms[0], "new")
    await alice.receipt(rooms[0], new, "m.read.private")
    sliding = SlidingSync(alice, lists={"all": a_list(0, 1)}, extensions={"receipts": {"enabled": True}})
    answer = await sliding.sync()
    content = answer["extensions"]["receipts"]["rooms"][rooms[0]]["content"]
    assert set(content) == {new}
    assert list(content[new]["m.read.private"]) == [alice.user_id]
    waiting = asyncio.ensure_future(sliding.sync(30_000))
    await bob.receipt(rooms[0], new)
    event = (await waiting)["extensions"]["receipts"]["rooms"][rooms[0]]
    assert event["type"] == "m.receipt"
    assert list(event["content"][new]["m.read"]) == [bob.user_id]
    assert (await sliding.sync())["extensions"]["receipts"] == {"rooms": {}}
    # A receipt in a room that is not looked at comes when the room does.
    elsewhere = await alice.send(rooms[1], "top")
    await sliding.sync()
    await alice.send(rooms[0], "top again")
    await sliding.sync()
    await bob.receipt(rooms[1], elsewhere)
    assert (await sliding.sync())["extensions"]["receipts"] == {"rooms": {}}
    sliding.request["lists"] = {"all": a_list(1, 1)}
    content = (await sliding.sync())["extensions"]["receipts"]["rooms"][rooms[1]]["content"]
    assert list(content[elsewhere]["m.read"]) == [bob.user_id]
    # A longer timeline comes with its receipts.
    fresh = SlidingSync(alice, "fresh", lists={"all": a_list(0, 1)}, extensions={"receipts": {"enabled": True}})
    await fresh.sync()
    fresh.request["room_subscriptions"] = {rooms[0]: {"timeline_limit": 10, "required_state": LAZY}}
    answer = await fresh.sync()
    assert new in event_ids(answer["rooms"][rooms[0]]["timeline"])
    assert bob.user_id in answer["extensions"]["receipts"]["rooms"][rooms[0]]["content"][new]["m.read"]


async def test_typing(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    rooms = [await alice.create_room(bob) for _ in range(2)]
    wanted: Json = {"typing": {"enabled": True, "lists": [], "rooms": ["*"]}}
    sliding = SlidingSync(alice, extensions=wanted)
    sliding.request["room_subscriptions"] = {rooms[0]: {"timeline_limit": 1, "required_state": []}}
    await sliding.sync()
    waiting = asyncio.ensure_future(sliding.sync(30_000))
    await bob.typing(rooms[1])
    await bob.typing(rooms[0])
    expected = {"type": "m.typing", "content": {"user_ids": [bob.user_id]}}
    assert (await waiting)["extensions"]["typing"]["rooms"] == {rooms[0]: expected}
    await bob.typing(rooms[0], False)
    news = (await sliding.sync())["extensions"]["typing"]["rooms"]
    assert news[rooms[0]]["content"] == {"user_ids": []}
    other = SlidingSync(alice, "other", lists={"all": a_list()}, extensions={"typing": {"enabled": True}})
    assert (await other.sync())["extensions"]["typing"]["rooms"] == {rooms[1]: expected}


async def test_scopes_and_what_is_not_asked_for(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    await alice.request("PUT", f"/user/{alice.user_id}/rooms/{room}/tags/u.a", {})
    extensions: Json = {
        "account_data": {"enabled": True, "lists": ["other"]},
        "org.example": {"enabled": True},
        "e2ee": {},
    }
    sliding = SlidingSync(alice, extensions=extensions)
    answer = await sliding.sync()
    assert set(answer["extensions"]) == {"account_data"}
    assert answer["extensions"]["account_data"]["rooms"] == {}
    extensions["account_data"]["lists"] = ["all"]
    assert list((await sliding.sync())["extensions"]["account_data"]["rooms"]) == [room]
