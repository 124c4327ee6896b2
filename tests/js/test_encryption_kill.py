"""The server is killed again and again while real clients write: no device is unable to decrypt any message."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from ..server.harness import TinyServer
from .conftest import MakeScenario

MESSAGES = 1000
KILLS = 8
ROTATION = 12


async def test_every_device_decrypts_every_message(
    fresh_server: TinyServer, make_scenario: MakeScenario, capfd: Any
) -> None:
    seed = random.randrange(1 << 32)
    print(f"random seed {seed}")
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(20, MESSAGES - 20), KILLS))
    killed = 0
    scenario = make_scenario(tiny=fresh_server)
    tasks: set[asyncio.Task[None]] = set()
    figures: list[dict[str, Any]] = []
    turn = asyncio.Lock()

    async def kill() -> None:
        nonlocal killed
        async with turn:
            await asyncio.sleep(chance.random() / 20)
            await asyncio.to_thread(fresh_server.kill)
            await asyncio.to_thread(fresh_server.start)
            killed += 1

    async def sent(count: int) -> None:
        while moments and count >= moments[0]:
            moments.pop(0)
            tasks.add(asyncio.create_task(kill()))

    async def done(**found: Any) -> None:
        figures.append(found)

    scenario.handlers |= {"sent": sent, "done": done}
    await scenario.run("kills", timeout=400, messages=MESSAGES, rotation=ROTATION)
    await asyncio.gather(*tasks)
    assert killed == KILLS
    (found,) = figures
    with capfd.disabled():
        print(
            f"\n{found['sent']} encrypted messages in {found['seconds']:.1f} s, {killed} times killed: "
            f"{found['devices']} devices decrypted all of them"
        )
