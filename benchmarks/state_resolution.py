#!/usr/bin/env python3
"""Benchmark of state resolution over the golden rooms.

    python benchmarks/state_resolution.py [--repeat N] [NAME ...]     # e.g. medium-v12; default: all of tests/golden

Per room it prints the seconds of the resolver with events in memory as Python objects, the seconds with parsing (events
are JSON bytes until the resolver asks for them, as in the server), the peak of Python's memory during the latter, and
whether the answer agrees with the golden one.

The functions `prepare` and `resolve` also make this file a plug-in for other drivers: they take events by ID and whole
states, and give back the whole resolved state.
"""

import argparse
import resource
import statistics
import sys
import time
import tracemalloc
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402

from benchmarks import forked_rooms  # noqa: E402
from tinyserver.protocol import state_resolution  # noqa: E402
from tinyserver.protocol.auth_state import StateMapKey  # noqa: E402
from tinyserver.protocol.events import Event  # noqa: E402
from tinyserver.protocol.room_versions import RoomVersion, get_room_version  # noqa: E402
from tinyserver.protocol.state_resolution import EventHeader  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"


class Room:
    """The events of a room in memory, numbered so that each comes after its auth events: an ``EventSource``.

    :param as_bytes: keep the events as JSON, and parse each time one is asked for.
    """

    def __init__(self, version: RoomVersion, events: Mapping[str, dict[str, Any]], as_bytes: bool = False) -> None:
        self.version = version
        self.as_bytes = as_bytes
        self.ids = list(forked_rooms.after_auth_events(events))
        self.nids = {event_id: nid for nid, event_id in enumerate(self.ids)}
        self.pdus: list[Any] = [orjson.dumps(events[i]) if as_bytes else events[i] for i in self.ids]
        self.edges = [tuple(self.nids[auth] for auth in forked_rooms.auth_ids(events[i])) for i in self.ids]
        self.event_keys = [(events[i]["type"], events[i]["state_key"]) for i in self.ids]
        self.event_headers = [EventHeader(events[i]["origin_server_ts"], i, events[i]["sender"]) for i in self.ids]

    def auth_nids(self, nids: Collection[int], /) -> dict[int, Sequence[int]]:
        return {nid: self.edges[nid] for nid in nids}

    def keys(self, nids: Collection[int], /) -> dict[int, StateMapKey]:
        return {nid: self.event_keys[nid] for nid in nids}

    def headers(self, nids: Collection[int], /) -> dict[int, EventHeader]:
        return {nid: self.event_headers[nid] for nid in nids}

    def events(self, nids: Collection[int], /) -> dict[int, Event]:
        read = orjson.loads if self.as_bytes else _same
        return {nid: Event.from_trusted(read(self.pdus[nid]), self.version, self.ids[nid]) for nid in nids}

    def rejected(self, _nids: Collection[int], /) -> frozenset[int]:
        return frozenset()


class WholeStates:
    """States which are there as whole dictionaries: a ``StateSets``."""

    def __init__(self, states: Sequence[Mapping[StateMapKey, int]]) -> None:
        first = states[0]
        self.common = dict(first.items() & states[1].items()) if len(states) > 1 else dict(first)
        for state in states[2:]:
            self.common = dict(self.common.items() & state.items())
        keys = {key for state in states for key in state.keys() - self.common.keys()}
        self.conflicted = {key: tuple(state.get(key) for state in states) for key in keys}

    def unconflicted(self, key: StateMapKey, /) -> int | None:
        return self.common.get(key)

    def unconflicted_newer_than(self, nid: int, /) -> Iterable[int]:
        return takewhile(lambda newer: newer > nid, sorted(self.common.values(), reverse=True))


def prepare(room_version: str, events: Mapping[str, dict[str, Any]]) -> Room:
    """The room as the resolver wants it."""
    return Room(get_room_version(str(room_version)), events)


def resolve(room_version: str, state_sets: Sequence[Mapping[StateMapKey, str]], events: Room) -> dict[StateMapKey, str]:
    """Resolve whole states with values that are event IDs."""
    nids = events.nids
    states = WholeStates([{key: nids[event_id] for key, event_id in state.items()} for state in state_sets])
    resolved = state_resolution.resolve(events.version, states, events)
    whole = states.common | {key: nid for key, nid in resolved.items() if nid is not None}
    return {key: events.ids[nid] for key, nid in whole.items()}


def _same(value: Any) -> Any:
    return value


def _median_seconds(room: Room, states: WholeStates, repeat: int) -> float:
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        state_resolution.resolve(room.version, states, room)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _run(path: Path, repeat: int) -> bool:
    golden = forked_rooms.read(path)
    version, events, expected = golden.version.identifier, golden.events, golden.resolved
    key = {event_id: (event["type"], event["state_key"]) for event_id, event in events.items()}
    by_id = [{key[event_id]: event_id for event_id in state} for state in golden.states]
    room = prepare(version, events)
    agrees = set(resolve(version, by_id, room).values()) == expected
    states = WholeStates([{key: room.nids[event_id] for key, event_id in state.items()} for state in by_id])
    alone = _median_seconds(room, states, repeat)
    stored = Room(room.version, events, as_bytes=True)
    whole = _median_seconds(stored, states, repeat)
    tracemalloc.start()
    state_resolution.resolve(room.version, states, stored)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"{path.name.removesuffix('.json.gz'):14} {len(events):6} events {len(states.conflicted):5} conflicted keys"
        f"  {alone * 1000:8.2f} ms  with parsing {whole * 1000:8.2f} ms  peak {peak / 1e6:6.2f} MB"
        f"  {'agrees' if agrees else 'DIFFERS'}"
    )
    return agrees


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", help="golden rooms, for example medium-v12")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    paths = [GOLDEN / f"{name}.json.gz" for name in args.names] or sorted(GOLDEN.glob("*.json.gz"))
    agree = [_run(path, args.repeat) for path in paths]
    print(
        f"{sum(agree)} of {len(agree)} rooms agree; resident memory at most "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB (the rooms themselves included)"
    )
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
