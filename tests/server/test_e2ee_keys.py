"""Device keys, one-time keys and fallback keys over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .client import Client
from .crypto_device import CryptoDevice, claim, query


async def key_state(client: Client) -> tuple[dict[str, int], list[str]]:
    answer = await client.sync()
    return answer["device_one_time_keys_count"], answer["device_unused_fallback_key_types"]


async def test_upload_and_query(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    device = CryptoDevice(alice)
    keys = device.device_keys()
    counts = await device.upload(device_keys=keys, one_time_keys=device.one_time_keys(0, 3))
    assert counts == {"signed_curve25519": 3}
    async with await alice.another_device(initial_device_display_name="Phone") as phone:
        phone_keys = await CryptoDevice(phone).start()
        answer = await query(bob, alice, bob, "@nobody:tiny.test")
        assert answer["failures"] == {}
        shown = answer["device_keys"][alice.user_id]
        assert shown.keys() == {alice.device_id, phone.device_id}
        assert {name: shown[alice.device_id][name] for name in keys} == keys
        assert shown[phone.device_id] == {**phone_keys, "unsigned": {"device_display_name": "Phone"}}
        assert answer["device_keys"][bob.user_id] == {}
        assert "@nobody:tiny.test" not in answer["device_keys"]
        one = {"device_keys": {alice.user_id: [phone.device_id, "NONE"]}}
        assert (await bob.request("POST", "/keys/query", one))["device_keys"][alice.user_id].keys() == {phone.device_id}


async def test_servers_that_are_not_there_are_reported(new_user: Any) -> None:
    alice = await new_user("alice")
    answer = await alice.request("POST", "/keys/query", {"device_keys": {"@x:far.test": []}, "timeout": 50})
    assert answer["failures"].keys() == {"far.test"}
    body = {"one_time_keys": {"@x:far.test": {"D": "signed_curve25519"}}}
    answer = await alice.request("POST", "/keys/claim", body)
    assert answer["failures"].keys() == {"far.test"}
    assert answer["one_time_keys"] == {}
    for bad in ("nonsense", "@x", "", "!x:far.test"):
        await alice.request("POST", "/keys/query", {"device_keys": {bad: []}}, expect=400, errcode="M_INVALID_PARAM")


async def test_wrong_keys_are_refused(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    device = CryptoDevice(alice)
    good = device.device_keys()

    async def refused(errcode: str, **body: Any) -> None:
        await alice.request("POST", "/keys/upload", body, expect=400, errcode=errcode)

    await refused("M_INVALID_PARAM", device_keys={**good, "user_id": bob.user_id})
    await refused("M_INVALID_PARAM", device_keys={**good, "device_id": "OTHER"})
    await refused("M_BAD_JSON", device_keys={**good, "algorithms": "all"})
    await refused("M_BAD_JSON", device_keys={**good, "keys": {f"ed25519:{alice.device_id}": 1}})
    await refused("M_INVALID_PARAM", device_keys={**good, "keys": {**good["keys"], "ed25519:OTHER": "x"}})
    await refused("M_INVALID_SIGNATURE", device_keys={**good, "algorithms": ["m.other"]})
    await refused("M_INVALID_SIGNATURE", device_keys={**good, "signatures": {}})
    await refused("M_BAD_JSON", device_keys={**good, "more": 1.5})
    await refused("M_INVALID_PARAM", one_time_keys={"nonsense": "x"})
    await refused("M_BAD_JSON", one_time_keys={"signed_curve25519:A": "x"})
    await refused("M_BAD_JSON", one_time_keys={"signed_curve25519:A": {"signatures": {}}})
    await refused("M_INVALID_SIGNATURE", one_time_keys={"signed_curve25519:A": {"key": "x", "signatures": {}}})
    await refused("M_INVALID_PARAM", fallback_keys={**device.fallback_key(1), **device.fallback_key(2)})
    await refused("M_INVALID_PARAM", one_time_keys=device.one_time_keys(0, 1001))
    assert (await query(bob, alice))["device_keys"][alice.user_id] == {}
    assert await key_state(alice) == ({"signed_curve25519": 0}, [])


async def test_one_time_keys_come_in_the_order_of_their_uploads(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    device = CryptoDevice(alice)
    await device.start(2)
    await device.upload(one_time_keys=device.one_time_keys(2, 1))
    claimed = [await claim(bob, alice) for _ in range(4)]
    assert {found[0] for found in claimed[:2] if found} == {"signed_curve25519:K0000", "signed_curve25519:K0001"}
    assert claimed[2] == ("signed_curve25519:K0002", device.one_time_keys(2, 1)["signed_curve25519:K0002"])
    assert claimed[3] is None
    assert await claim(bob, alice, "NONE") is None
    assert await claim(bob, bob) is None


async def test_an_upload_that_is_sent_again_changes_nothing(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    device = CryptoDevice(alice)
    await device.start()
    keys = device.one_time_keys(0, 5)
    assert await device.upload(one_time_keys=keys) == {"signed_curve25519": 5}
    assert await device.upload(one_time_keys=keys) == {"signed_curve25519": 5}
    first = await claim(bob, alice)
    assert await device.upload(one_time_keys=keys) == {"signed_curve25519": 4}
    rest = [await claim(bob, alice) for _ in range(4)]
    assert len({found[0] for found in [first, *rest] if found}) == 5
    assert await claim(bob, alice) is None
    await device.upload(one_time_keys=device.one_time_keys(7, 1))
    other = {"signed_curve25519:K0007": device.sign({"key": "another"})}
    await alice.request("POST", "/keys/upload", {"one_time_keys": other}, expect=400, errcode="M_INVALID_PARAM")


async def test_no_key_is_given_out_twice_to_many_at_once(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    device = CryptoDevice(alice)
    await device.start(80)
    await device.upload(fallback_keys=device.fallback_key(1))
    claimed = await asyncio.gather(*(claim(bob, alice) for _ in range(100)))
    names = [found[0] for found in claimed if found]
    one_time = [name for name in names if name.startswith("signed_curve25519:K")]
    assert len(one_time) == len(set(one_time)) == 80
    assert names.count("signed_curve25519:F1") == 20
    assert await key_state(alice) == ({"signed_curve25519": 0}, [])


async def test_fallback_keys_stay_and_are_marked_as_used(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    device = CryptoDevice(alice)
    await device.start()
    await device.upload(**{"org.matrix.msc2732.fallback_keys": device.fallback_key(1)})
    assert await key_state(alice) == ({"signed_curve25519": 0}, ["signed_curve25519"])
    await alice.sync_on()
    assert (await claim(bob, alice)) == ("signed_curve25519:F1", device.fallback_key(1)["signed_curve25519:F1"])
    # The device that waits is told at once.
    answer = await alice.sync_on(timeout=10_000)
    assert answer["device_unused_fallback_key_types"] == []
    assert (await claim(bob, alice)) == ("signed_curve25519:F1", device.fallback_key(1)["signed_curve25519:F1"])
    await device.upload(fallback_keys=device.fallback_key(1))
    assert await key_state(alice) == ({"signed_curve25519": 0}, []), "the same key again is still a used one"
    await device.upload(fallback_keys=device.fallback_key(2))
    assert await key_state(alice) == ({"signed_curve25519": 0}, ["signed_curve25519"])
    assert (await claim(bob, alice)) == ("signed_curve25519:F2", device.fallback_key(2)["signed_curve25519:F2"])


async def test_counts_stand_in_every_answer(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    device = CryptoDevice(alice)
    await device.start(7)
    await alice.sync_on()
    # Nothing happens, yet the counts are right: a client that read 0 would upload new keys.
    assert (await alice.sync_on(timeout=50))["device_one_time_keys_count"] == {"signed_curve25519": 7}
    await claim(bob, alice)
    assert (await alice.sync_on(timeout=50))["device_one_time_keys_count"] == {"signed_curve25519": 6}
    await alice.create_room()
    assert (await alice.sync_on(timeout=50))["device_one_time_keys_count"] == {"signed_curve25519": 6}


async def test_new_identity_keys_take_the_old_one_time_keys_with_them(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await CryptoDevice(alice).start(5)
    reborn = CryptoDevice(alice)
    keys = await reborn.start(1)
    answer = await query(bob, alice)
    assert answer["device_keys"][alice.user_id][alice.device_id]["keys"] == keys["keys"]
    assert await claim(bob, alice) == ("signed_curve25519:K0000", reborn.one_time_keys(0, 1)["signed_curve25519:K0000"])
    assert await claim(bob, alice) is None


async def test_keys_go_with_their_device(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    async with await alice.another_device() as other:
        await CryptoDevice(other).start(3)
        assert other.device_id in (await query(bob, alice))["device_keys"][alice.user_id]
        await other.request("POST", "/logout", {})
        assert (await query(bob, alice))["device_keys"][alice.user_id] == {}
        assert await claim(bob, alice, other.device_id) is None
    # A device that comes back under the same name begins with nothing.
    async with await alice.another_device(device_id=other.device_id) as again:
        assert await key_state(again) == ({"signed_curve25519": 0}, [])


async def test_keys_survive_a_crash(new_user: Any, fresh_server: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    device = CryptoDevice(alice)
    keys = await device.start(3)
    await device.upload(fallback_keys=device.fallback_key(1))
    first = await claim(bob, alice)
    await asyncio.to_thread(fresh_server.kill)
    await asyncio.to_thread(fresh_server.start)
    assert (await query(bob, alice))["device_keys"][alice.user_id][alice.device_id]["keys"] == keys["keys"]
    assert await key_state(alice) == ({"signed_curve25519": 2}, ["signed_curve25519"])
    rest = [await claim(bob, alice) for _ in range(2)]
    assert len({found[0] for found in [first, *rest] if found}) == 3


@pytest.mark.parametrize("path", ["/keys/upload", "/keys/query", "/keys/claim"])
async def test_what_is_no_keys_is_refused(new_user: Any, path: str) -> None:
    alice = await new_user("alice")
    for body in (
        {"device_keys": [], "one_time_keys": []},
        {"device_keys": {"@a:b": "x"}, "one_time_keys": {"@a:b": "x"}},
        {"device_keys": 1, "one_time_keys": "x"},
    ):
        await alice.request("POST", path, body, expect=400)
