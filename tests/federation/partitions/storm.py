"""The network fails and servers are killed while people use a room on all of them; then all must have the same."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tinyserver.storage.stored_event import Flag

from ..peers.eventually import eventually, same_state
from .cluster import Cluster, Kept, cluster
from .links import Way
from .people import Crowd, gathered

AT_ONCE = 3
"""So many people of each server do something at the same time."""
DEEDS = int(os.environ.get("TINYSERVER_STORM") or 300)
"""What people do altogether: `TINYSERVER_STORM=2500` makes a storm of more than two thousand events."""
CONVERGENCE = 120.0
"""Seconds after the last fault. A machine that has time needs a few."""


async def storm(directory: Path, count: int, version: str, deeds: int, seed: int) -> str:
    """So many servers, so many deeds; see the module. Returns what happened, in figures.

    AssertionError if anything differs or is lost.
    """
    rng = random.Random(seed)
    async with cluster(directory, count) as servers:
        crowd = await gathered(servers, version)
        await same_state(crowd.room, *(crowd.host_of(home) for home in range(count)))
        begun = time.monotonic()
        await _use(servers, crowd, rng, deeds // (count * AT_ONCE))
        used = time.monotonic() - begun
        servers.heal()
        await _all_have_all(servers, crowd)
        converged = time.monotonic() - begun - used
        await _settle(crowd, count)
        for person in crowd.people:
            await person.client.close()
        await servers.stop()
        kept = [await servers.kept(number, crowd.room) for number in range(count)]
    _compare(crowd, kept)
    return _figures(servers, crowd, kept, used, converged)


async def _use(servers: Cluster, crowd: Crowd, rng: random.Random, deeds: int) -> None:
    """People do things while things fail."""
    over = asyncio.Event()
    faults = [
        asyncio.ensure_future(_forever(over, failing, servers, random.Random(rng.random())))
        for failing in (_partition, _cut, _kill)
    ]
    try:
        homes = [home for home in range(len(servers.servers)) for _ in range(AT_ONCE)]
        await asyncio.gather(*(crowd.live(home, random.Random(rng.random()), deeds) for home in homes))
    finally:
        over.set()
        await asyncio.gather(*faults)


async def _forever(
    over: asyncio.Event,
    failing: Callable[[Cluster, random.Random], Awaitable[None]],
    servers: Cluster,
    rng: random.Random,
) -> None:
    while not over.is_set():
        await failing(servers, rng)


async def _partition(servers: Cluster, rng: random.Random) -> None:
    """Some cannot reach others for a while, in one direction or in both."""
    count = len(servers.servers)
    alone = rng.randrange(count)
    others = [other for other in range(count) if other != alone]
    if rng.random() < 0.5:
        others = [rng.choice(others)]
    pairs = [(alone, other) for other in others]
    pairs += [(other, alone) for other in others] if rng.random() < 0.7 else []
    way = rng.choice([Way.REFUSED, Way.SILENT])
    for pair in pairs:
        servers.links[pair].become(way)
    await asyncio.sleep(rng.uniform(0.3, 3))
    for pair in pairs:
        servers.links[pair].become(Way.OPEN)
    await asyncio.sleep(rng.uniform(0.2, 1.5))


async def _cut(servers: Cluster, rng: random.Random) -> None:
    """A connection breaks off in the middle of an answer."""
    await asyncio.sleep(rng.uniform(0.3, 1.5))
    rng.choice(list(servers.links.values())).cut_after(rng.randrange(3000))


async def _kill(servers: Cluster, rng: random.Random) -> None:
    """A server dies, and comes back."""
    await asyncio.sleep(rng.uniform(1.5, 4))
    await servers.kill(rng.randrange(len(servers.servers)), rng.uniform(0, 1.5))


async def _all_have_all(servers: Cluster, crowd: Crowd) -> None:
    """Wait until everything that any server has is everywhere, without anybody saying anything more."""
    count = len(servers.servers)

    async def condition() -> bool:
        stored = [await servers.ids(number, crowd.room) for number in range(count)]
        everything = frozenset[str]().union(*stored)
        lacking = [len(everything - each) for each in stored]
        assert not any(lacking), f"of {len(everything)} events the servers lack {lacking}"
        return True

    await eventually(condition, seconds=CONVERGENCE)


async def _settle(crowd: Crowd, count: int) -> None:
    """Each server says one more thing after the others' last. An event that one server took before a ban and another
    after it is known to both, but stands at the end of the room on the first only, until something follows it."""
    hosts = [crowd.host_of(home) for home in range(count)]
    for host in hosts:
        await host.sync_on()
    for host in hosts:
        last = await host.send(crowd.room, f"the last of {host.user_id}")
        for other in hosts:
            await other.sync_event(crowd.room, last)
    await same_state(crowd.room, *hosts)


def _compare(crowd: Crowd, kept: list[Kept]) -> None:
    first, *others = kept
    for other in others:
        assert set(first.flags) == set(other.flags)
        differing = {key: (first.state_after[key], other.state_after[key]) for key in first.state_after}
        assert [key for key, (here, there) in differing.items() if here != there] == []
        rejected = [{key for key, flags in each.flags.items() if flags & Flag.REJECTED} for each in (first, other)]
        assert rejected[0] == rejected[1]
        assert first.current == other.current
    for each in kept:
        assert each.count(Flag.OUTLIER) == 0
        assert crowd.tally.told <= set(each.flags), "what was acknowledged is lost"
        assert len(each.bodies) == len(set(each.bodies)), "something was said twice"


def _figures(servers: Cluster, crowd: Crowd, kept: list[Kept], used: float, converged: float) -> str:
    tally = crowd.tally
    lines = [
        f"{len(kept)} servers: {len(kept[0].flags)} events ({len(tally.told)} acknowledged: {dict(tally.done)}; "
        f"refused: {sum(tally.refused.values())}) in {used:.1f} s with {servers.kills} kills, "
        f"{sum(link.breaks for link in servers.links.values())} connections and {tally.broken} requests broken off; "
        f"all everywhere {converged:.1f} s after the last fault"
    ]
    lines += [
        f"  s{number}: {len(each.flags)} events, {len(each.current)} entries of state, "
        f"{each.count(Flag.REJECTED)} rejected, {each.count(Flag.SOFT_FAILED)} soft-failed"
        for number, each in enumerate(kept)
    ]
    return "\n".join(lines)
