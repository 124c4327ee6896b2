"""State resolution of room version 1, by rooms made by hand. spec: rooms/v1#state-resolution"""

from hashlib import sha1

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.room_builder import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    Branch,
    RandomRoom,
    furnished,
    ids,
    random_order,
    resolved_ids,
)
from tinyserver.protocol.auth_state import StateMapKey
from tinyserver.protocol.events import Event

TOPIC, POWER_LEVELS, JOIN_RULES = ("m.room.topic", ""), ("m.room.power_levels", ""), ("m.room.join_rules", "")


@pytest.fixture
def trunk() -> Branch:
    branch = furnished("1", [BOB, CAROL])
    branch.power(ALICE, {ALICE: 100, BOB: 50, CAROL: 50})
    return branch


def member(user: str) -> StateMapKey:
    return ("m.room.member", user)


def merge(*branches: Branch) -> dict[StateMapKey, str]:
    return resolved_ids(branches[0].room, [ids(branch.state) for branch in branches])


def wait(branch: Branch, messages: int) -> None:
    """Make the branch deeper."""
    for number in range(messages):
        branch.send(ALICE, "m.room.message", {"body": str(number)}, state_key=None)


def test_what_only_one_state_has_is_no_conflict(trunk: Branch) -> None:
    here, there = trunk.branch(), trunk.branch()
    topic = here.send(BOB, "m.room.topic", {})
    there.member(ALICE, BOB, "ban")
    assert merge(here, there)[TOPIC] == topic.event_id


def test_the_deepest_of_other_events_wins(trunk: Branch) -> None:
    here, there = trunk.branch(), trunk.branch()
    here.send(BOB, "m.room.topic", {})
    wait(there, 1)
    deeper = there.send(CAROL, "m.room.topic", {})
    assert merge(here, there)[TOPIC] == merge(there, here)[TOPIC] == deeper.event_id


def by_sha1(*events: Event) -> list[str]:
    return sorted((event.event_id for event in events), key=lambda event_id: sha1(event_id.encode()).hexdigest())


def test_among_equally_deep_events_the_lowest_sha1_wins(trunk: Branch) -> None:
    for _ in range(8):  # other event IDs each time
        wait(trunk, 1)
        here, there = trunk.branch(), trunk.branch()
        one, other = here.send(BOB, "m.room.topic", {}), there.send(CAROL, "m.room.topic", {})
        assert one.depth == other.depth
        assert merge(here, there)[TOPIC] == by_sha1(one, other)[0]


def test_an_event_that_is_not_allowed_is_passed_over(trunk: Branch) -> None:
    here, there = trunk.branch(), trunk.branch()
    topic = here.send(ALICE, "m.room.topic", {})
    wait(there, 3)
    there.send(BOB, "m.room.topic", {})
    there.member(ALICE, BOB, "ban")
    assert merge(here, there)[TOPIC] == topic.event_id


def test_if_none_is_allowed_the_first_stays(trunk: Branch) -> None:
    here, there = trunk.branch(), trunk.branch()
    first = here.send(BOB, "m.room.topic", {})
    wait(there, 1)
    there.send(CAROL, "m.room.topic", {})
    for branch in (here, there):
        branch.member(ALICE, BOB, "ban")
        branch.member(ALICE, CAROL, "ban")
        wait(branch, 1)
    ban_here, ban_there = here.state[member(BOB)], there.state[member(BOB)]
    state = merge(here, there)
    assert state[member(BOB)] in (ban_here.event_id, ban_there.event_id)
    assert state[TOPIC] == first.event_id


def test_power_levels_go_up_to_the_first_that_is_refused(trunk: Branch) -> None:
    here, there = trunk.branch(), trunk.branch()
    demotion = here.power(ALICE, {ALICE: 100, CAROL: 50})
    wait(there, 2)
    deeper = there.power(ALICE, {ALICE: 100, BOB: 50, CAROL: 50}, ban=60)
    assert merge(here, there)[POWER_LEVELS] == deeper.event_id
    elsewhere = trunk.branch()
    wait(elsewhere, 1)
    by_bob = elsewhere.make(BOB, "m.room.power_levels", {"users": {ALICE: 100, BOB: 50, CAROL: 50}, "invite": 10})
    elsewhere.add(by_bob)  # between the two; refused after Bob's demotion, which ends the list
    assert merge(here, there, elsewhere)[POWER_LEVELS] == demotion.event_id


def test_members_are_judged_by_the_resolved_power_levels_and_join_rules(trunk: Branch) -> None:
    trunk.join(DAVE)
    here, there = trunk.branch(), trunk.branch()
    here.power(ALICE, {ALICE: 100, CAROL: 50})
    renamed = here.join(DAVE, displayname="Dave")
    wait(there, 3)
    there.member(BOB, DAVE, "ban")  # Bob has no power any more in the resolved state
    there.power(ALICE, {ALICE: 100, CAROL: 50, BOB: 10})
    assert merge(here, there)[member(DAVE)] == renamed.event_id


def test_a_deeper_ban_replaces_a_join(trunk: Branch) -> None:
    trunk.join(DAVE)
    here, there = trunk.branch(), trunk.branch()
    here.join(DAVE, displayname="Dave")
    wait(there, 1)
    ban = there.member(BOB, DAVE, "ban")
    assert merge(here, there)[member(DAVE)] == ban.event_id


def test_conflicting_join_rules(trunk: Branch) -> None:
    here, there = trunk.branch(), trunk.branch()
    here.join_rule(ALICE, "invite")
    wait(there, 1)
    deeper = there.join_rule(BOB, "public")
    assert merge(here, there)[JOIN_RULES] == deeper.event_id


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_neither_the_order_of_states_nor_the_numbering_matters(seed: int) -> None:
    random_room = RandomRoom("1", seed)
    states = random_room.states()
    expected = resolved_ids(random_room.room, states)
    assert expected.keys() == {key for state in states for key in state}
    random_room.rng.shuffle(states)
    assert resolved_ids(random_room.room, states, random_order(random_room.room, random_room.rng)) == expected
