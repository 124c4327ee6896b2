"""Push rules against events."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol import vectors
from tests.protocol.room_events import ALICE, BOB, HOSTILE_JSON, ROOM, make_event, message
from tinyserver.protocol.events import Event
from tinyserver.protocol.push_rules import (
    NO_CHANGES,
    NO_PUSH,
    CompiledRules,
    PushActions,
    PushContext,
    RuleChanges,
    put_rule,
    set_actions,
    set_enabled,
)
from tinyserver.protocol.push_rules.conditions import Subject, compile_condition

GROUP = PushContext(BOB, member_count=5, may_notify=lambda key: key == "room")


def outcome(event: Event, context: PushContext = GROUP, changes: RuleChanges = NO_CHANGES) -> PushActions:
    return CompiledRules(changes).evaluate(event, context)


def mention(*user_ids: Any, **more: Any) -> dict[str, Any]:
    return {"m.mentions": {"user_ids": list(user_ids), **more}}


RING = {"notification_type": "ring"}
RTC = "org.matrix.msc4075.rtc.notification"


@pytest.mark.parametrize(
    ("event", "rule_id", "notify", "highlight", "sound"),
    [
        (message(), ".m.rule.message", True, False, None),
        (message(msgtype="m.notice"), ".m.rule.suppress_notices", False, False, None),
        (message(**mention(BOB)), ".m.rule.is_user_mention", True, True, "default"),
        (message(**mention(ALICE)), ".m.rule.message", True, False, None),
        (message(**mention(room=True)), ".m.rule.is_room_mention", True, True, None),
        (message(**mention(room=1)), ".m.rule.message", True, False, None),
        (message(**{"m.relates_to": {"rel_type": "m.replace"}}), ".m.rule.suppress_edits", False, False, None),
        (make_event("m.room.encrypted"), ".org.matrix.msc4028.encrypted_event", True, False, None),
        (make_event("m.reaction"), ".m.rule.reaction", False, False, None),
        (make_event("m.call.invite"), ".m.rule.call", True, False, "ring"),
        (make_event("m.room.tombstone", state_key=""), ".m.rule.tombstone", True, True, None),
        (make_event("m.room.tombstone"), None, False, False, None),
        (make_event("m.room.server_acl", state_key=""), ".m.rule.room.server_acl", False, False, None),
        (
            make_event("m.room.member", {"membership": "invite"}, state_key=BOB),
            ".m.rule.invite_for_me", True, False, "default",
        ),
        (
            make_event("m.room.member", {"membership": "invite"}, state_key="@carol:example.org"),
            ".m.rule.member_event", False, False, None,
        ),
        (make_event(RTC, RING), ".org.matrix.msc4075.rule.rtc.ring", True, False, "ring"),
        (make_event(RTC, {**RING, **mention(BOB)}), ".org.matrix.msc4075.rule.rtc.ring_for_me", True, False, "ring"),
        (
            make_event(RTC, {**RING, **mention(room=True)}),
            ".org.matrix.msc4075.rule.rtc.ring_for_room", True, False, "ring",
        ),
        (make_event(RTC, {"notification_type": "notification"}), None, False, False, None),
        (make_event("org.example.custom"), None, False, False, None),
    ],
)  # fmt: skip
def test_default_rules(event: Event, rule_id: str | None, notify: bool, highlight: bool, sound: str | None) -> None:
    actions = outcome(event)
    assert (actions.rule_id, actions.notify, actions.highlight, actions.sound) == (rule_id, notify, highlight, sound)


def test_rooms_of_two() -> None:
    context = PushContext(BOB, member_count=2)
    assert outcome(message(), context).rule_id == ".m.rule.room_one_to_one"
    assert outcome(message(), context).sound == "default"
    without = set_enabled(NO_CHANGES, "override", ".org.matrix.msc4028.encrypted_event", False)
    encrypted = make_event("m.room.encrypted")
    assert outcome(encrypted, context, without).rule_id == ".m.rule.encrypted_room_one_to_one"
    assert outcome(encrypted, GROUP, without).rule_id == ".m.rule.encrypted"


def test_a_room_mention_needs_the_power() -> None:
    powerless = PushContext(BOB, member_count=5)
    assert outcome(message(**mention(room=True)), powerless).rule_id == ".m.rule.message"


def test_nobody_is_notified_of_their_own_events() -> None:
    everything = put_rule(NO_CHANGES, "override", "all", {"actions": ["notify"]})
    assert outcome(message(), PushContext(ALICE, 2), everything) is NO_PUSH


def test_the_master_rule_silences_everything() -> None:
    changes = put_rule(NO_CHANGES, "override", "all", {"actions": ["notify"]})
    changes = set_enabled(changes, "override", ".m.rule.master", True)
    assert outcome(message(**mention(BOB)), GROUP, changes) == PushActions.of_rule(".m.rule.master", [])


def test_kinds_are_checked_in_their_order() -> None:
    changes = NO_CHANGES
    for kind, rule_id in (("underride", "u"), ("sender", ALICE), ("room", ROOM), ("content", "c"), ("override", "o")):
        changes = put_rule(changes, kind, rule_id, {"actions": [], "pattern": "hello"})
        assert outcome(message(), GROUP, changes).rule_id == rule_id


def test_the_more_important_of_two_rules_of_a_kind_wins() -> None:
    changes = put_rule(NO_CHANGES, "content", "tea", {"actions": ["notify"], "pattern": "tea"})
    changes = put_rule(changes, "content", "time", {"actions": [], "pattern": "time"})
    assert outcome(message("It's time for tea"), GROUP, changes).rule_id == "time"
    assert outcome(message("Tea!"), GROUP, changes).rule_id == "tea"


def test_disabled_rules_and_unknown_conditions_never_match() -> None:
    changes = put_rule(NO_CHANGES, "override", "off", {"actions": []})
    changes = set_enabled(changes, "override", "off", False)
    for condition in ({"kind": "org.example.new"}, {"kind": "device"}):
        changes = put_rule(changes, "override", "x", {"actions": [], "conditions": [condition]})
        assert outcome(message(), GROUP, changes).rule_id == ".m.rule.message"


@pytest.mark.parametrize("room_pattern", [ROOM, ROOM.upper(), "!ro*:example.org"])
def test_rules_on_rooms(room_pattern: str) -> None:
    muted = [{"kind": "event_match", "key": "room_id", "pattern": room_pattern}]
    changes = put_rule(NO_CHANGES, "override", "mute", {"actions": [], "conditions": muted})
    changes = put_rule(changes, "override", "above", {"actions": ["notify"], "conditions": [*muted, TYPE_CUSTOM]})
    assert outcome(message(**mention(BOB)), GROUP, changes).rule_id == "mute"
    assert outcome(make_event("org.example.custom"), GROUP, changes).rule_id == "above"
    elsewhere = make_event("m.room.message", room_id="!other:example.org")
    assert outcome(elsewhere, GROUP, changes).rule_id == ".m.rule.message"


TYPE_CUSTOM = {"kind": "event_match", "key": "type", "pattern": "ORG.example.custom"}


def test_a_type_is_compared_without_regard_to_case_and_twice_if_asked_twice() -> None:
    changes = put_rule(NO_CHANGES, "override", "x", {"actions": ["notify"], "conditions": [TYPE_CUSTOM]})
    assert outcome(make_event("org.EXAMPLE.custom"), GROUP, changes).notify
    contradiction = [TYPE_CUSTOM, {"kind": "event_match", "key": "type", "pattern": "m.room.message"}]
    changes = put_rule(NO_CHANGES, "override", "x", {"actions": ["notify"], "conditions": contradiction})
    assert outcome(make_event("org.example.custom"), GROUP, changes) is NO_PUSH


def test_senders() -> None:
    by_sender = [{"kind": "event_match", "key": "sender", "pattern": ALICE}]
    changes = put_rule(NO_CHANGES, "override", "x", {"actions": [], "conditions": by_sender})
    assert outcome(message(), GROUP, changes).rule_id == "x"
    assert outcome(make_event(sender="@carol:example.org"), GROUP, changes).rule_id == ".m.rule.message"


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([], PushActions()),
        (["notify"], PushActions(notify=True)),
        ([{"set_tweak": "highlight"}], PushActions(highlight=True, tweaks={"highlight": True})),
        ([{"set_tweak": "highlight", "value": False}], PushActions(tweaks={"highlight": False})),
        ([{"set_tweak": "sound", "value": 5}], PushActions(tweaks={"sound": 5})),
        (["notify", {"set_tweak": "light", "value": [1]}], PushActions(notify=True, tweaks={"light": [1]})),
        (["org.example.x", {"other": 1}, 5, {"set_tweak": None}], PushActions()),
    ],
)
def test_actions(actions: list[Any], expected: PushActions) -> None:
    read = PushActions.of_rule("x", actions)
    assert (read.notify, read.highlight, read.sound, read.tweaks) == (
        expected.notify, expected.highlight, expected.sound, expected.tweaks,
    )  # fmt: skip
    assert read.actions == actions


def test_changed_actions_of_default_rules_count() -> None:
    changes = set_actions(NO_CHANGES, "override", ".m.rule.reaction", ["notify", {"set_tweak": "highlight"}])
    assert outcome(make_event("m.reaction"), GROUP, changes).highlight


def holds(condition: dict[str, Any], event: Event, context: PushContext = GROUP) -> bool:
    return compile_condition(condition, of_default_rule=False)(Subject(event, context))


@pytest.mark.parametrize("case", vectors.load("glob_and_acl")["push_event_match"]["cases"], ids=str)
def test_event_match_vectors(case: dict[str, Any]) -> None:
    event = make_event("m.room.topic", {case["key"].removeprefix("content."): case["value"]}, state_key="")
    condition = {"kind": "event_match", "key": case["key"], "pattern": case["pattern"]}
    assert holds(condition, event) == case["match"]


ODD = make_event(
    "m.x",
    {"m.a": {"b.c": 1, "t": True, "n": None, "l": ["x", 1, True, None, {}]}, "body": 5, "deep": {"er": {"est": "Z"}}},
    redacts="$r",
)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (r"content.m\.a.b\.c", 1, True),
        (r"content.m\.a.b\.c", True, False),
        (r"content.m\.a.b\.c", "1", False),
        (r"content.m\.a.t", True, True),
        (r"content.m\.a.t", 1, False),
        (r"content.m\.a.n", None, True),
        (r"content.m\.a.missing", None, False),
        (r"content.deep.er.est", "Z", True),
        ("content.deep.er.est", "z", False),
        ("content.deep", None, False),
        ("content", None, False),
        ("type", "m.x", True),
        ("room_id", ROOM, True),
        ("event_id", "$event", True),
        ("origin_server_ts", 1_700_000_000_000, True),
        ("state_key", None, False),
        ("redacts", None, False),
        ("depth", 5, False),
        ("type.x", "m.x", False),
    ],
)
def test_event_property_is(key: str, value: Any, expected: bool) -> None:
    assert holds({"kind": "event_property_is", "key": key, "value": value}, ODD) is expected


@pytest.mark.parametrize(
    ("value", "expected"), [("x", True), (1, True), (True, True), (None, True), (2, False), ("X", False)]
)
def test_event_property_contains(value: Any, expected: bool) -> None:
    assert holds({"kind": "event_property_contains", "key": r"content.m\.a.l", "value": value}, ODD) is expected
    assert not holds({"kind": "event_property_contains", "key": "content.body", "value": value}, ODD)


def test_an_integer_is_no_boolean_in_lists_either() -> None:
    event = make_event("m.x", {"l": [1]})
    assert not holds({"kind": "event_property_contains", "key": "content.l", "value": True}, event)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("2", {2}),
        ("==2", {2}),
        ("<2", {0, 1}),
        (">2", {3}),
        (">=2", {2, 3}),
        ("<=2", {0, 1, 2}),
        ("two", set()),
        ("= 2", set()),
        ("9" * 5000, set()),
        (None, set()),
    ],
)
def test_room_member_count(text: Any, counts: set[int]) -> None:
    matching = {n for n in range(4) if holds({"kind": "room_member_count", "is": text}, ODD, PushContext(BOB, n))}
    assert matching == counts


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("Bob", "hey bob!", True),
        ("Bob", "bobby", False),
        ("B*b", "hey bib", False),
        ("Bob Smith", "ask BOB SMITH.", True),
        ("", "hey", False),
        (None, "none", False),
        ("5", 5, False),
    ],
)
def test_contains_display_name(name: str | None, body: Any, expected: bool) -> None:
    context = PushContext(BOB, 3, display_name=name)
    assert holds({"kind": "contains_display_name"}, message(body), context) is expected


def test_sender_notification_permission() -> None:
    assert holds({"kind": "sender_notification_permission", "key": "room"}, ODD)
    assert not holds({"kind": "sender_notification_permission", "key": "other"}, ODD)


def test_replies_to_own_messages() -> None:
    condition = {
        "kind": "im.nheko.msc3664.related_event_match",
        "rel_type": "m.in_reply_to",
        "key": "sender",
        "pattern": BOB,
    }
    known = {"$bobs": make_event(sender=BOB, event_id="$bobs"), "$alices": make_event(event_id="$alices")}
    context = PushContext(BOB, 3, related_event=known.get)

    def reply_to(parent_id: str, **more: Any) -> Event:
        return message(**{"m.relates_to": {"m.in_reply_to": {"event_id": parent_id}, **more}})

    assert holds(condition, reply_to("$bobs"), context)
    assert not holds(condition, reply_to("$alices"), context)
    assert not holds(condition, reply_to("$unknown"), context)
    assert not holds(condition, message(), context)
    fallback = reply_to("$bobs", rel_type="m.thread", event_id="$root", is_falling_back=True)
    assert not holds(condition, fallback, context)
    assert holds({**condition, "include_fallback": True}, fallback, context)
    assert holds({"kind": condition["kind"], "rel_type": "m.thread"}, fallback, context)


CONDITIONS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["event_match", "event_property_is", "event_property_contains", "room_member_count"])
     | HOSTILE_JSON},
    optional={name: HOSTILE_JSON | st.just("content.body") for name in ("key", "pattern", "value", "is", "rel_type")},
)  # fmt: skip


@given(CONDITIONS, HOSTILE_JSON)
def test_no_stored_condition_or_content_is_an_error(condition: Any, value: Any) -> None:
    event = make_event("m.room.message", {"body": value, "m.mentions": value, "m.relates_to": value, "msgtype": value})
    assert holds(condition, event) in (True, False)
    assert isinstance(outcome(event), PushActions)
