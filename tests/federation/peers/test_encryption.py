"""Encryption between users of tinyserver and of Synapse, in both directions: devices, keys, messages to devices."""

from __future__ import annotations

from typing import Any

from ...server.client import Client
from ...server.crypto_device import (
    CrossSigner,
    CryptoDevice,
    list_changes,
    query,
    send_to_device,
    to_device,
)
from .conftest import NewUser, Pair
from .eventually import eventually
from .test_rooms import joined_room


async def devices_of(reader: Client, owner: Client) -> dict[str, Any]:
    """The owner's devices with keys as the reader's server shows them."""
    answer = await query(reader, owner)
    assert answer["failures"] == {}
    found: dict[str, Any] = answer["device_keys"].get(owner.user_id, {})
    return found


async def sees(reader: Client, owner: Client, *device_ids: str, **names: str) -> dict[str, Any]:
    """Wait until the reader sees exactly these devices of the owner, with these display names."""

    async def condition() -> dict[str, Any] | None:
        found = await devices_of(reader, owner)
        shown = {device_id: each.get("unsigned", {}).get("device_display_name") for device_id, each in found.items()}
        assert set(found) == set(device_ids), shown
        assert all(shown[device_id] == name for device_id, name in names.items()), shown
        return found or {"": None}

    found = await eventually(condition, seconds=30)
    assert found is not None
    return found


def is_changed(user: Client) -> Any:
    """Of a sync answer: whether the user's devices are to be looked at again."""
    return lambda answer: user.user_id in list_changes(answer)[0]


def messages_from(sender: Client) -> Any:
    """Of a sync answer: the messages of a sender to this device."""
    return lambda answer: [event for event in to_device(answer) if event["sender"] == sender.user_id]


async def test_devices_are_seen_and_followed(pair: Pair, new_user: NewUser) -> None:
    _, alice, bob = await joined_room(pair, new_user)
    for reader, owner in ((alice, bob), (bob, alice)):
        keys = await CryptoDevice(owner).start()
        await reader.sync_until(is_changed(owner))
        seen = await sees(reader, owner, owner.device_id)
        assert {**seen[owner.device_id], "unsigned": None} == {**keys, "unsigned": None}
        await owner.request("PUT", f"/devices/{owner.device_id}", {"display_name": "Renamed"})
        await reader.sync_until(is_changed(owner))
        await sees(reader, owner, owner.device_id, **{owner.device_id: "Renamed"})
        other = await owner.another_device()
        await CryptoDevice(other).start()
        await reader.sync_until(is_changed(owner))
        await sees(reader, owner, owner.device_id, other.device_id)
        gone = other.device_id
        await other.request("POST", "/logout", {})
        await other.close()
        await reader.sync_until(is_changed(owner))
        assert gone not in await sees(reader, owner, owner.device_id)


async def test_one_time_keys_are_claimed_once(pair: Pair, new_user: NewUser) -> None:
    _, alice, bob = await joined_room(pair, new_user)
    for reader, owner in ((alice, bob), (bob, alice)):
        device = CryptoDevice(owner)
        await device.start(one_time_keys=3)
        await device.upload(fallback_keys=device.fallback_key(1))
        wanted = {"one_time_keys": {owner.user_id: {owner.device_id: "signed_curve25519"}}}
        names = []
        for _ in range(5):
            answer = await reader.request("POST", "/keys/claim", wanted)
            assert answer["failures"] == {}
            ((name, key),) = answer["one_time_keys"][owner.user_id][owner.device_id].items()
            assert owner.user_id in key["signatures"]
            names.append(name)
        assert sorted(names[:3]) == [f"signed_curve25519:K{n:04}" for n in range(3)]
        assert names[3:] == ["signed_curve25519:F1"] * 2


async def test_messages_between_devices(pair: Pair, new_user: NewUser) -> None:
    _, alice, bob = await joined_room(pair, new_user)
    for sender, receiver in ((alice, bob), (bob, alice)):
        for number in range(3):
            content = {receiver.user_id: {receiver.device_id: {"n": number}}}
            await send_to_device(sender, "m.test", content, txn=f"mine{number}")
            await send_to_device(sender, "m.test", content, txn=f"mine{number}")
        await send_to_device(sender, "m.test", {receiver.user_id: {"*": {"n": 3}}})
        got: list[Any] = []
        while len(got) < 4:
            got += await receiver.sync_until(messages_from(sender))
        assert [event["content"]["n"] for event in got] == [0, 1, 2, 3]


async def test_cross_signing_keys_are_seen(pair: Pair, new_user: NewUser) -> None:
    _, alice, bob = await joined_room(pair, new_user)
    for reader, owner in ((alice, bob), (bob, alice)):
        keys = await CryptoDevice(owner).start()
        await sees(reader, owner, owner.device_id)
        signer = CrossSigner(owner.user_id)
        body = signer.body()
        await owner.request("POST", "/keys/device_signing/upload", body)
        signed = {owner.user_id: {owner.device_id: signer.sign_device(keys)}}
        answer = await owner.request("POST", "/keys/signatures/upload", signed)
        assert answer["failures"] == {}

        async def condition(reader: Client = reader, owner: Client = owner, body: Any = body) -> bool:
            answer = await query(reader, owner)
            for usage in ("master_key", "self_signing_key"):
                shown = answer[f"{usage}s"].get(owner.user_id, {})
                assert shown.get("keys") == body[usage]["keys"], answer
            device = answer["device_keys"][owner.user_id][owner.device_id]
            assert len(device["signatures"][owner.user_id]) == 2
            return True

        await eventually(condition, seconds=30)


async def test_nothing_is_lost_while_the_other_server_is_away(pair: Pair, new_user: NewUser) -> None:
    room, alice, bob = await joined_room(pair, new_user)
    await CryptoDevice(alice).start()
    await sees(bob, alice, alice.device_id)
    pair.guest.kill()
    other = await alice.another_device()
    await CryptoDevice(other).start()
    await alice.request("PUT", f"/devices/{alice.device_id}", {"display_name": "Meanwhile"})
    for number in range(150):
        await send_to_device(alice, "m.test", {bob.user_id: {bob.device_id: {"n": number}}})
    pair.host.kill()
    pair.host.start()
    pair.guest.start()
    await bob.send(room, "I am back")  # whoever shows up is tried again at once
    got: list[Any] = []
    while len(got) < 150:
        got += await bob.sync_until(messages_from(alice), seconds=60)
    assert [event["content"]["n"] for event in got] == list(range(150))
    await sees(bob, alice, alice.device_id, other.device_id, **{alice.device_id: "Meanwhile"})
    await other.close()
