"""Many users of a spam server who join a room at the same moment: others do not notice."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from .house import ALICE, open_house
from .world import World

JOINS = 400
WARM = 100
"""After so many everything that is remembered for long is there."""


def resident_mib() -> float:
    """The memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1024**2


async def test_other_rooms_go_on_while_one_is_flooded(world: World) -> None:
    async with open_house(world) as house:
        flooded = await house.public_room()
        world.time.pass_(1)
        other = await house.public_room()
        peer = await world.peer()
        house.rooms.keys[peer.name] = peer.key
        base = house.rooms.snapshot(flooded)  # all of them follow this, so that the room comes apart
        joins = [
            house.rooms.remote_event(peer.name, base, user, "m.room.member", {"membership": "join"}, state_key=user)
            for user in (f"@spam{number}:{peer.name}" for number in range(JOINS))
        ]
        memory: list[float] = []

        async def send_all() -> None:
            for start in range(0, JOINS, 50):
                answer = await house.put(peer, str(start), joins[start : start + 50])
                assert all(result == {} for result in answer.json()["pdus"].values())
                if start >= WARM:
                    memory.append(resident_mib())

        flood = asyncio.ensure_future(send_all())
        waits = []
        while not flood.done():
            begun = time.monotonic()
            await house.rooms.send(other, ALICE, "m.room.message", {"body": "meanwhile"})
            waits.append(time.monotonic() - begun)
            await asyncio.sleep(0.01)
        await flood
        row = house.rooms.snapshot(flooded).room
        assert row.joined == JOINS + 1
        # A median, for the machine may do something else at times.
        assert sorted(waits)[len(waits) // 2] < 0.2
        assert memory[-1] - memory[0] < 12, f"{memory} MiB"
        assert len(row.extremities) < JOINS // 4
