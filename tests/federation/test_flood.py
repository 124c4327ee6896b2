"""Many users of a spam server who join a room at the same moment: others do not notice."""

from __future__ import annotations

import asyncio
import time

from .house import ALICE, open_house
from .world import World


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
            for user in (f"@spam{number}:{peer.name}" for number in range(150))
        ]

        async def send_all() -> None:
            for start in range(0, len(joins), 50):
                answer = await house.put(peer, str(start), joins[start : start + 50])
                assert all(result == {} for result in answer.json()["pdus"].values())

        flood = asyncio.ensure_future(send_all())
        waits = []
        while not flood.done():
            begun = time.monotonic()
            await house.rooms.send(other, ALICE, "m.room.message", {"body": "meanwhile"})
            waits.append(time.monotonic() - begun)
            await asyncio.sleep(0.01)
        await flood
        assert house.rooms.snapshot(flooded).room.joined == 151
        # A median, for the machine may do something else at times.
        assert sorted(waits)[len(waits) // 2] < 0.2
