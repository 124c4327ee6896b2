"""Rooms in memory for the tests of authorisation rules and state resolution: branches of events, and their states."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import takewhile
from typing import Any

from tinyserver.protocol.auth_rules import auth_keys_for, check_auth
from tinyserver.protocol.auth_state import AuthError, StateMapKey
from tinyserver.protocol.base64 import encode_urlsafe
from tinyserver.protocol.events import Event, build_pdu
from tinyserver.protocol.room_versions import RoomVersion, get_room_version
from tinyserver.protocol.state_resolution import EventHeader, resolve

ALICE, BOB, CAROL, DAVE, EVE = (f"@{name}:{name[0]}.test" for name in ("alice", "bob", "carol", "dave", "eve"))


class Room:
    """All events of a room, in the order in which they were made (an event's number is its place in that order)."""

    def __init__(self, version: str, salt: str = "") -> None:
        self.version: RoomVersion = get_room_version(version)
        self.events: dict[str, Event] = {}
        self.rejected: set[str] = set()
        self.salt = salt
        self.room_id: str | None = None if self.version.room_id_is_create_hash else "!room:a.test"

    def create(self, sender: str = ALICE, **content: Any) -> "Branch":
        """The room's first event, and the branch that begins with it."""
        branch = Branch(self, {}, None)
        content.setdefault("room_version", self.version.identifier)
        if self.version.creator_in_content:
            content.setdefault("creator", sender)
        event = branch.make(sender, "m.room.create", content)
        if self.room_id is None:
            self.room_id = event.room_id
        branch.add(event)
        return branch

    def new_id(self) -> str:
        """An event ID, as good as random."""
        number = f"{self.salt}{len(self.events)}".encode()
        if self.version.event_id_in_pdu:
            return f"${sha256(number).hexdigest()[:12]}:a.test"
        return "$" + encode_urlsafe(sha256(number).digest())


class Branch:
    """One view of a room: the state at its newest event."""

    def __init__(self, room: Room, state: Mapping[StateMapKey, Event], tip: Event | None) -> None:
        self.room = room
        self.state = dict(state)
        self.tip = tip
        self.now = 0 if tip is None else tip.origin_server_ts

    def branch(self) -> "Branch":
        """Another branch from here."""
        return Branch(self.room, self.state, self.tip)

    def make(
        self,
        sender: str,
        event_type: str,
        content: dict[str, Any] | None = None,
        state_key: str | None = "",
        ts: int | None = None,
        prev_events: Sequence[str] | None = None,
        redacts: str | None = None,
    ) -> Event:
        """An event as this branch would send it, not checked and not added."""
        room, content = self.room, content or {}
        keys = auth_keys_for(room.version, event_type, sender, state_key, content)
        auth_events = [self.state[key].event_id for key in sorted(keys) if key in self.state]
        prev_events = ([self.tip.event_id] if self.tip else []) if prev_events is None else prev_events
        event_id = room.new_id()
        pdu = build_pdu(
            room.version,
            room_id=room.room_id,
            type=event_type,
            sender=sender,
            state_key=state_key,
            content=content,
            prev_events=prev_events,
            auth_events=auth_events,
            depth=self.tip.depth + 1 if self.tip else 1,
            origin_server_ts=self.now + 1000 if ts is None else ts,
            redacts=redacts,
            event_id=event_id if room.version.event_id_in_pdu else None,
            reference_hashes=dict.fromkeys((*auth_events, *prev_events), "hash"),
        )
        return Event.from_trusted(pdu, room.version, event_id)

    def add(self, event: Event) -> Event:
        """Make an event the newest of this branch."""
        self.room.events[event.event_id] = event
        if event.is_state:
            self.state[event.key] = event
        self.tip, self.now = event, event.origin_server_ts
        return event

    def send(self, sender: str, event_type: str, content: dict[str, Any] | None = None, **more: Any) -> Event:
        """Make an event, check it against the state of this branch, and add it.

        :raises AuthError: the rules refuse it.
        """
        event = self.make(sender, event_type, content, **more)
        check_auth(event, self.state)
        return self.add(event)

    def member(self, sender: str, target: str, membership: str, **more: Any) -> Event:
        return self.send(sender, "m.room.member", {"membership": membership, **more}, state_key=target)

    def join(self, user: str, **more: Any) -> Event:
        return self.member(user, user, "join", **more)

    def power(self, sender: str, users: dict[str, int] | None = None, **levels: Any) -> Event:
        return self.send(sender, "m.room.power_levels", {"users": users or {}, **levels})

    def join_rule(self, sender: str, rule: str) -> Event:
        return self.send(sender, "m.room.join_rules", {"join_rule": rule})


def furnished(version: str, users: Iterable[str] = (), rule: str = "public", **create: Any) -> Branch:
    """A room of Alice's with power levels and a join rule, and with these users in it."""
    branch = Room(version).create(**create)
    branch.join(ALICE)
    branch.power(ALICE, {} if branch.room.version.privileged_creators else {ALICE: 100})
    branch.join_rule(ALICE, "public")
    for user in users:
        branch.join(user)
    if rule != "public":
        branch.join_rule(ALICE, rule)
    return branch


class Numbered:
    """The events of a room by number: an ``EventSource``. ``order`` are the event IDs, each after its auth events."""

    def __init__(self, room: Room, order: Sequence[str] | None = None) -> None:
        self.ids = list(room.events) if order is None else list(order)
        self.nids = {event_id: nid for nid, event_id in enumerate(self.ids, 1)}
        self.by_nid = {nid: room.events[event_id] for event_id, nid in self.nids.items()}
        self.rejected_nids = {self.nids[event_id] for event_id in room.rejected}
        self.parsed = 0

    def auth_nids(self, nids: Collection[int], /) -> dict[int, list[int]]:
        return {nid: [self.nids[auth] for auth in self.by_nid[nid].auth_event_ids] for nid in nids}

    def keys(self, nids: Collection[int], /) -> dict[int, StateMapKey]:
        return {nid: self.by_nid[nid].key for nid in nids}

    def headers(self, nids: Collection[int], /) -> dict[int, EventHeader]:
        found = {nid: self.by_nid[nid] for nid in nids}
        return {nid: EventHeader(event.origin_server_ts, event.event_id, event.sender) for nid, event in found.items()}

    def events(self, nids: Collection[int], /) -> dict[int, Event]:
        self.parsed += len(nids)
        return {nid: self.by_nid[nid] for nid in nids}

    def rejected(self, nids: Collection[int], /) -> set[int]:
        return self.rejected_nids & set(nids)


class States:
    """States of numbers: a ``StateSets`` that counts what is read of the unconflicted part."""

    def __init__(self, states: Sequence[Mapping[StateMapKey, int]]) -> None:
        keys = {key for state in states for key in state}
        values = {key: tuple(state.get(key) for state in states) for key in keys}
        self.conflicted = {key: found for key, found in values.items() if len(set(found)) > 1}
        self.common = {key: states[0][key] for key in keys - self.conflicted.keys()}
        self.read = 0

    def unconflicted(self, key: StateMapKey, /) -> int | None:
        return self.common.get(key)

    def unconflicted_newer_than(self, nid: int, /) -> Iterable[int]:
        for newer in takewhile(lambda common: common > nid, sorted(self.common.values(), reverse=True)):
            self.read += 1
            yield newer


def resolved_ids(
    room: Room, states: Sequence[Mapping[StateMapKey, str]], order: Sequence[str] | None = None
) -> dict[StateMapKey, str]:
    """Resolve whole states of event IDs into a whole state."""
    source = Numbered(room, order)
    sets = States([{key: source.nids[event_id] for key, event_id in state.items()} for state in states])
    resolved = resolve(room.version, sets, source)
    assert sets.conflicted.keys() <= resolved.keys()
    assert not sets.common.keys() & resolved.keys()
    whole = sets.common | {key: nid for key, nid in resolved.items() if nid is not None}
    return {key: source.ids[nid - 1] for key, nid in whole.items()}


def ids(state: Mapping[StateMapKey, Event]) -> dict[StateMapKey, str]:
    return {key: event.event_id for key, event in state.items()}


def random_order(room: Room, rng: random.Random) -> list[str]:
    """The event IDs of a room in some order in which each comes after its auth events."""
    left = {event_id: set(event.auth_event_ids) for event_id, event in room.events.items()}
    order: list[str] = []
    while left:
        ready = [event_id for event_id, auth in left.items() if not auth]
        chosen = rng.choice(ready)
        order.append(chosen)
        del left[chosen]
        for auth in left.values():
            auth.discard(chosen)
    return order


class RandomRoom:
    """A small room that forks and goes on at random; every event is allowed where it was sent."""

    USERS = (ALICE, BOB, CAROL, DAVE, EVE)

    def __init__(self, version: str, seed: int, steps: int = 40) -> None:
        self.rng = random.Random(seed)
        self.room = Room(version, salt=f"{seed}/")
        trunk = self.room.create()
        trunk.join(ALICE)
        others = {} if self.room.version.privileged_creators else {ALICE: 100}
        trunk.power(ALICE, {**others, BOB: 50})
        trunk.join_rule(ALICE, "public")
        self.branches = [trunk]
        self.snapshots: list[dict[StateMapKey, str]] = []
        for _ in range(steps):
            branch = self.rng.choice(self.branches)
            if self.rng.random() < 0.12 and len(self.branches) < 5:
                branch = branch.branch()
                self.branches.append(branch)
            branch.now += self.rng.choice((0, 0, 1000, -1000, 20_000, -20_000))
            self.act(branch)
            if self.rng.random() < 0.15:
                self.snapshots.append(ids(branch.state))

    def states(self) -> list[dict[StateMapKey, str]]:
        """A few states that the room has or had on its branches; at times made to agree here and there, as states are
        which have been resolved before."""
        rng = self.rng
        found = [ids(branch.state) for branch in self.branches] + self.snapshots
        found = rng.sample(found, min(len(found), rng.randint(2, 4)))
        if rng.random() < 0.5:
            agreed = {key: event_id for state in found for key, event_id in state.items() if rng.random() < 0.4}
            found = [state | agreed for state in found]
        return found

    def act(self, branch: Branch) -> None:
        rng = self.rng
        actor, user = rng.choice(self.USERS), rng.choice(self.USERS)
        ts = branch.now + rng.choice((0, 1000))
        for _ in range(4):
            kind = rng.choice(("join", "join", "member", "member", "topic", "power", "rule", "own"))
            try:
                if kind == "join":
                    branch.send(user, "m.room.member", {"membership": "join"}, state_key=user, ts=ts)
                elif kind == "member":
                    membership = rng.choice(("leave", "ban", "invite", "leave"))
                    branch.send(actor, "m.room.member", {"membership": membership}, state_key=user, ts=ts)
                elif kind == "topic":
                    branch.send(actor, rng.choice(("m.room.topic", "m.room.name")), {}, ts=ts)
                elif kind == "power":
                    self.change_power(branch, actor, user, ts)
                elif kind == "rule":
                    rule = rng.choice(("public", "invite", "knock"))
                    branch.send(actor, "m.room.join_rules", {"join_rule": rule}, ts=ts)
                else:
                    branch.send(actor, "test.own", {}, state_key=actor, ts=ts)
            except AuthError:
                continue
            return

    def change_power(self, branch: Branch, actor: str, user: str, ts: int) -> None:
        content = branch.state["m.room.power_levels", ""].content
        if self.rng.random() < 0.3:
            content = {**content, self.rng.choice(("state_default", "ban", "invite")): self.rng.choice((0, 50, 75))}
        else:
            content = {**content, "users": {**content["users"], user: self.rng.choice((0, 50, 75, 100))}}
        branch.send(actor, "m.room.power_levels", content, ts=ts)
