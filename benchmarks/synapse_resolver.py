"""Synapse's bare state resolver on one room, for comparison: run by a Python that has matrix-synapse.

    python benchmarks/synapse_resolver.py ROOM.jsonl      # a room as `forked_rooms` writes it

Its store is a dictionary. Prints one JSON object: `seconds` with all events parsed before (median of three),
`memory_kib` that a first resolution needs beyond the events as JSON text if only those that it asks for are parsed,
`memory_of_room_kib` with all events parsed before, and `digest` over the event IDs of the resolved state.
"""

import gc
import hashlib
import json
import statistics
import sys
import time
from pathlib import Path

import synapse.event_auth  # noqa: F401 - the state package can be imported only after it
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.events import make_event_from_dict
from synapse.state import v2
from synapse.storage.databases.main.event_federation import StateDifference


class Store:
    """What the resolver asks of its storage, from memory. `sleep` is what it asks of a clock."""

    def __init__(self, version, texts, edges):
        self.version, self.texts, self.edges = version, texts, edges
        self.parsed = {}

    async def sleep(self, _duration):
        return None

    async def get_events(self, event_ids, **_):
        return {event_id: self.event(event_id) for event_id in event_ids if event_id in self.texts}

    def event(self, event_id):
        if event_id not in self.parsed:
            self.parsed[event_id] = make_event_from_dict(json.loads(self.texts[event_id]), self.version)
        return self.parsed[event_id]

    def reach(self, start, edges):
        seen, todo = set(start), list(start)
        while todo:
            for following in edges.get(todo.pop(), ()):
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        return seen

    async def get_auth_chain_difference(self, _room_id, states, conflicted, _more):
        chains = [self.reach(state, self.edges) for state in states]
        between = None
        if conflicted is not None:
            back = self.reach(conflicted, self.edges)
            forward = {}
            for event_id in back:
                for auth in self.edges[event_id]:
                    forward.setdefault(auth, []).append(event_id)
            between = back & self.reach(conflicted, forward)
        difference = set.union(*chains) - set.intersection(*chains)
        return StateDifference(auth_difference=difference, conflicted_subgraph=between)


def resolve(store, room_id, states):
    job = v2.resolve_events_with_store(store, room_id, store.version, [dict(s) for s in states], None, store)
    try:
        while True:
            job.send(None)
    except StopIteration as end:
        return dict(end.value)


def memory(name):
    status = Path("/proc/self/status").read_text()
    return int(status.partition(name + ":")[2].split()[0])


def main():
    texts, edges, keys, states = {}, {}, {}, []
    with Path(sys.argv[1]).open() as file:
        for line in map(json.loads, file):
            if line["kind"] == "event":
                event_id, event = line["event_id"], line["event"]
                texts[event_id] = json.dumps(event, separators=(",", ":"))
                edges[event_id] = tuple(event["auth_events"])
                keys[event_id] = (event["type"], event["state_key"])
                room_id = event.get("room_id") or "!" + event_id[1:]
            elif line["kind"] == "state_set":
                states.append({keys[event_id]: event_id for event_id in line["state"]})
            elif line["kind"] == "meta":
                version = KNOWN_ROOM_VERSIONS[line["room_version"]]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    resolved = resolve(Store(version, texts, edges), room_id, states)
    needed = memory("VmHWM") - before
    seconds = []
    for _ in range(3):
        store = Store(version, texts, edges)
        for event_id in texts:
            store.event(event_id).event_id  # noqa: B018 - computed once asked for
        began = time.perf_counter()
        resolve(store, room_id, states)
        seconds.append(time.perf_counter() - began)
        if len(seconds) == 1:
            whole = memory("VmHWM") - before
        store = None
    digest = hashlib.sha256("\n".join(sorted(resolved.values())).encode()).hexdigest()
    figures = {"seconds": statistics.median(seconds), "memory_kib": needed, "memory_of_room_kib": whole}
    print(json.dumps({**figures, "digest": digest}))


main()
