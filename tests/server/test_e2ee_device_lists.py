"""Device lists as clients see them: in `/sync` and in `/keys/changes`."""

from __future__ import annotations

import asyncio
from typing import Any

from .client import Client
from .crypto_device import CryptoDevice, list_changes


async def changes(client: Client, start: str, end: str) -> tuple[set[str], set[str]]:
    return list_changes(await client.request("GET", "/keys/changes", params={"from": start, "to": end}))


async def test_new_devices_and_keys(new_user: Any) -> None:
    alice, bob, carol = [await new_user(name) for name in ("alice", "bob", "carol")]
    await alice.create_room(bob)
    for user in (alice, bob, carol):
        await user.sync_on()
    start = bob.since
    await CryptoDevice(alice).start()
    assert list_changes(await bob.sync_on(timeout=10_000)) == ({alice.user_id}, set())
    assert list_changes(await alice.sync_on()) == ({alice.user_id}, set())
    assert list_changes(await carol.sync_on()) == (set(), set())
    assert list_changes(await bob.sync_on()) == (set(), set())
    async with await alice.another_device() as other:
        assert list_changes(await bob.sync_on()) == (set(), set()), "a device without keys concerns nobody"
        device = CryptoDevice(other)
        await device.start()
        assert list_changes(await bob.sync_on()) == ({alice.user_id}, set())
        await device.upload(one_time_keys=device.one_time_keys(0, 5))
        assert list_changes(await bob.sync_on()) == (set(), set()), "nor do one-time keys"
        await other.request("PUT", f"/devices/{other.device_id}", {"display_name": "Phone"})
        assert list_changes(await bob.sync_on()) == ({alice.user_id}, set())
        await other.request("POST", "/logout", {})
        assert list_changes(await bob.sync_on()) == ({alice.user_id}, set())
    assert await changes(bob, start or "", bob.since or "") == ({alice.user_id}, set())
    assert await changes(bob, bob.since or "", bob.since or "") == (set(), set())
    assert await changes(carol, start or "", bob.since or "") == (set(), set())


async def test_coming_and_going(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await bob.sync_on()
    first = await alice.create_room(bob)
    assert list_changes(await bob.sync_on()) == ({alice.user_id}, set())
    second = await alice.create_room(bob)
    assert list_changes(await bob.sync_on()) == (set(), set()), "they knew each other already"
    await alice.leave(first)
    assert list_changes(await bob.sync_on()) == (set(), set()), "they still share a room"
    start = bob.since
    await alice.leave(second)
    assert list_changes(await bob.sync_on()) == (set(), {alice.user_id})
    await CryptoDevice(alice).start()
    assert list_changes(await bob.sync_on()) == (set(), set())
    assert await changes(bob, start or "", bob.since or "") == (set(), {alice.user_id})
    await bob.invite(second, alice)
    assert list_changes(await bob.sync_on()) == (set(), set())
    await alice.join(second)
    assert list_changes(await bob.sync_on()) == ({alice.user_id}, set())
    assert await changes(bob, start or "", bob.since or "") == ({alice.user_id}, set())


async def test_over_a_crash(new_user: Any, fresh_server: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    await bob.sync_on()
    await CryptoDevice(alice).start()
    await asyncio.to_thread(fresh_server.kill)
    await asyncio.to_thread(fresh_server.start)
    assert list_changes(await bob.sync_on()) == ({alice.user_id}, set())
    await alice.leave(room)
    await asyncio.to_thread(fresh_server.kill)
    await asyncio.to_thread(fresh_server.start)
    assert list_changes(await bob.sync_on()) == (set(), {alice.user_id})
    assert list_changes(await bob.sync_on()) == (set(), set())


async def test_tokens_are_checked(new_user: Any) -> None:
    alice = await new_user("alice")
    token = (await alice.sync())["next_batch"]
    await alice.request("GET", "/keys/changes", params={"from": token}, expect=400, errcode="M_MISSING_PARAM")
    await alice.request(
        "GET", "/keys/changes", params={"from": "x", "to": token}, expect=400, errcode="M_INVALID_PARAM"
    )
