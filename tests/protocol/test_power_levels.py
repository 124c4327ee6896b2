"""Power levels: reading them, and the authorisation rule on changing them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.room_builder import ALICE, BOB, CAROL, DAVE, Branch, Room, furnished
from tinyserver.protocol.auth_rules import check_auth
from tinyserver.protocol.auth_state import AuthError
from tinyserver.protocol.power_levels import INFINITE_LEVEL, PowerLevels, parse_level, room_creators
from tinyserver.protocol.room_versions import ROOM_VERSIONS, get_room_version

ALL = tuple(ROOM_VERSIONS)
NAMED = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")
every_version = pytest.mark.parametrize("version", ALL)


def since(first: int, last: int = 12) -> tuple[str, ...]:
    return tuple(str(number) for number in range(first, last + 1))


# --- Reading


@every_version
@pytest.mark.parametrize(
    ("value", "level", "versions"),
    [
        (50, 50, ALL),
        (-3, -3, ALL),
        ("50", 50, since(1, 9)),
        ("000100", 100, since(1, 9)),
        (" +100 ", 100, since(1, 9)),
        ("\t-100\n", -100, since(1, 9)),
        ("1_0", None, ALL),
        ("١٠", None, ALL),  # digits, but not base 10 as it is written here
        ("", None, ALL),
        ("+", None, ALL),
        ("+ 5", None, ALL),
        ("50.5", None, ALL),
        ("9" * 5000, None, ALL),
        (50.57, 50, since(1, 5)),
        (-50.57, -50, since(1, 5)),
        (5.114698e4, 51146, since(1, 5)),
        (float("inf"), None, ALL),
        (float("nan"), None, ALL),
        (True, None, ALL),
        (None, None, ALL),
        ([50], None, ALL),
        ({}, None, ALL),
    ],
)
def test_parse_level(version: str, value: Any, level: int | None, versions: tuple[str, ...]) -> None:
    assert parse_level(value, get_room_version(version)) == (level if version in versions else None)


@given(st.sampled_from(ALL), st.one_of(st.text(), st.floats(), st.integers(), st.from_regex(r"\s*[+-]?[0-9]+\s*")))
def test_parse_level_gives_an_integer_or_nothing(version: str, value: Any) -> None:
    level = parse_level(value, get_room_version(version))
    assert level is None or type(level) is int


@every_version
def test_defaults(version: str) -> None:
    for content in ({}, None):
        levels = PowerLevels(content, (), get_room_version(version))
        assert (levels.ban, levels.kick, levels.redact, levels.invite) == (50, 50, 50, 0)
        assert levels.event_level("m.room.topic", is_state=True) == 50
        assert levels.event_level("m.room.message", is_state=False) == 0
        assert levels.notification_level() == 50
        assert levels.user_level(BOB) == 0


@every_version
def test_levels_that_are_set(version: str) -> None:
    content = {
        "ban": 1,
        "kick": 2,
        "redact": 3,
        "invite": 4,
        "state_default": 5,
        "events_default": 6,
        "users_default": 7,
        "events": {"m.room.topic": 8},
        "users": {BOB: 9},
        "notifications": {"room": 10, "other": 11},
    }
    levels = PowerLevels(content, (), get_room_version(version))
    assert (levels.ban, levels.kick, levels.redact, levels.invite) == (1, 2, 3, 4)
    assert levels.event_level("m.room.name", is_state=True) == 5
    assert levels.event_level("m.room.message", is_state=False) == 6
    assert levels.event_level("m.room.topic", is_state=False) == 8
    assert (levels.user_level(CAROL), levels.user_level(BOB)) == (7, 9)
    assert (levels.notification_level(), levels.notification_level("other")) == (10, 11)


@every_version
def test_levels_as_strings(version: str) -> None:
    content = {"ban": " 60 ", "users": {BOB: "+70"}, "events": {"m.room.topic": "080"}, "users_default": "9"}
    levels = PowerLevels(content, (), get_room_version(version))
    found = (levels.ban, levels.user_level(BOB), levels.event_level("m.room.topic", True), levels.user_level(CAROL))
    assert found == ((60, 70, 80, 9) if version in since(1, 9) else (50, 0, 50, 0))


@every_version
def test_nonsense_counts_as_absent(version: str) -> None:
    for nonsense in (None, [], "x", {}, True):
        content = dict.fromkeys((*NAMED, "users", "events", "notifications"), nonsense)
        levels = PowerLevels(content, (), get_room_version(version))
        assert (levels.ban, levels.kick, levels.redact, levels.invite) == (50, 50, 50, 0)
        assert (levels.user_level(BOB), levels.event_level("m.room.topic", True), levels.notification_level()) == (
            0,
            50,
            50,
        )


@every_version
def test_creators(version: str) -> None:
    create = Room(version).create(creator=CAROL, additional_creators=[BOB, 5, BOB]).tip
    assert create is not None
    creators = room_creators(create)
    assert creators == ({ALICE, BOB} if version == "12" else {CAROL} if version in since(1, 10) else {ALICE})
    creator = next(iter(creators))
    alone = PowerLevels(None, creators, create.version).user_level(creator)
    assert alone == (INFINITE_LEVEL if version == "12" else 100)
    listed = PowerLevels({"users": {creator: 10}}, creators, create.version).user_level(creator)
    assert listed == (INFINITE_LEVEL if version == "12" else 10)


@every_version
def test_creators_that_make_no_sense(version: str) -> None:
    create = Room(version).create(creator=["x"], additional_creators="x").tip
    assert create is not None
    assert room_creators(create) == (set() if version in since(1, 10) else {ALICE})


# --- Changing: rule 10


def changes(branch: Branch, sender: str, content: Any) -> bool:
    """Whether the sender may put this in place of the current power levels."""
    try:
        check_auth(branch.make(sender, "m.room.power_levels", content), branch.state)
    except AuthError:
        return False
    return True


def room_of(version: str, **levels: Any) -> tuple[Branch, dict[str, Any]]:
    """Bob and Carol have level 50, Dave 20; Bob may change the power levels. Returns the levels too."""
    branch = furnished(version, [BOB, CAROL, DAVE])
    creator = {} if version == "12" else {ALICE: 100}
    levels = {"events": {"m.room.power_levels": 20}, **levels}
    content = {"users": {**creator, BOB: 50, CAROL: 50, DAVE: 20}, **levels}
    branch.send(ALICE, "m.room.power_levels", content)
    return branch, content


@every_version
def test_the_same_again(version: str) -> None:
    branch, content = room_of(version)
    assert changes(branch, BOB, content)
    assert changes(branch, DAVE, content)


@every_version
@pytest.mark.parametrize("name", NAMED)
def test_values_that_are_no_integers(version: str, name: str) -> None:
    branch, content = room_of(version)
    for value, versions in (("0", since(1, 9)), (0.5, since(1, 5)), ("x", ()), (None, ()), (True, ()), ([], ())):
        assert changes(branch, ALICE, {**content, name: value}) == (version in versions)


@every_version
@pytest.mark.parametrize("name", ["users", "events", "notifications"])
def test_objects_that_are_none(version: str, name: str) -> None:
    branch, content = room_of(version)
    checked = name != "notifications" or version in since(6)
    for value in ([], None, "x", 5):
        assert changes(branch, ALICE, {**content, name: value}) != checked
    entry = BOB if name == "users" else "m.room.topic"
    strings = {**content, name: {entry: "5"}}
    assert changes(branch, ALICE, strings) == (version in since(1, 9))
    assert changes(branch, ALICE, {**content, name: {entry: None}}) != checked


@every_version
def test_user_ids(version: str) -> None:
    branch, content = room_of(version)
    for user_id, valid in (("@Old User:b.test", True), ("bob", False), ("@bob", False), ("", False), ("#b:b.t", False)):
        assert changes(branch, ALICE, {**content, "users": {**content["users"], user_id: 0}}) == valid


@every_version
def test_the_first_power_levels(version: str) -> None:
    branch = Room(version).create()
    branch.join(ALICE)
    assert changes(branch, ALICE, {"users": {BOB: 1000}, "ban": 1000})
    assert changes(branch, ALICE, {})
    assert not changes(branch, ALICE, {"users": []})
    assert changes(branch, ALICE, {"ban": "x", "events": 5}) == (version in since(1, 9))


@every_version
def test_creators_in_users(version: str) -> None:
    branch = Room(version).create(additional_creators=[BOB])
    branch.join(ALICE)
    for user_id in (ALICE, BOB):
        assert changes(branch, ALICE, {"users": {user_id: 100}}) == (version != "12")
    assert changes(branch, ALICE, {"users": {CAROL: 100}})


@every_version
@pytest.mark.parametrize("name", NAMED)
def test_named_levels(version: str, name: str) -> None:
    low = 10 if name in ("state_default", "events_default") else 40
    branch, content = room_of(version, **{name: low})
    assert changes(branch, BOB, {**content, name: 50})
    assert not changes(branch, BOB, {**content, name: 51})
    removed = {key: value for key, value in content.items() if key != name}
    assert changes(branch, BOB, removed)
    assert changes(branch, DAVE, removed) == (low <= 20)
    assert not changes(branch, DAVE, {**content, name: 21})


@every_version
@pytest.mark.parametrize("name", ["ban", "kick", "redact"])
def test_named_levels_above_ones_own(version: str, name: str) -> None:
    branch, content = room_of(version, **{name: 60})
    assert not changes(branch, BOB, {**content, name: 10})
    assert not changes(branch, BOB, {key: value for key, value in content.items() if key != name})
    without, levels = room_of(version)
    assert changes(without, DAVE, {**levels, name: 20})  # what was absent has no value that could be too high


@every_version
@pytest.mark.parametrize("name", ["events", "notifications"])
def test_entries(version: str, name: str) -> None:
    needed = {"m.room.power_levels": 20} if name == "events" else {}
    branch, content = room_of(version, **{name: {**needed, "here": 30, "above": 60}})
    judged = name == "events" or version in since(6)

    def put(sender: str, entries: dict[str, int]) -> bool:
        return changes(branch, sender, {**content, name: {**needed, **entries}})

    assert put(BOB, {"here": 50, "above": 60})
    assert put(BOB, {"above": 60})
    assert put(BOB, {"here": 30, "above": 60, "new": 50})
    assert put(BOB, {"here": 51, "above": 60}) != judged
    assert put(BOB, {"here": 30, "above": 60, "new": 51}) != judged
    assert put(BOB, {"here": 30, "above": 50}) != judged
    assert put(BOB, {"here": 30}) != judged
    assert put(DAVE, {"here": 20, "above": 60}) != judged


@every_version
def test_users(version: str) -> None:
    branch, content = room_of(version)

    def put(sender: str, **users: Any) -> bool:
        names = {"bob": BOB, "carol": CAROL, "dave": DAVE, "eve": "@eve:e.test"}
        changed = {**content["users"], **{names[name]: level for name, level in users.items()}}
        return changes(branch, sender, {**content, "users": {k: v for k, v in changed.items() if v is not None}})

    assert put(BOB, dave=50)
    assert put(BOB, dave=None)
    assert put(BOB, eve=50)
    assert put(BOB, bob=0)
    assert put(BOB, bob=None)
    assert not put(BOB, dave=51)
    assert not put(BOB, eve=51)
    assert not put(BOB, bob=51)
    assert not put(BOB, carol=0)  # not below one's own
    assert not put(BOB, carol=None)
    assert not put(DAVE, carol=10)
    assert put(DAVE, dave=-5)


@every_version
def test_a_string_of_the_same_level_is_no_change(version: str) -> None:
    branch, content = room_of(version, ban=60)
    users = {user: str(level) for user, level in content["users"].items()}
    assert changes(branch, BOB, {**content, "ban": "060", "users": users}) == (version in since(1, 9))
