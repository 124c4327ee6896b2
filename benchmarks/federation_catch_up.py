"""Coming back after a week: tinyserver was off while many scripted servers talked in rooms that it is in.

    python -m benchmarks.federation_catch_up [--servers 200] [--rooms 20] [--events 10000]

Each server is in one room. While tinyserver is off, they say everything that it will miss. When it is back, each sends
only the newest of its own events, within `--within` seconds, as Synapse does to servers that were away; the rest has to
be asked for, twenty events in an answer. The time runs from the start of the process to the last of the events.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sqlite3
import statistics
import time

from benchmarks.compare.processes import memory, usage
from benchmarks.many_servers import ManyServers, Server, many_servers

WEEK_MS = 7 * 24 * 3600 * 1000


async def sample(made: ManyServers, sizes: list[int], waits: list[float]) -> None:
    """The memory of the process, and how long Alice's own requests take."""
    own = await made.alice.create_room(preset="private_chat")
    while True:
        sizes.append(memory(made.tiny.pid).rss)
        begun = time.monotonic()
        await made.alice.send(own, "meanwhile")
        waits.append(time.monotonic() - begun)
        await asyncio.sleep(0.2)


async def run(servers: int, rooms: int, events: int, within: float) -> None:
    async with many_servers(servers) as made:
        shared = [await made.room(made.servers[number::rooms]) for number in range(rooms)]
        own = made.events()
        await asyncio.to_thread(made.tiny.stop)
        with contextlib.closing(sqlite3.connect(made.database)) as db:
            db.execute("UPDATE counters SET value = value - ? WHERE name = 'outgoing_alive'", (WEEK_MS,))
            db.commit()
        last: dict[Server, object] = {}
        for number in range(events):
            room = shared[number % rooms]
            server = room.servers[number // rooms % len(room.servers)]
            last[server] = room.event(server)
        made.traffic.received = made.traffic.sent = 0
        made.traffic.requests.clear()
        begun = time.monotonic()
        await asyncio.to_thread(made.tiny.start)
        sizes: list[int] = []
        waits: list[float] = []
        sampling = asyncio.ensure_future(sample(made, sizes, waits))

        async def come(number: int, server: Server) -> None:
            await asyncio.sleep(within * number / servers)
            answer = await server.transaction([last[server]])
            answer.raise_for_status()

        await asyncio.gather(*(come(number, server) for number, server in enumerate(last)))
        await made.until_events(own + events, 900)
        seconds = time.monotonic() - begun
        sampling.cancel()
        used = usage(made.tiny.pid)
        traffic = made.traffic
    asked = ", ".join(f"{count} {name}" for name, count in sorted(traffic.requests.items()))
    print(f"{servers} servers, {rooms} rooms, {events} events missed: all here after {seconds:.1f} s")
    print(f"CPU {used.cpu:.1f} s   peak RSS {max(sizes) / 2**20:.0f} MB   written {used.written / 2**20:.0f} MB")
    print(f"asked: {asked}; {traffic.received / 2**20:.1f} MB of answers, {traffic.sent / 2**20:.1f} MB of requests")
    print(f"Alice's messages meanwhile: {statistics.median(waits) * 1000:.0f} ms, slowest {max(waits) * 1000:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=200)
    parser.add_argument("--rooms", type=int, default=20)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--within", type=float, default=20.0, help="seconds in which all servers show up")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.servers, arguments.rooms, arguments.events, arguments.within))


if __name__ == "__main__":
    main()
