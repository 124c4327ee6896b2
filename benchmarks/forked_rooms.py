"""Rooms that have come apart, for benchmarks: read from files, or made here, always the same.

A room is its events in an order in which each comes after what it cites, and the states at the ends of its forks.
`GENERATED` names the rooms that are made here; they have 50,000 members, true hashes and true signatures.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyserver.protocol.auth_rules import auth_keys_for
from tinyserver.protocol.event_hashes import add_content_hash, event_id_of, sign_event
from tinyserver.protocol.events import build_pdu
from tinyserver.protocol.room_versions import RoomVersion, get_room_version
from tinyserver.protocol.signing import SigningKey

Key = tuple[str, str]
MEMBERS = 50_000
MODERATORS = 40
SERVERS = 100
CREATOR = "@user0:s0.test"
KEY = SigningKey("k", bytes(32))


@dataclass
class ForkedRoom:
    """A room to resolve: `events` by ID, parents of the auth graph first; `resolved` is the right answer, if known."""

    name: str
    version: RoomVersion
    events: dict[str, dict[str, Any]]
    states: list[list[str]]
    resolved: set[str] | None = None

    def write(self, path: Path) -> None:
        """Write the room as JSON lines."""
        with path.open("w") as file:

            def put(**line: Any) -> None:
                file.write(json.dumps(line, separators=(",", ":")) + "\n")

            put(kind="meta", case=self.name, room_version=self.version.identifier)
            for event_id, event in self.events.items():
                put(kind="event", event_id=event_id, event=event)
            for state in self.states:
                put(kind="state_set", state=state)
            if self.resolved is not None:
                put(kind="resolved", state=sorted(self.resolved))


def read(path: Path) -> ForkedRoom:
    """A room from a golden file (`NAME.json.gz`) or from JSON lines (`NAME.jsonl`)."""
    name = path.name.removesuffix(".json.gz").removesuffix(".jsonl")
    if path.suffix == ".gz":
        data = json.loads(gzip.decompress(path.read_bytes()))
    else:
        data = {"events": {}, "state_sets": []}
        with path.open() as file:
            for line in map(json.loads, file):
                if line["kind"] == "event":
                    data["events"][line["event_id"]] = line["event"]
                elif line["kind"] == "state_set":
                    data["state_sets"].append(line["state"])
                elif line["kind"] == "resolved":
                    data["resolved"] = line["state"]
                else:
                    data["meta"] = line
    version = get_room_version(data["meta"]["room_version"])
    events = {event_id: data["events"][event_id] for event_id in after_auth_events(data["events"])}
    resolved = data.get("resolved")
    return ForkedRoom(name, version, events, data["state_sets"], None if resolved is None else set(resolved))


def auth_ids(pdu: Mapping[str, Any]) -> Iterator[str]:
    """The IDs of a PDU's auth events."""
    for reference in pdu["auth_events"]:
        yield reference if isinstance(reference, str) else reference[0]


