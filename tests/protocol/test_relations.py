"""Relationships read from content."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.room_events import BOB, HOSTILE_JSON, make_event
from tinyserver.protocol.relations import (
    NO_RELATION,
    Relation,
    counts_as_annotation,
    is_valid_edit,
    may_root_thread,
    relation_of,
)


def relates(**relates_to: Any) -> dict[str, Any]:
    return {"m.relates_to": relates_to}


def test_a_threaded_message_with_fallback() -> None:
    relation = relation_of(
        relates(rel_type="m.thread", event_id="$root", is_falling_back=True, **{"m.in_reply_to": {"event_id": "$last"}})
    )
    assert relation == Relation("m.thread", "$root", "$last", is_falling_back=True)
    assert relation.thread_root == "$root"
    assert not relation.is_reply
    assert not relation.is_edit


def test_a_reply_in_a_thread() -> None:
    relation = relation_of(relates(rel_type="m.thread", event_id="$root", **{"m.in_reply_to": {"event_id": "$x"}}))
    assert relation.is_reply
    assert relation.thread_root == "$root"


def test_a_plain_reply_has_no_relation_type() -> None:
    relation = relation_of(relates(**{"m.in_reply_to": {"event_id": "$x"}}))
    assert relation == Relation(in_reply_to="$x")
    assert relation.is_reply
    assert relation.thread_root is None


def test_an_annotation_has_a_key() -> None:
    assert relation_of(relates(rel_type="m.annotation", event_id="$x", key="👍")).key == "👍"
    assert relation_of(relates(rel_type="m.reference", event_id="$x", key="👍")).key is None


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        {"m.relates_to": None},
        {"m.relates_to": []},
        relates(rel_type="m.thread"),
        relates(event_id="$x"),
        relates(rel_type="m.thread", event_id="x"),
        relates(rel_type="m.thread", event_id="$"),
        relates(rel_type="", event_id="$x"),
        relates(rel_type=["m.thread"], event_id="$x"),
        relates(rel_type="m.thread", event_id="$" + "x" * 255),
        relates(rel_type="m.thread", event_id="$\ud800"),
        relates(**{"m.in_reply_to": "$x"}),
        relates(**{"m.in_reply_to": {"event_id": 1}}),
    ],
)
def test_what_breaks_the_schema_is_ignored(content: Any) -> None:
    assert relation_of(content) is NO_RELATION


ORIGINAL = make_event(content={"body": "a"}, event_id="$original")
EDIT_CONTENT = {"m.new_content": {"body": "b"}, **relates(rel_type="m.replace", event_id="$original")}


def test_a_valid_edit() -> None:
    assert is_valid_edit(ORIGINAL, make_event(content=EDIT_CONTENT))


@pytest.mark.parametrize(
    ("original", "edit"),
    [
        (ORIGINAL, make_event(content=EDIT_CONTENT, room_id="!other:example.org")),
        (ORIGINAL, make_event(content=EDIT_CONTENT, sender=BOB)),
        (ORIGINAL, make_event("m.sticker", EDIT_CONTENT)),
        (ORIGINAL, make_event(content=EDIT_CONTENT, state_key="")),
        (ORIGINAL, make_event(content={**EDIT_CONTENT, "m.new_content": "b"})),
        (ORIGINAL, make_event(content={"m.new_content": {}, **relates(rel_type="m.replace", event_id="$other")})),
        (ORIGINAL, make_event(content={"m.new_content": {}, **relates(rel_type="m.thread", event_id="$original")})),
        (make_event(event_id="$original", state_key=""), make_event(content=EDIT_CONTENT)),
        (
            make_event(content=relates(rel_type="m.replace", event_id="$x"), event_id="$original"),
            make_event(content=EDIT_CONTENT),
        ),
    ],
)
def test_invalid_edits(original: Any, edit: Any) -> None:
    assert not is_valid_edit(original, edit)


def test_an_encrypted_edit_needs_no_cleartext_content() -> None:
    original = make_event("m.room.encrypted", {"ciphertext": "x"}, event_id="$original")
    assert is_valid_edit(original, make_event("m.room.encrypted", relates(rel_type="m.replace", event_id="$original")))


def test_thread_roots_and_annotation_targets() -> None:
    reply = make_event(content=relates(**{"m.in_reply_to": {"event_id": "$x"}}), event_id="$original")
    child = make_event(content=relates(rel_type="m.annotation", event_id="$x", key="a"), event_id="$original")
    assert may_root_thread(ORIGINAL)
    assert may_root_thread(reply)
    assert not may_root_thread(child)
    reaction = make_event("m.reaction", relates(rel_type="m.annotation", event_id="$original", key="a"))
    assert counts_as_annotation(ORIGINAL, reaction)
    assert not counts_as_annotation(child, reaction)
    assert not counts_as_annotation(
        ORIGINAL, make_event("m.reaction", relates(rel_type="m.annotation", event_id="$original"))
    )


@given(
    HOSTILE_JSON,
    st.fixed_dictionaries(
        {},
        optional={
            "rel_type": HOSTILE_JSON,
            "event_id": HOSTILE_JSON,
            "m.in_reply_to": HOSTILE_JSON,
            "key": HOSTILE_JSON,
        },
    ),
)
def test_junk_is_never_an_error_and_never_unstorable(junk: Any, relates_to: Any) -> None:
    for content in (junk, {"m.relates_to": junk}, {"m.relates_to": relates_to}):
        relation = relation_of(content)
        for text in (relation.rel_type, relation.parent_id, relation.in_reply_to, relation.key):
            assert text is None or text.encode()
