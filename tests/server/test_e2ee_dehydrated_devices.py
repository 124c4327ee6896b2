"""Dehydrated devices over HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .client import Client, Json
from .crypto_device import CrossSigner, CryptoDevice, claim, public, query, send_to_device, to_device

PATH = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
DATA = {"algorithm": "org.matrix.msc3814.v2", "device_pickle": "x", "nonce": "y"}


def sleeping(user: Client, device_id: str, keys: int = 3) -> tuple[CryptoDevice, Json]:
    device = CryptoDevice(user, device_id)
    body = {
        "device_id": device_id,
        "device_data": DATA,
        "initial_device_display_name": "Dehydrated",
        "device_keys": device.device_keys(dehydrated=True),
        "one_time_keys": device.one_time_keys(0, keys),
        "fallback_keys": device.fallback_key(1),
    }
    return device, body


async def events(user: Client, device_id: str, start: str | None = None, **expectation: Any) -> Json:
    path = f"{PATH}/{quote(device_id, safe='')}/events"
    return await user.request("GET", path, params={"from": start}, **expectation)


async def test_clients_can_tell_that_it_is_supported(new_user: Any) -> None:
    user = await new_user("alice")
    for method in ("GET", "DELETE"):
        await user.request(method, PATH, expect=404, errcode="M_NOT_FOUND")
    versions = await user.request("GET", "/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.msc3814"] is True


async def test_a_dehydrated_device_is_a_device(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await alice.create_room(bob)
    await bob.sync_on()
    keys = CrossSigner(alice.user_id)
    await alice.request("POST", "/keys/device_signing/upload", keys.body())
    _, body = sleeping(alice, "Q1X/y+z0")
    signed = keys.sign_device(body["device_keys"])["signatures"][alice.user_id]
    body["device_keys"]["signatures"][alice.user_id] |= signed
    called_like_a_key = sleeping(alice, public(keys.master))[1]
    await alice.request("PUT", PATH, called_like_a_key, expect=403, errcode="M_FORBIDDEN")
    assert await alice.request("PUT", PATH, body) == {"device_id": "Q1X/y+z0"}
    assert await alice.request("GET", PATH) == {"device_id": "Q1X/y+z0", "device_data": DATA}
    assert alice.user_id in (await bob.sync_on())["device_lists"]["changed"]
    shown = (await query(bob, alice))["device_keys"][alice.user_id]["Q1X/y+z0"]
    assert shown.pop("unsigned") == {"device_display_name": "Dehydrated"}
    assert shown == body["device_keys"]
    assert shown["dehydrated"] is True
    assert [found[0] for found in [await claim(bob, alice, "Q1X/y+z0") for _ in range(4)] if found] == [
        *(f"signed_curve25519:K000{number}" for number in range(3)),
        "signed_curve25519:F1",
    ]
    devices = (await alice.request("GET", "/devices"))["devices"]
    assert {each["device_id"] for each in devices} == {alice.device_id, "Q1X/y+z0"}
    await bob.request("GET", PATH, expect=404, errcode="M_NOT_FOUND")


async def test_messages_are_read_in_pages_and_stay(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await alice.request("PUT", PATH, sleeping(alice, "SLEEPER")[1])
    assert await events(alice, "SLEEPER") == {"events": []}
    for number in range(130):
        await send_to_device(bob, "m.test", {alice.user_id: {"*": {"n": number}}})
    for _ in range(2):
        first = await events(alice, "SLEEPER")
        second = await events(alice, "SLEEPER", first["next_batch"])
        found = [event["content"]["n"] for event in first["events"] + second["events"]]
        assert found == list(range(130))
        assert len(first["events"]) == 100
        assert "next_batch" not in second
    assert first["events"][0] == {"type": "m.test", "sender": bob.user_id, "content": {"n": 0}}
    # As older clients ask.
    path, found, token = f"{PATH}/SLEEPER/events", [], None
    while True:
        page = await alice.request("POST", path, {} if token is None else {"next_batch": token})
        token = page["next_batch"]
        if not page["events"]:
            break
        found += [event["content"]["n"] for event in page["events"]]
    assert found == list(range(130))
    # The device that is awake has its own copies.
    assert len(to_device(await alice.sync())) == 100
    await events(alice, alice.device_id, expect=403, errcode="M_FORBIDDEN")
    await events(bob, "SLEEPER", expect=403, errcode="M_FORBIDDEN")
    await events(alice, "SLEEPER", "junk", expect=400, errcode="M_INVALID_PARAM")


async def test_a_new_one_takes_the_place_of_the_old(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await alice.request("PUT", PATH, sleeping(alice, "FIRST")[1])
    await send_to_device(bob, "m.test", {alice.user_id: {"FIRST": {}}})
    await alice.request("PUT", PATH, sleeping(alice, "SECOND")[1])
    assert (await query(bob, alice))["device_keys"][alice.user_id].keys() == {"SECOND"}
    assert (await alice.request("GET", PATH))["device_id"] == "SECOND"
    await events(alice, "FIRST", expect=403, errcode="M_FORBIDDEN")
    assert await claim(bob, alice, "FIRST") is None
    await alice.request("PUT", PATH, sleeping(alice, "SECOND", keys=1)[1])
    assert await events(alice, "SECOND") == {"events": []}
    assert await alice.request("DELETE", PATH) == {"device_id": "SECOND"}
    await alice.request("GET", PATH, expect=404, errcode="M_NOT_FOUND")
    assert (await query(bob, alice))["device_keys"][alice.user_id] == {}


async def test_it_goes_with_all_devices(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await alice.request("PUT", PATH, sleeping(alice, "SLEEPER")[1])
    await alice.request("POST", "/logout/all", {})
    assert (await query(bob, alice))["device_keys"][alice.user_id] == {}
    async with Client(alice.base_url) as again:
        await again.login(alice.user_id, alice.password)
        await again.request("GET", PATH, expect=404, errcode="M_NOT_FOUND")


async def test_wrong_devices_are_refused(new_user: Any) -> None:
    alice = await new_user("alice")
    _, body = sleeping(alice, "SLEEPER")
    await alice.request("PUT", PATH, body)

    async def refused(errcode: str, **changes: Json) -> None:
        await alice.request("PUT", PATH, {**body, **changes}, expect=400, errcode=errcode)

    await refused("M_INVALID_PARAM", device_id="OTHER")
    await refused("M_INVALID_PARAM", device_id="")
    await refused("M_BAD_JSON", device_data={})
    await refused("M_BAD_JSON", device_keys=None)
    await refused("M_INVALID_SIGNATURE", device_keys={**body["device_keys"], "signatures": {}})
    awake = sleeping(alice, alice.device_id)[1]
    await alice.request("PUT", PATH, awake, expect=400, errcode="M_INVALID_PARAM")
    assert (await alice.request("GET", PATH))["device_id"] == "SLEEPER", "the old one is still there"
    assert await claim(alice, alice, "SLEEPER")