def after_auth_events(events: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The event IDs, each after those of its auth events."""
    done: set[str] = set()
    for start in events:
        todo = [start]
        while todo:
            missing = [auth for auth in auth_ids(events[todo[-1]]) if auth not in done]
            if missing:
                todo.extend(missing)
                continue
            event_id = todo.pop()
            if event_id not in done:
                done.add(event_id)
                yield event_id


# --- rooms made here --------------------------------------------------------------------------------------------------


@dataclass
class Branch:
    """One view of a room that is being made: its state, its newest event and its clock."""

    version: RoomVersion
    events: dict[str, dict[str, Any]]
    room_id: str | None = None
    state: dict[Key, str] = field(default_factory=dict)
    tip: str | None = None
    depth: int = 0
    now: int = 1_700_000_000_000

    def split(self) -> Branch:
        """Another view of the same room, from here on."""
        return Branch(self.version, self.events, self.room_id, dict(self.state), self.tip, self.depth, self.now)

    def send(
        self,
        sender: str,
        event_type: str,
        content: Mapping[str, Any],
        state_key: str = "",
        cite: Mapping[Key, str] | None = None,
    ) -> str:
        """Add a state event that follows the newest one; `cite` names auth events other than those of the state."""
        keys = auth_keys_for(self.version, event_type, sender, state_key, content)
        cited = {key: self.state[key] for key in keys if key in self.state} | dict(cite or {})
        pdu = build_pdu(
            self.version,
            room_id=self.room_id,
            type=event_type,
            sender=sender,
            state_key=state_key,
            content=content,
            prev_events=[] if self.tip is None else [self.tip],
            auth_events=[cited[key] for key in sorted(cited)],
            depth=self.depth + 1,
            origin_server_ts=self.now,
        )
        server = sender.partition(":")[2]
        signed = sign_event(add_content_hash(pdu), self.version, server, KEY)
        event_id = event_id_of(signed, self.version)
        self.events[event_id] = signed
        self.state[event_type, state_key] = self.tip = event_id
        self.depth += 1
        self.now += 1000
        if self.room_id is None:
            self.room_id = "!" + event_id[1:]
        return event_id

    def member(self, sender: str, user: str, membership: str, **more: Any) -> str:
        """Add a member event."""
        return self.send(sender, "m.room.member", {"membership": membership, **more}, user)

    def power(self, levels: Mapping[str, int]) -> str:
        """The creator sets the power levels."""
        return self.send(
            CREATOR, "m.room.power_levels", {"users": dict(levels), "ban": 50, "kick": 50, "state_default": 50}
        )


def user(number: int, servers: int = SERVERS) -> str:
    """A user ID."""
    return f"@user{number}:s{number % servers}.test"


def crowd(version: str, members: int = MEMBERS, servers: int = SERVERS) -> tuple[Branch, dict[str, int]]:
    """A public room that its members have joined one after the other, and its moderators, appointed meanwhile."""
    room_version = get_room_version(version)
    hashed = room_version.room_id_is_create_hash
    room = Branch(room_version, {}, None if hashed else "!crowd:s0.test")
    room.send(CREATOR, "m.room.create", {"room_version": version})
    room.member(CREATOR, CREATOR, "join", displayname="User 0")
    levels = {} if room_version.privileged_creators else {CREATOR: 100}
    room.power(levels)
    room.send(CREATOR, "m.room.join_rules", {"join_rule": "public"})
    room.send(CREATOR, "m.room.history_visibility", {"history_visibility": "shared"})
    for number in range(1, members):
        member = user(number, servers)
        room.member(member, member, "join", displayname=f"User {number}")
        if number % max(members // MODERATORS, 1) == 0:
            levels[member] = 50
            room.power(levels)
    return room, levels


def _bustle(branch: Branch, rng: random.Random, moderators: list[str], steps: int) -> None:
    """Renames, newcomers, leaves and bans."""
    ordinary = [number for number in range(1, MEMBERS) if number % (MEMBERS // MODERATORS)]
    for number in rng.sample(ordinary, steps):
        kind = rng.choice(("rename", "rename", "rename", "newcomer", "leave", "ban"))
        if kind == "rename":
            branch.member(user(number), user(number), "join", displayname=f"Renamed {number}")
        elif kind == "newcomer":
            newcomer = user(MEMBERS + number)
            branch.member(newcomer, newcomer, "join", displayname="New")
        elif kind == "leave":
            branch.member(user(number), user(number), "leave")
        else:
            branch.member(rng.choice(moderators), user(number), "ban", reason="rude")


def recent_fork(version: str) -> ForkedRoom:
    """Two servers miss each other's last twenty events."""
    room, levels = crowd(version)
    here, there = room, room.split()
    moderators = [name for name in levels if name != CREATOR]
    rng = random.Random(1)
    for branch in (here, there):
        _bustle(branch, rng, moderators, 18)
        branch.send(moderators[1], "m.room.topic", {"topic": f"topic {branch.tip}"})
    here.power({**levels, moderators[0]: 75})
    there.member(CREATOR, moderators[3], "ban")
    return _room("recent-fork", here, there)


def old_fork(version: str) -> ForkedRoom:
    """One server has been away while a thousand member events and five power levels were sent; it comes back with a
    few events of its own, one of which is a ban."""
    room, levels = crowd(version)
    here, there = room, room.split()
    moderators = [name for name in levels if name != CREATOR]
    rng = random.Random(2)
    for number in range(5):
        _bustle(here, rng, moderators, 200)
        levels[moderators[number]] = 75
        here.power(levels)
    _bustle(there, rng, moderators, 4)
    there.member(moderators[7], user(3), "ban")
    return _room("old-fork", here, there)


def far_citing_fork(version: str) -> ForkedRoom:
    """As little as in a recent fork, but one event cites a member event that was replaced long ago, so that much of the
    room has to be asked whether it cites it too."""
    room, levels = crowd(version)
    moderators = [name for name in levels if name != CREATOR]
    old = room.state["m.room.member", moderators[0]]
    room.member(moderators[0], moderators[0], "join", displayname="Renamed")
    here, there = room, room.split()
    rng = random.Random(3)
    for branch in (here, there):
        _bustle(branch, rng, moderators, 10)
    here.send(moderators[0], "m.room.topic", {"topic": "x"}, cite={("m.room.member", moderators[0]): old})
    there.power({**levels, moderators[0]: 75})
    return _room("far-citing-fork", here, there)


def _room(name: str, *branches: Branch) -> ForkedRoom:
    version = branches[0].version
    return ForkedRoom(
        f"{name}-v{version.identifier}", version, branches[0].events, [list(b.state.values()) for b in branches]
    )


GENERATED: Mapping[str, Callable[[str], ForkedRoom]] = {
    "recent-fork": recent_fork,
    "old-fork": old_fork,
    "far-citing-fork": far_citing_fork,
}
