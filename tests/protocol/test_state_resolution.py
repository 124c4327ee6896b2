"""State resolution of versions 2 and 2.1: golden rooms, random rooms against the specification's words, and costs."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.room_builder import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    Branch,
    Numbered,
    RandomRoom,
    Room,
    States,
    furnished,
    ids,
    random_order,
    resolved_ids,
)
from tests.protocol.spec_state_resolution import SpecResolver
from tinyserver.protocol.auth_state import StateMapKey
from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import get_room_version
from tinyserver.protocol.state_resolution import EventHeader, resolve
from tinyserver.protocol.state_resolution.auth_difference import auth_difference, conflicted_events, conflicted_subgraph
from tinyserver.protocol.state_resolution.model import AuthGraph, EventCache

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("*.json.gz"))
VERSIONS = st.sampled_from(("2", "3", "6", "7", "9", "10", "11", "12"))
SEEDS = st.integers(0, 2**32)
TOPIC, POWER_LEVELS, JOIN_RULES = ("m.room.topic", ""), ("m.room.power_levels", ""), ("m.room.join_rules", "")


def member(user: str) -> StateMapKey:
    return ("m.room.member", user)


# --- Golden rooms


def read_golden(path: Path) -> tuple[Room, list[dict[StateMapKey, str]], set[str]]:
    data = json.loads(gzip.decompress(path.read_bytes()))
    version = get_room_version(data["meta"]["room_version"])
    room = Room(version.identifier)
    for event_id, pdu in data["events"].items():
        room.events[event_id] = Event.from_trusted(pdu, version, event_id)
    states = [{room.events[i].key: i for i in event_ids} for event_ids in data["state_sets"]]
    return room, states, set(data["resolved"])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name.removesuffix(".json.gz"))
def test_golden_room(path: Path) -> None:
    room, states, expected = read_golden(path)
    assert set(resolved_ids(room, states).values()) == expected


def test_there_are_golden_rooms() -> None:
    assert len(GOLDEN) == 24


@pytest.mark.parametrize(
    "name",
    [
        "tiny-0-v10",
        "tiny-3-v12",
        "small-v10",
        "small-v12",
        "own-events-v10",
        "step-1-chains-v10",
        "agreed-power-levels-v12",
    ],
)
def test_the_oracle_agrees_with_golden_rooms(name: str) -> None:
    room, states, expected = read_golden(GOLDEN[0].parent / f"{name}.json.gz")
    assert set(SpecResolver(room.events).resolve(states).values()) == expected


# --- Random rooms


@settings(max_examples=300, deadline=None)
@given(VERSIONS, SEEDS)
def test_agrees_with_the_words_of_the_specification(version: str, seed: int) -> None:
    random_room = RandomRoom(version, seed)
    states = random_room.states()
    expected = SpecResolver(random_room.room.events).resolve(states)
    assert resolved_ids(random_room.room, states) == expected


@settings(max_examples=60, deadline=None)
@given(VERSIONS, SEEDS)
def test_rejected_auth_events_are_not_used(version: str, seed: int) -> None:
    random_room = RandomRoom(version, seed)
    room = random_room.room
    room.rejected = {i for i, event in room.events.items() if event.depth > 2 and random_room.rng.random() < 0.2}
    states = random_room.states()
    assert resolved_ids(room, states) == SpecResolver(room.events, room.rejected).resolve(states)


@settings(max_examples=60, deadline=None)
@given(VERSIONS, SEEDS)
def test_neither_the_order_of_states_nor_the_numbering_matters(version: str, seed: int) -> None:
    random_room = RandomRoom(version, seed)
    states = random_room.states()
    expected = resolved_ids(random_room.room, states)
    random_room.rng.shuffle(states)
    assert resolved_ids(random_room.room, states, random_order(random_room.room, random_room.rng)) == expected
    assert resolved_ids(random_room.room, [*states, states[0]]) == expected


@settings(max_examples=30, deadline=None)
@given(st.one_of(VERSIONS, st.just("1")), SEEDS)
def test_equal_states_stay_what_they_are(version: str, seed: int) -> None:
    random_room = RandomRoom(version, seed, steps=15)
    state = random_room.states()[0]
    assert resolved_ids(random_room.room, [state, state]) == state
    source = Numbered(random_room.room)
    assert resolve(random_room.room.version, States([{}, {}]), source) == {}
    assert source.parsed == 0


# --- Auth difference and subgraph over graphs of any shape


class Graph:
    """Numbers with random auth edges and keys, and random states over them."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        size = rng.randint(2, 40)
        self.edges = {n: rng.sample(range(1, n), min(n - 1, rng.randint(0, 3))) for n in range(1, size + 1)}
        self.key_of = {n: ("k", str(rng.randrange(size // 2 + 1))) for n in self.edges}
        by_key: dict[StateMapKey, list[int | None]] = {}
        for n, key in self.key_of.items():
            by_key.setdefault(key, [None]).append(n)
        self.states: list[dict[StateMapKey, int]] = [{} for _ in range(rng.randint(2, 4))]
        for key, values in by_key.items():
            same = rng.choice(values) if rng.random() < 0.7 else 0
            for state in self.states:
                value = rng.choice(values) if same == 0 else same
                if value is not None:
                    state[key] = value

    def auth_nids(self, nids: Any, /) -> dict[int, list[int]]:
        return {nid: self.edges[nid] for nid in nids}

    def keys(self, nids: Any, /) -> dict[int, StateMapKey]:
        return {nid: self.key_of[nid] for nid in nids}

    def headers(self, nids: Any, /) -> dict[int, EventHeader]:
        raise AssertionError("edges and keys are enough")

    def events(self, nids: Any, /) -> dict[int, Event]:
        raise AssertionError("edges and keys are enough")

    def rejected(self, nids: Any, /) -> set[int]:
        raise AssertionError("edges and keys are enough")

    def reach(self, start: Any) -> set[int]:
        seen, todo = set(), list(start)
        while todo:
            nid = todo.pop()
            if nid not in seen:
                seen.add(nid)
                todo.extend(self.edges[nid])
        return seen


@settings(max_examples=400, deadline=None)
@given(SEEDS)
def test_auth_difference_is_exact(seed: int) -> None:
    graph = Graph(seed)
    sets = States(graph.states)
    chains = [graph.reach(state.values()) for state in graph.states]
    conflicted = conflicted_events(sets)
    expected = set.union(*chains) - set.intersection(*chains)
    assert auth_difference(AuthGraph(graph), sets) - conflicted == expected - conflicted


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_conflicted_subgraph_is_exact(seed: int) -> None:
    graph = Graph(seed)
    conflicted = conflicted_events(States(graph.states))
    expected = {nid for nid in graph.reach(conflicted) if graph.reach([nid]) & conflicted}
    assert conflicted_subgraph(AuthGraph(graph), conflicted) == expected


def test_the_rest_is_read_as_far_as_there_is_doubt() -> None:
    graph = Graph(0)
    # 1: in doubt, cited by 3 (conflicted, in one state) and, far behind the first batch, by 2 (in both states)
    graph.edges = {1: [], 2: [1], 3: [1], **{nid: [] for nid in range(4, 1000)}}
    graph.key_of = {nid: ("k", str(nid)) for nid in graph.edges}
    common = {graph.key_of[nid]: nid for nid in graph.edges if nid not in (1, 3)}
    sets = States([common, {**common, graph.key_of[3]: 3}])
    assert auth_difference(AuthGraph(graph), sets) <= {3}
    assert sets.read == 997
    del common[graph.key_of[2]]
    sets = States([common, {**common, graph.key_of[3]: 3}])
    assert auth_difference(AuthGraph(graph), sets) >= {1}


# --- What the algorithm is for


@pytest.fixture(params=["2", "5", "8", "10", "11", "12"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def merge(*branches: Branch) -> dict[StateMapKey, str]:
    room = branches[0].room
    return resolved_ids(room, [ids(branch.state) for branch in branches])


def test_a_ban_wins_over_what_the_banned_did_meanwhile(version: str) -> None:
    trunk = furnished(version, [BOB])
    users = {} if trunk.room.version.privileged_creators else {ALICE: 100}
    trunk.power(ALICE, {**users, BOB: 50})
    old_topic = trunk.send(ALICE, "m.room.topic", {"topic": "before"})
    here, there = trunk.branch(), trunk.branch()
    ban = here.member(ALICE, BOB, "ban")
    there.send(BOB, "m.room.topic", {"topic": "after"})
    there.send(BOB, "m.room.name", {"name": "Bob's"})
    state = merge(here, there)
    assert state[member(BOB)] == ban.event_id
    assert state[TOPIC] == old_topic.event_id
    assert ("m.room.name", "") not in state


def test_the_greater_power_goes_first(version: str) -> None:
    trunk = furnished(version, [BOB, CAROL])
    users = {} if trunk.room.version.privileged_creators else {ALICE: 100}
    trunk.power(ALICE, {**users, BOB: 60, CAROL: 50}, events={"m.room.power_levels": 50})
    here, there = trunk.branch(), trunk.branch()
    there.power(CAROL, {**users, BOB: 60, CAROL: 50}, events={"m.room.power_levels": 50}, ban=10)  # the earlier one
    here.now += 60_000
    demotion = here.power(BOB, {**users, BOB: 60}, events={"m.room.power_levels": 50})
    assert merge(here, there)[POWER_LEVELS] == demotion.event_id


def test_of_two_topics_the_later_wins(version: str) -> None:
    trunk = furnished(version)
    here, there = trunk.branch(), trunk.branch()
    here.send(ALICE, "m.room.topic", {"topic": "first"})
    there.now += 5000
    later = there.send(ALICE, "m.room.topic", {"topic": "second"})
    assert merge(here, there)[TOPIC] == merge(there, here)[TOPIC] == later.event_id


def test_the_mainline_counts_for_more_than_the_clock(version: str) -> None:
    trunk = furnished(version)
    users = {} if trunk.room.version.privileged_creators else {ALICE: 100}
    trunk.now += 900_000  # a clock that is ahead
    early = trunk.send(ALICE, "m.room.topic", {"topic": "early"})
    trunk.now -= 1_000_000
    trunk.power(ALICE, {**users, BOB: 10})
    here, there = trunk.branch(), trunk.branch()
    late = there.send(ALICE, "m.room.topic", {"topic": "late"})
    # In 2.1 the mainline is that of the partially resolved state, which has no power levels if they do not conflict.
    expected = early if trunk.room.version.privileged_creators else late
    assert merge(here, there)[TOPIC] == expected.event_id
    here.power(ALICE, {**users, BOB: 20})
    assert merge(here, there)[TOPIC] == late.event_id


def test_where_the_auth_checks_start_from(version: str) -> None:
    trunk = furnished(version, [BOB])
    elsewhere = trunk.branch()
    joined = elsewhere.join(DAVE)
    trunk.join_rule(ALICE, "invite")
    states = [ids(trunk.state), {**ids(trunk.state), member(DAVE): joined.event_id}]
    state = resolved_ids(trunk.room, states)
    assert state == SpecResolver(trunk.room.events).resolve(states)
    # Algorithm 2 starts from what the states agree on: the room is closed. 2.1 goes by what the event cites.
    assert (member(DAVE) in state) == trunk.room.version.privileged_creators


def test_who_joined_while_the_room_closed_is_out(version: str) -> None:
    trunk = furnished(version)
    here, there = trunk.branch(), trunk.branch()
    closed = here.join_rule(ALICE, "invite")
    there.join(DAVE)
    state = merge(here, there)
    assert state[JOIN_RULES] == closed.event_id
    assert member(DAVE) not in state


def test_an_event_that_no_state_holds_can_come_back() -> None:
    trunk = furnished("10")
    trunk.power(ALICE, {ALICE: 100, BOB: 50})
    here, there = trunk.branch(), trunk.branch()
    joined = there.join(BOB)
    there.send(BOB, "test.own", {}, state_key=BOB)
    del there.state[member(BOB)]
    state = merge(here, there)
    assert state[member(BOB)] == joined.event_id
    assert state == SpecResolver(trunk.room.events).resolve([ids(here.state), ids(there.state)])


# --- Costs


def test_a_fork_of_a_big_room_reads_little_of_it(version: str) -> None:
    trunk = furnished(version)
    users = {} if trunk.room.version.privileged_creators else {ALICE: 100}
    crowd = [f"@user{number}:s.test" for number in range(1500)]
    for user in crowd:
        trunk.join(user)
    trunk.power(ALICE, {**users, crowd[7]: 50})
    here, there = trunk.branch(), trunk.branch()
    here.member(crowd[7], crowd[20], "ban")
    here.join(DAVE)
    there.join(crowd[21], displayname="new")
    there.join_rule(ALICE, "invite")
    there.power(ALICE, {**users, crowd[8]: 50})
    for branch in (here, there):
        branch.send(ALICE, "m.room.topic", {})
    room = trunk.room
    source = Numbered(room)
    states = [{key: source.nids[i] for key, i in ids(branch.state).items()} for branch in (here, there)]
    sets = States(states)
    resolved = resolve(room.version, sets, source)
    assert {source.ids[nid - 1] for nid in ({**sets.common, **resolved}).values() if nid is not None} == set(
        SpecResolver(room.events).resolve([ids(here.state), ids(there.state)]).values()
    )
    assert source.parsed < 40
    assert sets.read <= 256


def test_the_event_cache_is_bounded() -> None:
    room = RandomRoom("10", 1).room
    source = Numbered(room)
    cache = EventCache(source, capacity=5)
    for nid in source.by_nid:
        assert cache.get(nid) is source.by_nid[nid]
    assert source.parsed == len(source.by_nid)
    cache.fetch(sorted(source.by_nid)[-5:])
    assert source.parsed == len(source.by_nid)
    cache.get(1)
    assert source.parsed == len(source.by_nid) + 1
