"""A user's push rules: the default ones, the edits of the API, and what it refuses."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol import vectors
from tests.protocol.room_events import ALICE, HOSTILE_JSON
from tinyserver.protocol.errors import BadJson, InvalidParam, MatrixError, MissingParam, NotFound, TooLarge, Unknown
from tinyserver.protocol.push_rules import (
    NO_CHANGES,
    RuleChanges,
    delete_rule,
    follow_threads,
    get_rule,
    parse_actions,
    parse_enabled,
    put_rule,
    render_ruleset,
    set_actions,
    set_enabled,
)
from tinyserver.protocol.push_rules.defaults import KINDS, POSTCONTENT, USER_ID
from tinyserver.protocol.push_rules.ruleset import MAX_RULES

NOTIFY = {"actions": ["notify"]}


def own_ids(changes: RuleChanges, kind: str) -> list[str]:
    rules = render_ruleset(changes, ALICE)[kind]
    return [rule["rule_id"] for rule in rules if not rule["default"]]


def test_default_rules_are_those_of_the_specification() -> None:
    expected = vectors.load("push_rules_default")["global"]
    text = msgspec.json.encode(expected).decode().replace(USER_ID, ALICE)
    rendered = render_ruleset(NO_CHANGES, ALICE)
    specified = {
        kind: [rule for rule in rules if not rule["rule_id"].startswith(".org.matrix.msc")]
        for kind, rules in rendered.items()
    }
    assert specified == msgspec.json.decode(text)
    assert list(rendered) == [kind for kind in KINDS if kind != POSTCONTENT]
    assert list(render_ruleset(follow_threads(NO_CHANGES), ALICE)) == list(KINDS)


def test_every_default_rule_is_named_once_and_whole() -> None:
    rules = [rule for of_kind in render_ruleset(NO_CHANGES, ALICE).values() for rule in of_kind]
    assert len({rule["rule_id"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["rule_id"].startswith(".")
        assert set(rule) == {"rule_id", "default", "enabled", "conditions", "actions"}
        assert USER_ID not in str(rule)


def test_encrypted_events_come_right_after_the_master_rule() -> None:
    ids = [rule["rule_id"] for rule in render_ruleset(NO_CHANGES, ALICE)["override"]]
    assert ids[:2] == [".m.rule.master", ".org.matrix.msc4028.encrypted_event"]


def test_own_rules_stand_between_the_master_rule_and_the_other_defaults() -> None:
    changes = put_rule(NO_CHANGES, "override", "mine", NOTIFY)
    ids = [rule["rule_id"] for rule in render_ruleset(changes, ALICE)["override"]]
    assert ids[:3] == [".m.rule.master", "mine", ".org.matrix.msc4028.encrypted_event"]
    changes = put_rule(changes, "underride", "mine", NOTIFY)
    assert render_ruleset(changes, ALICE)["underride"][0]["rule_id"] == "mine"


def test_a_new_rule_is_enabled_and_the_most_important_of_its_kind() -> None:
    changes = put_rule(NO_CHANGES, "content", "first", {**NOTIFY, "pattern": "a"})
    changes = put_rule(changes, "content", "second", {**NOTIFY, "pattern": "b"})
    assert own_ids(changes, "content") == ["second", "first"]
    assert get_rule(changes, ALICE, "content", "second") == {
        "rule_id": "second", "default": False, "enabled": True, "actions": ["notify"], "pattern": "b",
    }  # fmt: skip


def three_rules() -> RuleChanges:
    changes = NO_CHANGES
    for rule_id in ("c", "b", "a"):
        changes = put_rule(changes, "room", rule_id, NOTIFY)
    return changes


@pytest.mark.parametrize(
    ("rule_id", "place", "order"),
    [
        ("x", {}, ["x", "a", "b", "c"]),
        ("x", {"before": "b"}, ["a", "x", "b", "c"]),
        ("x", {"after": "b"}, ["a", "b", "x", "c"]),
        ("x", {"after": "c"}, ["a", "b", "c", "x"]),
        ("x", {"before": "b", "after": "c"}, ["a", "x", "b", "c"]),
        ("c", {}, ["a", "b", "c"]),
        ("c", {"before": "a"}, ["c", "a", "b"]),
        ("a", {"after": "c"}, ["b", "c", "a"]),
        ("a", {"after": "b"}, ["b", "a", "c"]),
        ("b", {"before": "b"}, ["a", "b", "c"]),
    ],
)
def test_places(rule_id: str, place: dict[str, str], order: list[str]) -> None:
    assert own_ids(put_rule(three_rules(), "room", rule_id, NOTIFY, **place), "room") == order


@pytest.mark.parametrize("place", [{"before": "nobody"}, {"after": "nobody"}, {"before": ".m.rule.master"}])
@pytest.mark.parametrize("rule_id", ["a", "x"])
def test_a_place_beside_nothing_is_an_error(rule_id: str, place: dict[str, str]) -> None:
    with pytest.raises(Unknown) as caught:
        put_rule(three_rules(), "room", rule_id, NOTIFY, **place)
    assert caught.value.status == 400


def test_changing_a_rule_keeps_whether_it_is_enabled() -> None:
    changes = set_enabled(three_rules(), "room", "b", False)
    changes = put_rule(changes, "room", "b", {"actions": []})
    rule = get_rule(changes, ALICE, "room", "b")
    assert rule["enabled"] is False
    assert rule["actions"] == []


def test_deleting() -> None:
    changes = delete_rule(three_rules(), "room", "b")
    assert own_ids(changes, "room") == ["a", "c"]
    with pytest.raises(NotFound):
        delete_rule(changes, "room", "b")
    with pytest.raises(NotFound):
        delete_rule(changes, "override", "a")
    with pytest.raises(InvalidParam):
        delete_rule(changes, "override", ".m.rule.master")
    for rule_id in ("a", "c"):
        changes = delete_rule(changes, "room", rule_id)
    assert changes.is_empty


def test_default_rules_can_be_disabled_and_changed_and_are_forgotten_when_they_are_back() -> None:
    changes = set_enabled(NO_CHANGES, "underride", ".m.rule.message", False)
    changes = set_actions(changes, "underride", ".m.rule.message", [])
    rule = get_rule(changes, ALICE, "underride", ".m.rule.message")
    assert rule["enabled"] is False
    assert rule["actions"] == []
    assert rule["default"] is True
    changes = set_actions(changes, "underride", ".m.rule.message", ["notify"])
    assert get_rule(changes, ALICE, "underride", ".m.rule.message")["enabled"] is False
    assert set_enabled(changes, "underride", ".m.rule.message", True) == NO_CHANGES


def test_edits_change_nothing_in_place() -> None:
    before = three_rules()
    image = msgspec.json.encode(before)
    put_rule(before, "room", "x", NOTIFY)
    set_enabled(before, "room", "a", False)
    set_actions(before, "override", ".m.rule.reaction", ["notify"])
    delete_rule(before, "room", "a")
    assert msgspec.json.encode(before) == image


@pytest.mark.parametrize("edit", [get_rule, set_enabled, set_actions, delete_rule])
@pytest.mark.parametrize(
    ("kind", "rule_id", "error"),
    [
        ("room", "nothing", NotFound),
        ("content", ".m.rule.message", NotFound),
        ("postcontent", "x", InvalidParam),
        ("", "x", InvalidParam),
    ],
)
def test_unknown_rules_and_kinds(edit: Any, kind: str, rule_id: str, error: type[MatrixError]) -> None:
    arguments = {
        get_rule: (NO_CHANGES, ALICE, kind, rule_id),
        set_enabled: (NO_CHANGES, kind, rule_id, True),
        set_actions: (NO_CHANGES, kind, rule_id, []),
        delete_rule: (NO_CHANGES, kind, rule_id),
    }
    with pytest.raises(error):
        edit(*arguments[edit])


@pytest.mark.parametrize("rule_id", ["", ".mine", ".m.rule.master", "a/b", "a\\b", "x" * 1025, "\ud800"])
def test_rule_ids_that_are_not_allowed(rule_id: str) -> None:
    with pytest.raises(InvalidParam):
        put_rule(NO_CHANGES, "override", rule_id, NOTIFY)


def conditions(*given: Any) -> dict[str, Any]:
    return {**NOTIFY, "conditions": list(given)}


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        ("override", None, BadJson),
        ("override", [], BadJson),
        ("override", {}, MissingParam),
        ("override", {"actions": "notify"}, BadJson),
        ("override", {"actions": [1]}, BadJson),
        ("override", {"actions": [{"set_tweak": 1}]}, BadJson),
        ("override", {"actions": ["notify"] * 33}, InvalidParam),
        ("override", {"actions": [{"set_tweak": "sound", "value": "\ud800"}]}, BadJson),
        ("content", NOTIFY, MissingParam),
        ("content", {**NOTIFY, "pattern": 1}, BadJson),
        ("content", {**NOTIFY, "pattern": "x" * 513}, InvalidParam),
        ("override", {**NOTIFY, "conditions": {}}, BadJson),
        ("override", conditions(1), BadJson),
        ("override", conditions({}), BadJson),
        ("override", conditions({"kind": 1}), BadJson),
        ("override", conditions({"kind": "event_match", "key": "type"}), MissingParam),
        ("override", conditions({"kind": "event_match", "key": 1, "pattern": "a"}), BadJson),
        ("override", conditions({"kind": "event_match", "key": "type", "pattern": "x" * 513}), InvalidParam),
        ("underride", conditions({"kind": "event_property_is", "key": "type"}), MissingParam),
        ("underride", conditions({"kind": "event_property_is", "key": "type", "value": []}), BadJson),
        ("underride", conditions({"kind": "event_property_is", "key": "type", "value": 1.5}), BadJson),
        ("underride", conditions({"kind": "event_property_contains", "key": "type", "value": 2**53}), BadJson),
        ("underride", conditions({"kind": "room_member_count"}), MissingParam),
        ("underride", conditions({"kind": "room_member_count", "is": 2}), BadJson),
        ("underride", conditions({"kind": "room_member_count", "is": "=2"}), InvalidParam),
        ("underride", conditions({"kind": "room_member_count", "is": "2" * 5000}), InvalidParam),
        ("underride", conditions({"kind": "room_member_count", "is": "٣"}), InvalidParam),
        ("underride", conditions({"kind": "sender_notification_permission"}), MissingParam),
        ("underride", conditions(*[{"kind": "x"}] * 65), InvalidParam),
    ],
)
def test_malformed_rules_are_refused(kind: str, body: Any, error: type[MatrixError]) -> None:
    with pytest.raises(error):
        put_rule(NO_CHANGES, kind, "x", body)


def test_what_is_unknown_is_kept_and_what_is_historical_is_stripped() -> None:
    body = {
        "actions": ["dont_notify", "notify", "coalesce", "org.example.action", {"set_tweak": "light", "value": "red"}],
        "conditions": [{"kind": "org.example.condition", "anything": [1]}],
    }
    rule = get_rule(put_rule(NO_CHANGES, "override", "x", body), ALICE, "override", "x")
    assert rule["actions"] == ["notify", "org.example.action", {"set_tweak": "light", "value": "red"}]
    assert rule["conditions"] == body["conditions"]


def test_rules_have_only_the_parts_of_their_kind() -> None:
    body = {**NOTIFY, "pattern": "p", "conditions": [{"kind": "contains_display_name"}]}
    rendered_kinds = render_ruleset(NO_CHANGES, ALICE)
    shown = {kind: set(get_rule(put_rule(NO_CHANGES, kind, "x", body), ALICE, kind, "x")) for kind in rendered_kinds}
    common = {"rule_id", "default", "enabled", "actions"}
    assert shown["room"] == shown["sender"] == common
    assert shown["content"] == common | {"pattern"}
    assert shown["override"] == shown["underride"] == common | {"conditions"}


def test_there_is_an_end_to_rules() -> None:
    rules = msgspec.convert([{"rule_id": f"r{n}", "actions": []} for n in range(MAX_RULES)], list[Any])
    changes = msgspec.convert({"rules": {"room": rules}}, RuleChanges)
    with pytest.raises(InvalidParam):
        put_rule(changes, "room", "one more", NOTIFY)
    assert put_rule(changes, "room", "r7", NOTIFY) != changes
    with pytest.raises(TooLarge):
        put_rule(NO_CHANGES, "room", "x", {"actions": [{"set_tweak": "sound", "value": "x" * 1_100_000}]})


@pytest.mark.parametrize("body", [None, [], {}, {"enabled": 1}, {"enabled": "true"}, {"enabled": None}])
def test_malformed_enabled(body: Any) -> None:
    with pytest.raises((BadJson, MissingParam)):
        parse_enabled(body)
    assert parse_enabled({"enabled": False}) is False


def test_changes_survive_storage() -> None:
    changes = set_actions(three_rules(), "override", ".m.rule.reaction", ["notify"])
    changes = put_rule(changes, "override", "x", conditions({"kind": "room_member_count", "is": ">2"}))
    assert msgspec.json.decode(msgspec.json.encode(changes), type=RuleChanges) == changes


BODIES = st.fixed_dictionaries(
    {},
    optional={
        "actions": HOSTILE_JSON | st.lists(HOSTILE_JSON),
        "pattern": HOSTILE_JSON,
        "conditions": st.lists(HOSTILE_JSON),
    },
)


@given(st.sampled_from(KINDS), st.text(max_size=5), HOSTILE_JSON | BODIES)
def test_junk_is_stored_or_refused_with_an_error_of_the_specification(kind: str, rule_id: str, body: Any) -> None:
    try:
        changes = put_rule(NO_CHANGES, kind, rule_id, body)
        parse_actions(body)
    except MatrixError:
        return
    assert msgspec.json.decode(msgspec.json.encode(changes), type=RuleChanges).of_kind(kind)
