"""Joining a room of 50,000 members on another server: how soon it can be used, when all of it is here, at what cost.

    python -m benchmarks.big_join                        # 50,000 members, the resident server leaves members out
    python -m benchmarks.big_join --members 5000 --whole # a smaller room, and a server that tells all at once

The other servers (a hundred, all of them `benchmarks.crowd_peer`) are one process of their own. While the room comes
in, another user of the same tinyserver keeps writing in a room of their own: how long these messages take tells what
the join costs everybody else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.server.client import Client
from tests.server.harness import TinyServer

from .compare.processes import usage
from .crowd_peer import crowded_room

LAZY = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 20}}}
TIMEOUT = 1800


async def until_room(client: Client, room_id: str) -> None:
    """Sync as a client does until the room is there."""
    while True:
        answer = await client.request("GET", "/sync", params={"filter": json.dumps(LAZY), "timeout": "1000"})
        if room_id in answer.get("rooms", {}).get("join", {}):
            return


async def until_complete(client: Client, room_id: str, members: int) -> None:
    """Ask until all members are known."""
    while True:
        answer = await client.raw("GET", f"{client.room(room_id)}/joined_members")
        if answer.status_code == 200 and len(answer.json()["joined"]) >= members:
            return
        await asyncio.sleep(0.2)


async def chatter(client: Client, room: str, delays: list[float]) -> None:
    """Write for ever, noting how long each message takes (seconds)."""
    while True:
        began = time.perf_counter()
        await client.send(room, "meanwhile")
        delays.append(time.perf_counter() - began)
        await asyncio.sleep(0.05)


def peak_rss(pid: int) -> int:
    """The most memory that a process has had resident, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


async def measure(server: TinyServer, peer: dict[str, Any]) -> dict[str, Any]:
    """Join, and wait for everything."""
    async with Client(server.base_url) as joiner, Client(server.base_url) as other:
        joiner.http.timeout = other.http.timeout = TIMEOUT
        await joiner.register("joiner")
        await other.register("other")
        quiet = await other.create_room()
        delays: list[float] = []
        before = usage(server.pid)
        idle = peak_rss(server.pid)
        talking = asyncio.ensure_future(chatter(other, quiet, delays))
        began = time.perf_counter()
        await joiner.join(peer["room_id"], params={"via": "s0.test"})
        joined = time.perf_counter() - began
        await until_room(joiner, peer["room_id"])
        usable = time.perf_counter() - began
        await joiner.send(peer["room_id"], "hello")
        sent = time.perf_counter() - began
        await until_complete(joiner, peer["room_id"], peer["members"] + 1)
        complete = time.perf_counter() - began
        talking.cancel()
        spent = usage(server.pid).since(before)
        delays.sort()
        return {
            "members": peer["members"],
            "join answered, s": round(joined, 2),
            "room in sync, s": round(usable, 2),
            "first message sent, s": round(sent, 2),
            "complete, s": round(complete, 2),
            "peak RSS before, MB": round(idle / 1e6),
            "peak RSS, MB": round(peak_rss(server.pid) / 1e6),
            "CPU, s": round(spent.cpu, 1),
            "written, MB": round(spent.written / 1e6),
            "database, MB": round(server.data_dir.joinpath("tinyserver.db").stat().st_size / 1e6),
            "others' messages, ms (median, p99, most)": [
                round(each * 1000) for each in (statistics.median(delays), delays[len(delays) * 99 // 100], delays[-1])
            ],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=50_000)
    parser.add_argument("--version", default="11", help="of the room")
    parser.add_argument("--whole", action="store_true", help="the resident server does not leave members out")
    parser.add_argument(
        "--direct", action="store_true", help="ask each server for its keys, not one trusted server for all"
    )
    parser.add_argument("--log", action="store_true", help="show the log of the server")
    arguments = parser.parse_args()
    crowded_room(arguments.version, arguments.members)
    command = [sys.executable, "-m", "benchmarks.crowd_peer", "--serve", "--members", str(arguments.members)]
    command += ["--version", arguments.version, *(["--whole"] if arguments.whole else [])]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peer,
        tempfile.TemporaryDirectory() as directory,
    ):
        assert peer.stdout is not None
        found = json.loads(peer.stdout.readline())
        federation = {"trusted_key_servers": [] if arguments.direct else ["s0.test"]}
        server = TinyServer(Path(directory), config={"outgoing": found["outgoing"], "federation": federation})
        server.init()
        try:
            server.start()
            figures = asyncio.run(measure(server, found))
        finally:
            server.kill()
            peer.kill()
            if arguments.log:
                print(server.log.text(), file=sys.stderr)
        print(f"python {platform.python_version()}, {platform.machine()}", file=sys.stderr)
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
