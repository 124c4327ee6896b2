#!/usr/bin/env python3
"""Benchmark of state resolution over the database, loading and parsing included.

    python -m benchmarks.state_resolution_store [--synapse PYTHON] [--versions 10,12] [ROOM ...]

ROOM is a room that is made here (recent-fork, old-fork, far-citing-fork: 50,000 members each), a golden file or a file
of JSON lines; the default is the medium golden rooms and all that are made here. Every room goes into a database of its
own, as the server would store it. Then a fresh process resolves its states: `cold` with empty caches and a new
connection, `warm` once more, `root` in a write transaction with the new state stored; `memory` is what the cold
resolution added at its peak to the resident memory of the process.

With the Python of a virtual environment that has matrix-synapse, that server's bare resolver does the same over events
in memory, without loading: time with all events parsed before, memory with those parsed that it asks for.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import forked_rooms
from benchmarks.forked_rooms import GENERATED, ForkedRoom
from tinyserver.protocol.events import Event
from tinyserver.rooms.resolution import resolve_changes, resolve_roots
from tinyserver.storage import events, names, rooms, state_trie
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

ROOT = Path(__file__).resolve().parent.parent
REPEAT = 5


async def load(room: ForkedRoom, path: Path) -> list[int]:
    """Store a room in a new database; the roots of its states."""
    db = Database(path)
    db.start()
    nids: dict[str, int] = {}
    pending = iter(room.events.items())
    nid_of_room = (await db.write(lambda tx: rooms.create(tx, f"!{room.name}:s0.test", room.version))).nid

    def store_some(tx: WriteTransaction) -> bool:
        some = list(islice(pending, 2000))
        for event_id, pdu in some:
            event = Event.from_trusted(pdu, room.version, event_id)
            nids[event_id] = nid = tx.next_position()
            auth = tuple(nids[each] for each in forked_rooms.auth_ids(pdu))
            events.store(tx, events.NewEvent(nid, nid_of_room, event, place=nid, flags=0, state=0, auth=auth))
        return bool(some)

    def store_states(tx: WriteTransaction) -> list[int]:
        roots = []
        for state in room.states:
            keys = {event_id: (room.events[event_id]["type"], room.events[event_id]["state_key"]) for event_id in state}
            interned = (((names.intern(tx, t), names.intern(tx, k)), nids[i]) for i, (t, k) in keys.items())
            roots.append(state_trie.build(tx, interned))
        return roots

    try:
        while await db.write(store_some):
            pass
        return await db.write(store_states)
    finally:
        await db.close()


def digest(event_ids: Iterator[str] | set[str]) -> str:
    """One hash for a whole state."""
    return hashlib.sha256("\n".join(sorted(event_ids)).encode()).hexdigest()


def memory(name: str) -> int:
    """VmRSS or VmHWM of this process in KiB."""
    return int(Path("/proc/self/status").read_text().partition(name + ":")[2].split()[0])


def forget_peak() -> None:
    """Let VmHWM start again from VmRSS."""
    Path("/proc/self/clear_refs").write_text("5")


async def measure(path: Path, version: str, roots: list[int]) -> dict[str, Any]:
    """Resolve the states of a loaded room; run in a process of its own."""
    from tinyserver.protocol.room_versions import get_room_version

    room_version = get_room_version(version)
    db = Database(path)
    db.start()

    def timed(step: Callable[[], Any]) -> float:
        began = time.perf_counter()
        step()
        return time.perf_counter() - began

    def read(tx: ReadTransaction) -> float:
        return timed(lambda: resolve_changes(tx, room_version, roots))

    def write(tx: WriteTransaction) -> tuple[float, int]:
        root = 0

        def step() -> None:
            nonlocal root
            root = resolve_roots(tx, room_version, roots)

        return timed(step), root

    def digest_of(tx: ReadTransaction, root: int) -> str:
        nids = [nid for _, nid in state_trie.items(tx, root)]
        return digest(
            stored.event_id
            for at in range(0, len(nids), 1000)
            for stored in events.get_many(tx, nids[at : at + 1000], keep=False).values()
        )

    db.glance(lambda tx: tx.value("SELECT 1"))
    await db.read(lambda tx: tx.value("SELECT count(*) FROM rooms"))
    gc.collect()
    forget_peak()
    before = memory("VmRSS")
    cold = await db.read(read)
    needed = memory("VmHWM") - before
    warm = statistics.median([await db.read(read) for _ in range(REPEAT)])
    seconds, root = await db.write(write)
    found = await db.read(lambda tx: digest_of(tx, root))
    await db.close()
    return {"cold": cold, "warm": warm, "root": seconds, "memory_kib": needed, "digest": found}


def run_child(*command: str) -> dict[str, Any]:
    """The JSON object that a child process prints."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def compare(room: ForkedRoom, directory: Path, synapse: str | None) -> bool:
    """Measure one room and print its row; whether the answers agree as far as they are known."""
    database = directory / f"{room.name}.db"
    version, count = room.version.identifier, len(room.events)
    expected = None if room.resolved is None else digest(room.resolved)
    roots = asyncio.run(load(room, database))
    lines = directory / f"{room.name}.jsonl"
    room.write(lines)
    del room
    runs = [
        run_child(
            sys.executable,
            "-m",
            "benchmarks.state_resolution_store",
            "--measure",
            str(database),
            version,
            *map(str, roots),
        )
        for _ in range(3)
    ]
    cold, warm, root = (statistics.median(run[name] for run in runs) for name in ("cold", "warm", "root"))
    kib = max(run["memory_kib"] for run in runs)
    row = (
        f"{database.stem:20} {count:6} events  cold {cold * 1000:7.1f} ms  warm {warm * 1000:7.1f} ms  "
        f"root {root * 1000:7.1f} ms  memory {kib / 1024:6.1f} MiB"
    )
    answers = {runs[0]["digest"]} | ({expected} if expected else set())
    if synapse:
        theirs = run_child(synapse, "benchmarks/synapse_resolver.py", str(lines))
        answers.add(theirs["digest"])
        row += (
            f"  | Synapse {theirs['seconds'] * 1000:7.1f} ms  memory {theirs['memory_kib'] / 1024:6.1f} MiB,"
            f" with the room parsed {theirs['memory_of_room_kib'] / 1024:6.1f} MiB"
        )
    agree = len(answers) == 1
    print(row + ("" if agree else "  ANSWERS DIFFER"), flush=True)
    for each in directory.iterdir():
        each.unlink()
    return agree


def wanted(name: str, versions: list[str]) -> Iterator[ForkedRoom]:
    """The rooms that an argument names."""
    if name in GENERATED:
        for version in versions:
            yield GENERATED[name](version)
    else:
        yield forked_rooms.read(Path(name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("rooms", nargs="*", help=f"a file, or one of {', '.join(GENERATED)}")
    parser.add_argument("--versions", default="10,12", help="room versions of the rooms that are made here")
    parser.add_argument("--synapse", metavar="PYTHON", help="a Python that has matrix-synapse")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        path, version, *roots = args.measure
        print(json.dumps(asyncio.run(measure(Path(path), version, [int(root) for root in roots]))))
        return 0
    chosen = args.rooms or [*map(str, sorted((ROOT / "tests" / "golden").glob("medium*.json.gz"))), *GENERATED]
    agree = True
    with tempfile.TemporaryDirectory(prefix="tinyserver-bench-") as directory:
        for name in chosen:
            for room in wanted(name, args.versions.split(",")):
                agree &= compare(room, Path(directory), args.synapse)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
