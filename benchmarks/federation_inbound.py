"""Events of another server taken per second: tinyserver and Synapse get the same signed transactions.

    python -m benchmarks.federation_inbound [--events 300] [--only tinyserver|synapse]

A scripted peer joins public rooms of the server by the ordinary handshake, and then sends transactions of 50 signed
messages: once all of them into one room, once into twenty rooms in turn. It sends the next one when a local user can
read the last event of the one before: Synapse answers before it has taken the events, and throws away what it has not
come to once more than a hundred wait in a room. The time runs from the first request until the last event of every room
can be read. Both servers listen with TLS on loopback.

"Others" is how long a local user's message into an uninvolved room takes meanwhile (median and 95 %).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from benchmarks.compare.processes import memory, usage
from benchmarks.compare.synapse import Synapse as SynapseInstallation
from tests.federation.network import Authority
from tests.federation.peers.conftest import INSTALLATIONS, tiny_server
from tests.federation.peers.synapse import Synapse
from tests.federation.scripted_peer import VERSION, WAIT, scripted_peer
from tests.server.client import Client
from tests.server.harness import TinyServer
from tinyserver.protocol.event_hashes import event_id_of

IN_TRANSACTION = 50


async def until_visible(reader: Client, room_id: str, event_id: str) -> None:
    path = f"{reader.room(room_id)}/event/{quote(event_id, safe='')}"
    deadline = time.monotonic() + WAIT
    while (await reader.raw("GET", path)).status_code != 200:
        if time.monotonic() > deadline:
            raise RuntimeError("the events did not arrive")
        await asyncio.sleep(0.01)


async def talk(client: Client, room_id: str, waits: list[float], stop: asyncio.Event) -> None:
    """Say something into a room of one's own ten times a second."""
    while not stop.is_set():
        begun = time.monotonic()
        await client.send(room_id, "meanwhile")
        waits.append(time.monotonic() - begun)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.1)


async def measure(server: TinyServer | Synapse, authority: Authority, rooms: int, count: int) -> str:
    alice = await Client(server.base_url).register("alice" + str(rooms))
    try:
        async with scripted_peer(authority, server) as peer:
            made = [await alice.create_room(preset="public_chat", room_version="11") for _ in range(rooms)]
            own = await alice.create_room(preset="private_chat")
            joined = [await peer.join(room_id) for room_id in made]
            pdus = [peer.say(joined[number % rooms], f"message {number}") for number in range(count)]
            process = server._process
            assert process is not None
            before, waits, stop = usage(process.pid), list[float](), asyncio.Event()
            talking = asyncio.ensure_future(talk(alice, own, waits, stop))
            begun = time.monotonic()
            for start in range(0, count, IN_TRANSACTION):
                await peer.send(pdus[start : start + IN_TRANSACTION])
                end = min(start + IN_TRANSACTION, count) - 1
                await until_visible(alice, joined[end % rooms].room_id, event_id_of(pdus[end], VERSION))
            for room in joined:
                await until_visible(alice, room.room_id, room.last)
            seconds = time.monotonic() - begun
            stop.set()
            await talking
            used, size = usage(process.pid).since(before), memory(process.pid)
    finally:
        await alice.close()
    median = statistics.median(waits) * 1000
    slow = sorted(waits)[int(len(waits) * 0.95)] * 1000
    return (
        f"{rooms:3} rooms: {count / seconds:7.0f} events/s   {used.cpu / count * 1000:6.2f} ms CPU per event   "
        f"RSS {size.rss / 2**20:5.0f} MB   others {median:5.0f} ms / {slow:5.0f} ms"
    )


async def run(kind: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        authority = Authority(path)
        server: TinyServer | Synapse
        if kind == "synapse":
            INSTALLATIONS.mkdir(exist_ok=True)
            python = await SynapseInstallation.install(INSTALLATIONS) / "bin" / "python"
            (path / "server").mkdir()
            server = Synapse(path / "server", python, authority)
        else:
            (path / "server").mkdir()
            server = tiny_server(path / "server", authority)
        await asyncio.to_thread(server.start)
        try:
            for rooms in (1, 20):
                print(f"{kind:10} {await measure(server, authority, rooms, count)}", flush=True)
        finally:
            await asyncio.to_thread(server.kill)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--only", choices=("tinyserver", "synapse"))
    arguments = parser.parse_args()
    for kind in (arguments.only,) if arguments.only else ("tinyserver", "synapse"):
        asyncio.run(run(kind, arguments.events))


if __name__ == "__main__":
    main()
