"""Notification classes: what they say must be what evaluating every rule for every user would say."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.room_events import ALICE, BOB, HOSTILE_JSON, ROOM, make_event, message
from tinyserver.protocol.events import Event
from tinyserver.protocol.push_rules import (
    NO_CHANGES,
    SILENT,
    CompiledRules,
    EventKind,
    PushContext,
    RuleChanges,
    RuleSetSummary,
    mentioned_users,
    mentions_room,
    notification_class,
    put_rule,
    render_ruleset,
    set_actions,
    set_enabled,
)

DEFAULTS = [(kind, rule["rule_id"]) for kind, rules in render_ruleset(NO_CHANGES, BOB).items() for rule in rules]
ACTIONS = st.sampled_from([[], ["notify"], ["notify", {"set_tweak": "highlight"}], [{"set_tweak": "highlight"}]])


def condition(key: str, pattern: str) -> dict[str, Any]:
    return {"kind": "event_match", "key": key, "pattern": pattern}


EXACT_CONDITIONS = st.lists(
    st.sampled_from(
        [
            condition("room_id", ROOM),
            condition("room_id", "!other:example.org"),
            condition("room_id", "!Ro*"),
            condition("type", "m.room.message"),
            condition("type", "M.Room.Encrypted"),
            condition("type", "m.room.member"),
            condition("content.msgtype", "M.notice"),
            {"kind": "room_member_count", "is": "==2"},
            {"kind": "org.example.unknown"},
        ]
    ),
    max_size=2,
    unique_by=lambda one: one.get("key"),
)
OTHER_CONDITIONS = st.sampled_from(
    [
        condition("type", "m.room.tombstone"),
        condition("type", "m.*"),
        condition("content.body", "hello"),
        condition("sender", ALICE),
        {"kind": "room_member_count", "is": ">2"},
        {"kind": "event_property_is", "key": r"content.m\.mentions.room", "value": True},
        {"kind": "contains_display_name"},
    ]
)


@st.composite
def exact_changes(draw: st.DrawFn) -> RuleChanges:
    """Changes after which counting by class must still be exact."""
    changes = NO_CHANGES
    for kind, rule_id in draw(st.lists(st.sampled_from(DEFAULTS), max_size=6)):
        if draw(st.booleans()):
            changes = set_enabled(changes, kind, rule_id, draw(st.booleans()))
        else:
            changes = set_actions(changes, kind, rule_id, draw(ACTIONS))
    for number in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["override", "underride", "room"]))
        rule_id = draw(st.sampled_from([ROOM, "!other:example.org"])) if kind == "room" else f"rule{number}"
        body = {"actions": draw(ACTIONS), "conditions": draw(EXACT_CONDITIONS)}
        changes = put_rule(changes, kind, rule_id, body)
    return changes


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Events of all kinds that default rules know, in odd combinations too."""
    event_type = draw(
        st.sampled_from(
            ["m.room.message", "m.room.encrypted", "m.room.member", "m.reaction", "m.room.server_acl", "m.call.invite",
             "m.room.tombstone", "org.matrix.msc4075.rtc.notification", "org.example.x", "M.Room.Message"]
        )
    )  # fmt: skip
    content = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "msgtype": st.sampled_from(["m.text", "m.notice", "M.NOTICE", None]),
                "body": st.sampled_from(["hello", "", 7]),
                "membership": st.sampled_from(["invite", "Invite", "join"]),
                "notification_type": st.sampled_from(["ring", "RING", "notification"]),
                "m.relates_to": st.sampled_from([{"rel_type": "m.replace"}, {"rel_type": "m.thread"}, None]),
                "m.mentions": st.sampled_from(
                    [{}, {"room": True}, {"room": 1}, {"user_ids": [BOB]}, [], {"user_ids": BOB}]
                ),
            },
        )
    )
    state_key = draw(st.sampled_from([None, "", BOB, BOB.upper(), "@carol:example.org"]))
    room_id = draw(st.sampled_from([ROOM, "!other:example.org", "!third:example.org"]))
    return make_event(event_type, content, state_key=state_key, room_id=room_id)


@settings(max_examples=400)
@given(exact_changes(), events(), st.sampled_from([1, 2, 3]), st.booleans())
def test_classes_agree_with_evaluation(changes: RuleChanges, event: Event, members: int, allowed: bool) -> None:
    summary = RuleSetSummary(changes)
    assert summary.exact
    if BOB in mentioned_users(event):
        return
    context = PushContext(BOB, members, may_notify=lambda key: allowed and key == "room")
    actions = CompiledRules(changes).evaluate(event, context)
    event_class = notification_class(event, member_count=members, room_mention_allowed=allowed)
    outcomes = summary.outcomes(event.room_id)
    assert outcomes.notifies(event_class) == actions.notify
    assert outcomes.highlights(event_class) == (actions.notify and actions.highlight)


