"""Cross-signing keys and signatures over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nacl.signing import SigningKey

from .client import Client, Json
from .crypto_device import CrossSigner, CryptoDevice, list_changes, public, query, signed

UPLOAD = "/keys/device_signing/upload"
SIGNATURES = "/keys/signatures/upload"


def proof(user: Client) -> Json:
    identifier = {"type": "m.id.user", "user": user.user_id}
    return {"type": "m.login.password", "identifier": identifier, "password": user.password}


async def sign(client: Client, owner: str, key_id: str, value: Json, errcode: str | None = None) -> None:
    """Upload signatures on one key; its failure must be `errcode`."""
    failures = (await client.request("POST", SIGNATURES, {owner: {key_id: value}}))["failures"]
    if errcode is None:
        assert failures == {}
    else:
        assert failures[owner][key_id]["errcode"] == errcode


async def test_the_first_keys_need_no_password(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    keys = CrossSigner(alice.user_id)
    body = keys.body()
    assert await alice.request("POST", UPLOAD, body) == {}
    assert await alice.request("POST", UPLOAD, body) == {}, "the same again changes nothing and needs no proof"
    seen = await query(alice, alice)
    assert seen["master_keys"] == {alice.user_id: body["master_key"]}
    assert seen["self_signing_keys"] == {alice.user_id: body["self_signing_key"]}
    assert seen["user_signing_keys"] == {alice.user_id: body["user_signing_key"]}
    seen = await query(bob, alice)
    assert seen["master_keys"] == {alice.user_id: body["master_key"]}
    assert seen["user_signing_keys"] == {}


async def test_other_keys_need_the_password(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await alice.request("POST", UPLOAD, CrossSigner(alice.user_id).body())
    new = CrossSigner(alice.user_id).body()
    asked = await alice.request("POST", UPLOAD, new, expect=401)
    assert asked["flows"] == [{"stages": ["m.login.password"]}]
    wrong = {**proof(alice), "password": "wrong", "session": asked["session"]}
    await alice.request("POST", UPLOAD, {**new, "auth": wrong}, expect=401, errcode="M_FORBIDDEN")
    wrong_user = {**proof(bob), "session": asked["session"]}
    await alice.request("POST", UPLOAD, {**new, "auth": wrong_user}, expect=401)
    # What was proved for some keys is not good for others.
    other = CrossSigner(alice.user_id).body()
    right = {**proof(alice), "session": asked["session"]}
    await alice.request("POST", UPLOAD, {**other, "auth": right}, expect=400, errcode="M_INVALID_PARAM")
    assert await alice.request("POST", UPLOAD, {**new, "auth": right}) == {}
    assert (await query(bob, alice))["master_keys"][alice.user_id]["keys"] == new["master_key"]["keys"]


async def test_only_one_of_two_first_uploads_wins(new_user: Any) -> None:
    alice = await new_user("alice")
    bodies = [CrossSigner(alice.user_id).body() for _ in range(5)]
    answers = await asyncio.gather(*(alice.raw("POST", UPLOAD, body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]


async def test_adding_keys_later_needs_the_password(new_user: Any) -> None:
    alice = await new_user("alice")
    body = CrossSigner(alice.user_id).body()
    rest = {"self_signing_key": body["self_signing_key"], "user_signing_key": body["user_signing_key"]}
    await alice.request("POST", UPLOAD, rest, expect=400, errcode="M_MISSING_PARAM")
    await alice.request("POST", UPLOAD, {"master_key": body["master_key"]})
    await alice.request("POST", UPLOAD, rest, expect=401)
    await alice.request("POST", UPLOAD, {**rest, "auth": proof(alice)})
    assert (await query(alice, alice))["self_signing_keys"] == {alice.user_id: body["self_signing_key"]}


async def test_a_new_master_key_takes_the_old_rest_with_it(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    theirs = CrossSigner(bob.user_id)
    await bob.request("POST", UPLOAD, theirs.body())
    old = CrossSigner(alice.user_id)
    await alice.request("POST", UPLOAD, old.body())
    master = theirs.body()["master_key"]
    await sign(alice, bob.user_id, public(theirs.master), old.sign_user(master))
    assert (await query(alice, bob))["master_keys"][bob.user_id]["signatures"]
    new = CrossSigner(alice.user_id).body()
    await alice.request("POST", UPLOAD, {"master_key": new["master_key"], "auth": proof(alice)})
    seen = await query(alice, alice, bob)
    assert seen["master_keys"][alice.user_id] == new["master_key"]
    assert seen["self_signing_keys"].keys() == {bob.user_id}
    assert seen["user_signing_keys"] == {}
    assert seen["master_keys"][bob.user_id] == master, "what the old key signed is not vouched for any more"


async def test_wrong_keys_are_refused(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    keys, stranger = CrossSigner(alice.user_id), CrossSigner(alice.user_id)
    body = keys.body()

    async def refused(errcode: str, status: int = 400, **changes: Json) -> None:
        await alice.request("POST", UPLOAD, {**body, **changes}, expect=status, errcode=errcode)

    await refused("M_INVALID_SIGNATURE", self_signing_key=stranger.body()["self_signing_key"])
    await refused("M_INVALID_SIGNATURE", user_signing_key={**body["user_signing_key"], "signatures": {}})
    await refused("M_INVALID_PARAM", master_key={**body["master_key"], "user_id": bob.user_id})
    await refused("M_INVALID_PARAM", master_key={**body["master_key"], "usage": ["self_signing"]})
    await refused("M_BAD_JSON", master_key={**body["master_key"], "keys": {}})
    await refused("M_BAD_JSON", master_key={**body["master_key"], "keys": {"ed25519:x": "x"}})
    two = {**body["master_key"]["keys"], **stranger.body()["master_key"]["keys"]}
    await refused("M_BAD_JSON", master_key={**body["master_key"], "keys": two})
    await refused("M_BAD_JSON", master_key={**body["master_key"], "signatures": "x"})
    assert (await query(alice, alice))["master_keys"] == {}


async def test_a_key_cannot_be_called_like_a_device(new_user: Any) -> None:
    alice = await new_user("alice")
    keys = CrossSigner(alice.user_id)
    async with await alice.another_device(device_id=public(keys.self_signing)):
        await alice.request("POST", UPLOAD, keys.body(), expect=403, errcode="M_FORBIDDEN")
    keys = CrossSigner(alice.user_id)
    await alice.request("POST", UPLOAD, keys.body())
    login = {**proof(alice), "device_id": public(keys.master)}
    await alice.request("POST", "/login", login, expect=403, errcode="M_FORBIDDEN")
    await alice.request("POST", "/login", {**login, "device_id": public(keys.master)[1:]})


async def test_signing_own_devices_and_the_master_key(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await alice.create_room(bob)
    device, keys = CryptoDevice(alice), CrossSigner(alice.user_id)
    device_keys = await device.start()
    body = keys.body()
    await alice.request("POST", UPLOAD, body)
    await bob.sync_on()
    signed_device = keys.sign_device(device_keys)
    await sign(alice, alice.user_id, alice.device_id, signed_device)
    assert list_changes(await bob.sync_on()) == ({alice.user_id}, set())
    await sign(alice, alice.user_id, public(keys.master), device.sign({**body["master_key"], "signatures": {}}))
    assert list_changes(await bob.sync_on()) == ({alice.user_id}, set())
    seen = await query(bob, alice)
    signatures = seen["device_keys"][alice.user_id][alice.device_id]["signatures"][alice.user_id]
    assert signatures.keys() == {f"ed25519:{alice.device_id}", f"ed25519:{public(keys.self_signing)}"}
    signatures = seen["master_keys"][alice.user_id]["signatures"][alice.user_id]
    assert signatures.keys() == {f"ed25519:{alice.device_id}"}
    # The same again is no news, and an upload of the bare keys does not lose the signature.
    await sign(alice, alice.user_id, alice.device_id, signed_device)
    await device.upload(device_keys=device_keys)
    assert list_changes(await bob.sync_on()) == (set(), set())
    assert (await query(bob, alice))["device_keys"] == seen["device_keys"]


async def test_signing_another_user_is_seen_by_the_signer_alone(new_user: Any) -> None:
    alice, bob, carol = [await new_user(name) for name in ("alice", "bob", "carol")]
    keys, theirs = CrossSigner(alice.user_id), CrossSigner(bob.user_id)
    await alice.request("POST", UPLOAD, keys.body())
    await bob.request("POST", UPLOAD, theirs.body())
    master = theirs.body()["master_key"]
    async with await alice.another_device() as other:
        await other.sync_on()
        await sign(alice, bob.user_id, public(theirs.master), keys.sign_user(master))
        assert list_changes(await other.sync_on(timeout=10_000)) == ({bob.user_id}, set())
        signatures = (await query(other, bob))["master_keys"][bob.user_id]["signatures"]
        assert signatures[alice.user_id].keys() == {f"ed25519:{public(keys.user_signing)}"}
    for somebody in (bob, carol):
        assert (await query(somebody, bob))["master_keys"][bob.user_id] == master
    # A new master key was never signed by anybody.
    renewed = CrossSigner(bob.user_id).body()
    await bob.request("POST", UPLOAD, {**renewed, "auth": proof(bob)})
    assert (await query(alice, bob))["master_keys"][bob.user_id] == renewed["master_key"]


async def test_wrong_signatures_are_reported(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    device, keys, theirs = CryptoDevice(alice), CrossSigner(alice.user_id), CrossSigner(bob.user_id)
    device_keys = await device.start()
    mine, own = alice.user_id, alice.device_id
    await sign(alice, mine, own, keys.sign_device(device_keys), "M_NOT_FOUND")
    await alice.request("POST", UPLOAD, keys.body())
    await bob.request("POST", UPLOAD, theirs.body())
    await sign(alice, mine, "NONE", keys.sign_device(device_keys), "M_NOT_FOUND")
    await sign(alice, mine, own, device_keys, "M_INVALID_SIGNATURE")
    await sign(alice, mine, own, CrossSigner(mine).sign_device(device_keys), "M_INVALID_SIGNATURE")
    altered = keys.sign_device({**device_keys, "algorithms": []})
    await sign(alice, mine, own, altered, "M_INVALID_SIGNATURE")
    master = keys.body()["master_key"]
    forged = signed({**master, "signatures": {}}, mine, own, SigningKey.generate())
    await sign(alice, mine, public(keys.master), forged, "M_INVALID_SIGNATURE")
    await sign(alice, mine, public(keys.master), {**master, "signatures": {}}, "M_INVALID_SIGNATURE")
    their_master = theirs.body()["master_key"]
    await sign(alice, bob.user_id, "other", keys.sign_user(their_master), "M_NOT_FOUND")
    altered = keys.sign_user({**their_master, "usage": ["master", "x"]})
    await sign(alice, bob.user_id, public(theirs.master), altered, "M_INVALID_SIGNATURE")
    await sign(alice, "@nobody:tiny.test", "x", keys.sign_user(their_master), "M_NOT_FOUND")
    await sign(alice, "@x:far.test", "x", keys.sign_user(their_master), "M_NOT_FOUND")
    assert (await query(alice, alice))["device_keys"][mine][own]["signatures"] == device_keys["signatures"]


@pytest.mark.parametrize("body", [{"@a:b": []}, {"@a:b": {"x": 1}}, [], {"nonsense": {"x": {}}}])
async def test_what_is_no_signatures_is_refused(new_user: Any, body: Json) -> None:
    alice = await new_user("alice")
    await alice.request("POST", SIGNATURES, body, expect=400)
