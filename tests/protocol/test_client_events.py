"""Events in the client-server format."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given

from tests.protocol.room_events import ALICE, HOSTILE_JSON, ROOM, make_event
from tinyserver.protocol.client_events import (
    client_event,
    client_event_bytes,
    federation_event,
    prune_stripped_state,
    stripped_state,
    unsigned_data,
    with_unsigned,
)


def test_a_message_as_in_sync() -> None:
    event = make_event("m.room.message", {"body": "hi"}, unsigned={"age": 1}, hashes={"sha256": "x"})
    assert client_event(event, room_id=False) == {
        "content": {"body": "hi"},
        "event_id": "$event",
        "origin_server_ts": 1_700_000_000_000,
        "sender": ALICE,
        "type": "m.room.message",
    }


def test_a_state_event_with_its_room_and_unsigned() -> None:
    rendered = client_event(make_event("m.room.topic", state_key=""), room_id=True, unsigned={"age": 3})
    assert rendered["state_key"] == ""
    assert rendered["room_id"] == ROOM
    assert rendered["unsigned"] == {"age": 3}


def test_a_version_12_create_event_gets_its_room_id() -> None:
    event = make_event("m.room.create", state_key="", room_id=None, event_id="$abc", version="12")
    assert client_event(event, room_id=True)["room_id"] == "!abc"


@pytest.mark.parametrize("version", ["1", "10", "11", "12"])
def test_redactions_name_their_target_at_both_places(version: str) -> None:
    in_content = int(version) >= 11
    content = {"reason": "spam", **({"redacts": "$target"} if in_content else {})}
    event = make_event("m.room.redaction", content, version=version, **({} if in_content else {"redacts": "$target"}))
    rendered = client_event(event, room_id=False)
    assert rendered["redacts"] == "$target"
    assert rendered["content"] == {"reason": "spam", "redacts": "$target"}
    assert event.content == content


def test_the_target_is_the_one_that_counts_in_the_room_version() -> None:
    event = make_event("m.room.redaction", {"redacts": "$wrong"}, version="10", redacts="$right")
    assert client_event(event, room_id=False)["content"]["redacts"] == "$right"
    event = make_event("m.room.redaction", {"redacts": "$right"}, version="11", redacts="$wrong")
    assert client_event(event, room_id=False)["redacts"] == "$right"


def test_only_redactions_carry_redacts() -> None:
    event = make_event("m.room.message", {"redacts": "$x"}, version="11", redacts="$y")
    assert "redacts" not in client_event(event, room_id=False)


def test_bytes_and_splicing() -> None:
    event = make_event("m.room.message", {"body": "hi"})
    body = client_event_bytes(event, room_id=True)
    assert orjson.loads(body) == client_event(event, room_id=True)
    unsigned = unsigned_data(age=4, membership="join", transaction_id="t")
    for spliced in (with_unsigned(body, unsigned), with_unsigned(body, orjson.dumps(unsigned))):
        assert orjson.loads(spliced) == client_event(event, room_id=True, unsigned=unsigned)
        assert orjson.loads(orjson.dumps([orjson.Fragment(spliced)])) == [orjson.loads(spliced)]
    assert with_unsigned(body, None) is body
    assert with_unsigned(body, {}) is body


def test_unsigned_has_only_what_is_known() -> None:
    assert unsigned_data() == {}
    everything = unsigned_data(
        age=0,
        membership="leave",
        transaction_id="t",
        prev_content={},
        replaces_state="$old",
        redacted_because={"type": "m.room.redaction"},
        relations={"m.thread": {"count": 1}},
    )
    assert everything["age"] == 0
    assert everything["prev_content"] == {}
    assert set(everything) == {
        "age", "membership", "transaction_id", "prev_content", "replaces_state", "redacted_because", "m.relations",
    }  # fmt: skip


def test_federation_format_has_no_foreign_unsigned() -> None:
    event = make_event("m.room.message", unsigned={"evil": 1}, signatures={"example.org": {}})
    assert "unsigned" not in federation_event(event)
    rendered = federation_event(event, unsigned={"age": 1})
    assert rendered == {**event.pdu, "unsigned": {"age": 1}}


def test_content_beyond_orjson_is_still_encoded() -> None:
    content = {"big": 2**70, "text": "\ud800", "ä": "ö"}
    body = client_event_bytes(make_event("m.room.message", content, version="1"), room_id=False)
    assert json.loads(body)["content"] == content
    body.decode("utf-8")


def test_stripped_state() -> None:
    event = make_event("m.room.name", {"name": "Family"}, state_key="")
    expected = {"type": "m.room.name", "state_key": "", "sender": ALICE, "content": {"name": "Family"}}
    assert stripped_state(event) == expected
    assert prune_stripped_state([{**event.pdu, "event_id": "$x"}]) == [expected]


@pytest.mark.parametrize(
    "value", [None, {}, "x", [None, 1, []], [{"type": "m.room.name"}], [{"type": 1, "state_key": ""}]]
)
def test_malformed_stripped_state_is_left_out(value: Any) -> None:
    assert prune_stripped_state(value) == []


@given(HOSTILE_JSON)
def test_any_content_can_be_rendered(value: Any) -> None:
    event = make_event("m.room.redaction", {"redacts": value, "x": value}, redacts=value, unsigned=value)
    body = client_event_bytes(event, room_id=True)
    assert json.loads(with_unsigned(body, {"age": 1}))["unsigned"] == {"age": 1}
    assert prune_stripped_state([value, {"type": value, "content": {}, "sender": "", "state_key": ""}]) is not None
