"""Filters: reading them, asking them, and projections."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.room_events import ALICE, BOB, HOSTILE_JSON, ROOM
from tinyserver.protocol.errors import BadJson
from tinyserver.protocol.filters import (
    EventFilter,
    EventMatcher,
    Filter,
    Projection,
    RoomEventFilter,
    RoomFilter,
    parse_filter,
    parse_room_event_filter,
)

EXAMPLE = {
    "room": {
        "state": {"types": ["m.room.*"], "not_rooms": ["!726s6s6q:example.com"]},
        "timeline": {"limit": 10, "types": ["m.room.message"], "not_senders": ["@spam:example.com"]},
        "ephemeral": {"types": ["m.receipt", "m.typing"]},
        "include_leave": True,
    },
    "presence": {"types": ["m.presence"], "not_senders": ["@alice:example.com"]},
    "event_format": "client",
    "event_fields": ["type", "content", "sender"],
    "org.matrix.msc4429.profile_fields": {"ids": ["m.tz"]},
    "org.example.unknown": [{"anything": None}],
}


def test_the_example_of_the_specification() -> None:
    parsed = parse_filter(EXAMPLE)
    assert parsed.room is not None
    assert parsed.room.include_leave is True
    assert parsed.room.timeline == RoomEventFilter(
        limit=10, types=["m.room.message"], not_senders=["@spam:example.com"]
    )
    assert parsed.room.account_data is None
    assert parsed.presence == EventFilter(types=["m.presence"], not_senders=["@alice:example.com"])
    assert parsed.unstable_profile_fields is not None
    assert parsed.unstable_profile_fields.ids == ["m.tz"]
    assert not parsed.wants_federation_format


def test_an_empty_filter_restricts_nothing() -> None:
    assert parse_filter({}) == Filter()
    assert EventMatcher(None).lets_all_through
    assert EventMatcher(parse_room_event_filter({"limit": 3, "lazy_load_members": True})).lets_all_through
    assert EventMatcher(None).includes_room(ROOM)
    assert EventMatcher(None).matches_relations([])


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "{}",
        {"room": []},
        {"room": {"timeline": {"limit": "10"}}},
        {"room": {"timeline": {"limit": -1}}},
        {"room": {"timeline": {"limit": 1.5}}},
        {"room": {"timeline": {"types": "m.room.message"}}},
        {"room": {"state": {"lazy_load_members": "yes"}}},
        {"room": {"rooms": [1]}},
        {"presence": {"limit": -5}},
        {"event_format": "xml"},
        {"event_fields": "type"},
        {"event_fields": ["a." * 100]},
    ],
)
def test_malformed_filters_are_refused(value: Any) -> None:
    with pytest.raises(BadJson):
        parse_filter(value)


def test_flags() -> None:
    timeline = parse_room_event_filter({"lazy_load_members": True, "unread_thread_notifications": True})
    assert timeline.lazy
    assert timeline.counts_threads
    assert not RoomEventFilter().lazy
    assert parse_filter({"event_format": "federation"}).wants_federation_format


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ({"types": ["m.room.message"]}, True),
        ({"types": ["m.room.*"]}, True),
        ({"types": ["*"]}, True),
        ({"types": ["m.*.message"]}, True),
        ({"types": ["m.room.messag?"]}, False),
        ({"types": ["M.ROOM.MESSAGE"]}, False),
        ({"types": ["m.room"]}, False),
        ({"types": []}, False),
        ({"not_types": ["m.room.*"]}, False),
        ({"not_types": []}, True),
        ({"types": ["m.room.message"], "not_types": ["*message"]}, False),
        ({"senders": [ALICE]}, True),
        ({"senders": [BOB]}, False),
        ({"senders": []}, False),
        ({"senders": [ALICE], "not_senders": [ALICE]}, False),
        ({"contains_url": True}, True),
        ({"contains_url": False}, False),
        ({"types": None, "senders": None, "contains_url": None}, True),
    ],
)
def test_matching(condition: dict[str, Any], wanted: bool) -> None:
    matcher = EventMatcher(parse_room_event_filter(condition))
    assert matcher.matches("m.room.message", ALICE, {"url": "mxc://example.org/x"}) is wanted


def test_events_without_url() -> None:
    assert not EventMatcher(RoomEventFilter(contains_url=True)).matches("m.room.message", ALICE, {"body": "url"})
    assert EventMatcher(RoomEventFilter(contains_url=False)).matches("m.room.message", ALICE, {})
    assert EventMatcher(RoomEventFilter(contains_url=False)).matches("m.typing", ALICE)


def test_relations_of_the_event_itself() -> None:
    """MSC3874: only edits, or no reactions."""
    edit = {"m.relates_to": {"rel_type": "m.replace", "event_id": "$a"}}
    reaction = {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$a", "key": "x"}}
    only = EventMatcher(parse_room_event_filter({"org.matrix.msc3874.rel_types": ["m.replace"]}))
    none = EventMatcher(parse_room_event_filter({"org.matrix.msc3874.not_rel_types": ["m.annotation"]}))
    found = [(only.matches("x", ALICE, content), none.matches("x", ALICE, content)) for content in (edit, reaction, {})]
    assert found == [(True, True), (False, False), (False, True)]
    assert only.needs_content
    assert none.needs_content
    assert not only.lets_all_through
    assert not EventMatcher(parse_room_event_filter({"org.matrix.msc3874.rel_types": []})).matches("x", ALICE, {})


@given(
    st.builds(
        RoomEventFilter,
        types=st.none() | st.lists(st.sampled_from(["m.room.message", "m.*"]), max_size=2),
        not_types=st.none() | st.lists(st.sampled_from(["m.room.member", "*"]), max_size=1),
        senders=st.none() | st.lists(st.just(ALICE), max_size=1),
        not_senders=st.none() | st.lists(st.just(BOB), max_size=1),
        contains_url=st.none() | st.booleans(),
    ),
    st.sampled_from(["m.room.message", "m.room.member", "x"]),
    st.sampled_from([ALICE, BOB]),
    st.sampled_from([{}, {"url": "mxc://a/b"}]),
)
def test_type_and_sender_decide_unless_the_content_matters(
    wanted: RoomEventFilter, event_type: str, sender: str, content: dict[str, Any]
) -> None:
    matcher = EventMatcher(wanted)
    if matcher.matches(event_type, sender, content):
        assert matcher.matches_origin(event_type, sender)
    elif not matcher.needs_content:
        assert not matcher.matches_origin(event_type, sender)


def test_rooms() -> None:
    assert EventMatcher(RoomEventFilter(rooms=[ROOM])).includes_room(ROOM)
    assert not EventMatcher(RoomEventFilter(rooms=[])).includes_room(ROOM)
    assert not EventMatcher(RoomEventFilter(rooms=[ROOM], not_rooms=[ROOM])).includes_room(ROOM)
    assert not RoomFilter(not_rooms=[ROOM]).includes_room(ROOM)
    assert RoomFilter().includes_room(ROOM)


def test_relations() -> None:
    matcher = EventMatcher(RoomEventFilter(related_by_senders=[ALICE], related_by_rel_types=["m.thread"]))
    assert matcher.asks_for_relations
    assert matcher.matches_relations([("m.annotation", ALICE), ("m.thread", ALICE)])
    assert not matcher.matches_relations([("m.annotation", ALICE), ("m.thread", BOB)])
    assert not matcher.matches_relations([])
    assert EventMatcher(RoomEventFilter(related_by_rel_types=["m.thread"])).matches_relations([("m.thread", BOB)])
    assert not EventMatcher(RoomEventFilter(types=["a"])).asks_for_relations


EVENT = {"type": "m.x", "sender": ALICE, "content": {"body": "a", "m.b": {"c": 1, "d": 2}, "e": [1]}, "unsigned": {}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], {}),
        (["type", "sender"], {"type": "m.x", "sender": ALICE}),
        (["content.body"], {"content": {"body": "a"}}),
        ([r"content.m\.b.c", "content.body"], {"content": {"body": "a", "m.b": {"c": 1}}}),
        (["content.body", "content"], {"content": EVENT["content"]}),
        (["content", "content.body.x"], {"content": EVENT["content"]}),
        (["content.nothing", "nothing", "content.body.deeper", "content.e.0"], {}),
        (["unsigned"], {"unsigned": {}}),
    ],
)
def test_projections(fields: list[str], expected: dict[str, Any]) -> None:
    assert Projection(fields).apply(EVENT) == expected


FILTER_KEYS = st.sampled_from(
    ["room", "timeline", "state", "presence", "types", "not_senders", "limit", "event_fields", "event_format", "rooms"]
)


@given(
    HOSTILE_JSON | st.recursive(HOSTILE_JSON, lambda inner: st.dictionaries(FILTER_KEYS, inner, max_size=4)),
    HOSTILE_JSON,
)
def test_junk_is_a_filter_or_bad_json(value: Any, content: Any) -> None:
    try:
        parsed = parse_filter(value)
        event_filter = parse_room_event_filter(value)
    except BadJson:
        return
    for part in (event_filter, parsed.presence, parsed.room and parsed.room.timeline):
        matcher = EventMatcher(part or None)
        assert matcher.matches("m.room.message", ALICE, {"body": content}) in (True, False)
    assert isinstance(Projection(parsed.event_fields or []).apply({"content": content}), dict)


def test_endless_nesting_is_bad_json_or_fine() -> None:
    nested: Any = {}
    for _ in range(100_000):
        nested = {"room": nested}
    with pytest.raises(BadJson):
        parse_filter({"event_fields": nested})