@given(exact_changes(), OTHER_CONDITIONS)
def test_other_conditions_are_never_taken_for_exact(changes: RuleChanges, other: dict[str, Any]) -> None:
    changes = put_rule(changes, "underride", "other", {"actions": ["notify"], "conditions": [other]})
    assert not RuleSetSummary(changes).exact
    assert RuleSetSummary(set_enabled(changes, "underride", "other", False)).exact


@pytest.mark.parametrize(("kind", "rule_id"), [("content", "word"), ("sender", ALICE)])
def test_keywords_and_senders_need_evaluation(kind: str, rule_id: str) -> None:
    changes = put_rule(NO_CHANGES, kind, rule_id, {"actions": ["notify"], "pattern": "word"})
    assert not RuleSetSummary(changes).exact


def class_of(event: Event, members: int = 5, *, allowed: bool = False) -> int:
    return notification_class(event, member_count=members, room_mention_allowed=allowed)


def test_an_untouched_user() -> None:
    outcomes = RuleSetSummary(NO_CHANGES).outcomes(ROOM)
    assert outcomes.notifies(class_of(message()))
    assert outcomes.notifies(class_of(make_event("m.room.encrypted")))
    assert not outcomes.notifies(class_of(message(msgtype="m.notice")))
    assert not outcomes.notifies(class_of(make_event("m.reaction")))
    assert not outcomes.highlights(class_of(message(**{"m.mentions": {"room": True}})))
    assert outcomes.highlights(class_of(message(**{"m.mentions": {"room": True}}), allowed=True))
    by_class = [(class_of(message()), 7), (class_of(make_event("m.reaction")), 90), (int(EventKind.TOMBSTONE), 1)]
    assert outcomes.count(by_class) == (8, 1)


def test_muted_and_mentions_only_rooms() -> None:
    body = {"actions": [], "conditions": [condition("room_id", ROOM)]}
    muted = RuleSetSummary(put_rule(NO_CHANGES, "override", ROOM, body))
    assert muted.exact
    assert muted.outcomes(ROOM).notify_mask == 0
    mentions_only = RuleSetSummary(put_rule(NO_CHANGES, "room", ROOM, {"actions": []})).outcomes(ROOM)
    assert not mentions_only.notifies(class_of(message()))
    assert mentions_only.notifies(class_of(message(**{"m.mentions": {"room": True}}), allowed=True))
    everything = RuleSetSummary(put_rule(NO_CHANGES, "room", ROOM, {"actions": ["notify"]})).outcomes(ROOM)
    assert everything.notifies(class_of(make_event("org.example.custom")))
    assert not everything.notifies(class_of(make_event("m.reaction")))


def test_silent_events_count_for_nobody() -> None:
    everything = RuleSetSummary(put_rule(NO_CHANGES, "override", "all", {"actions": ["notify"]})).outcomes(ROOM)
    assert not everything.notifies(SILENT)
    assert everything.notifies(class_of(make_event("org.example.custom")))


def test_rooms_without_rules_share_their_outcomes() -> None:
    summary = RuleSetSummary(put_rule(NO_CHANGES, "room", ROOM, {"actions": []}))
    assert summary.outcomes("!a:example.org") is summary.outcomes("!b:example.org")
    assert summary.outcomes(ROOM) != summary.outcomes("!a:example.org")


def test_mentioned_users_are_those_one_can_look_up() -> None:
    user_ids = [BOB, BOB, ALICE, "bob", "@nobody", 1, None, ["@x:y"], "@\ud800:y", "@" + "x" * 255 + ":y"]
    assert mentioned_users(message(**{"m.mentions": {"user_ids": user_ids}})) == {ALICE, BOB}
    invite = make_event("m.room.member", {"membership": "invite"}, state_key=BOB)
    assert mentioned_users(invite) == {BOB}
    assert mentioned_users(make_event("m.room.member", {"membership": "join"}, state_key=BOB)) == frozenset()
    assert mentioned_users(message()) == frozenset()


@given(HOSTILE_JSON)
def test_any_content_has_a_class(value: Any) -> None:
    keys = ("msgtype", "m.relates_to", "m.mentions", "notification_type", "membership")
    for content in (dict.fromkeys(keys, value), {"m.mentions": {"user_ids": value, "room": value}}):
        event = make_event("m.room.member", content, state_key="")
        assert 0 < class_of(event, allowed=True) < 256
        assert mentions_room(event) in (True, False)
        assert all(user_id.encode() for user_id in mentioned_users(event))
