"""What other servers ask about devices and their keys; over real signed HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest_asyncio

from tinyserver.storage import accounts, cross_signing, device_keys, device_lists, devices, one_time_keys
from tinyserver.storage.cross_signing import Usage
from tinyserver.storage.devices import Seen
from tinyserver.storage.one_time_keys import PublicKey
from tinyserver.storage.transaction import WriteTransaction

from .serving import ALICE, US, V1, Site, open_site, refused
from .world import Peer, World

DEVICES = f"{V1}/user/devices/%40alice%3A{US}"
QUERY, CLAIM = f"{V1}/user/keys/query", f"{V1}/user/keys/claim"
KEYS = {"user_id": ALICE, "device_id": "PHONE", "algorithms": [], "keys": {}, "signatures": {}}
ALGORITHM = "signed_curve25519"


@pytest_asyncio.fixture
async def site(world: World) -> AsyncIterator[Site]:
    async with open_site(world) as made:
        yield made


@pytest_asyncio.fixture
async def peer(world: World) -> Peer:
    return await world.peer()


def add_phone(tx: WriteTransaction) -> None:
    user = accounts.add(tx, ALICE, None, 0)
    device = devices.add(tx, user, "PHONE", "Alice's phone", Seen(0, "", ""))
    devices.add(tx, user, "NO-KEYS", None, Seen(0, "", ""))
    device_keys.put(tx, device, json.dumps(KEYS).encode())
    one_time_keys.add(tx, device, [PublicKey(ALGORITHM, f"K{n}", b'{"key":"k%d"}' % n) for n in range(50)])
    for usage in Usage:
        cross_signing.put(tx, user, usage, json.dumps({"usage": [usage.name]}).encode())
    device_lists.note_change(tx, user, ["PHONE"])


async def test_devices_and_keys(site: Site, peer: Peer) -> None:
    refused(await site.get(peer, DEVICES), 404, "M_NOT_FOUND")
    await site.db.write(add_phone)
    listed = (await site.get(peer, DEVICES)).json()
    assert listed.pop("stream_id") > 0
    signing_keys = {"master_key": {"usage": ["MASTER"]}, "self_signing_key": {"usage": ["SELF_SIGNING"]}}
    phone = {"device_id": "PHONE", "keys": KEYS, "device_display_name": "Alice's phone"}
    assert listed == {"user_id": ALICE, "devices": [phone], **signing_keys}
    nobody = f"@nobody:{US}"
    found = (await site.request(peer, "POST", QUERY, {"device_keys": {ALICE: [], nobody: []}})).json()
    unsigned = {"device_display_name": "Alice's phone"}
    assert found["device_keys"] == {ALICE: {"PHONE": {**KEYS, "unsigned": unsigned}}}
    assert found["master_keys"] == {ALICE: signing_keys["master_key"]}
    assert found["self_signing_keys"] == {ALICE: signing_keys["self_signing_key"]}
    assert "user_signing_keys" not in found
    some = (await site.request(peer, "POST", QUERY, {"device_keys": {ALICE: ["OTHER"]}})).json()
    assert some["device_keys"] == {ALICE: {}}


async def test_one_time_keys_are_given_out_once(site: Site, peer: Peer) -> None:
    await site.db.write(add_phone)
    body = {"one_time_keys": {ALICE: {"PHONE": ALGORITHM, "OTHER": ALGORITHM}}}
    answers = await asyncio.gather(*(site.request(peer, "POST", CLAIM, body) for _ in range(100)))
    found = [answer.json()["one_time_keys"] for answer in answers]
    names = [name for each in found if each for name in each[ALICE]["PHONE"]]
    assert sorted(names) == sorted(f"{ALGORITHM}:K{n}" for n in range(50))
    assert found.count({}) == 50


async def test_questions_about_others_are_refused(site: Site, peer: Peer) -> None:
    await site.db.write(add_phone)
    refused(await site.get(peer, f"{V1}/user/devices/%40alice%3Aother.test"), 400, "M_INVALID_PARAM")
    refused(await site.request(peer, "POST", QUERY, {"device_keys": {"@alice:other.test": []}}), 400, "M_INVALID_PARAM")
    refused(await site.request(peer, "POST", QUERY, {"device_keys": {ALICE: "PHONE"}}), 400, "M_BAD_JSON")
    refused(await site.request(peer, "POST", QUERY, {}), 400, "M_BAD_JSON")
    refused(await site.request(peer, "POST", CLAIM, {"one_time_keys": {"alice": {}}}), 400, "M_INVALID_PARAM")
    refused(await site.request(peer, "POST", CLAIM, {"one_time_keys": {ALICE: {"PHONE": 7}}}), 400, "M_BAD_JSON")
