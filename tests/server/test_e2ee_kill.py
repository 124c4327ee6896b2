"""The plug is pulled again and again: no message from device to device is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from .client import Client, Json
from .crypto_device import CryptoDevice, claim, send_to_device, to_device

MESSAGES = 300
KILLS = 4


async def stubbornly(step: Any) -> Json:
    """Repeat a request until the server that was killed in between answers it."""
    while True:
        try:
            return await step()
        except httpx.TransportError:
            await asyncio.sleep(0.02)


async def send_all(sender: Client, receiver: Client, progress: list[int]) -> None:
    for number in range(MESSAGES):
        message = {receiver.user_id: {receiver.device_id: {"from": sender.user_id, "n": number}}}
        await stubbornly(lambda n=number, m=message: send_to_device(sender, "m.test", m, txn=f"m{n}"))  # type: ignore[misc]
        progress.append(number)


async def receive_all(receiver: Client, expected: int) -> list[Json]:
    found: list[Json] = []
    while len(found) < expected:
        answer = await stubbornly(lambda: receiver.sync_on(timeout=1000))
        found += [event["content"] for event in to_device(answer)]
    return found


async def test_messages_survive_pulled_plugs(new_user: Any, fresh_server: Any) -> None:
    alice, bob, carol = [await new_user(name) for name in ("alice", "bob", "carol")]
    device = CryptoDevice(carol)
    await device.start(60)
    await carol.sync_on()
    progress: list[int] = []
    sending = [asyncio.ensure_future(send_all(sender, carol, progress)) for sender in (alice, bob)]
    receiving = asyncio.ensure_future(receive_all(carol, 2 * MESSAGES))
    claimed: list[str] = []
    for kill in range(1, KILLS + 1):
        while len(progress) < kill * 2 * MESSAGES // (KILLS + 1):
            found = await claim(alice, carol)
            assert found is None or found[0] not in claimed
            claimed += [found[0]] if found else []
            await asyncio.sleep(0.005)
        await asyncio.to_thread(fresh_server.kill)
        await asyncio.to_thread(fresh_server.start)
    await asyncio.gather(*sending)
    found = await receiving
    for sender in (alice, bob):
        assert [each["n"] for each in found if each["from"] == sender.user_id] == list(range(MESSAGES))
    assert to_device(await carol.sync_on()) == []
    assert claimed
