"""Taking a big answer apart while it arrives, and bringing its events into the order of their auth edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyserver.federation.participation.event_spool import EventSpool
from tinyserver.federation.participation.event_stream import MAX_EVENT, EventStream
from tinyserver.outgoing.errors import AnswerMalformed, AnswerTooLarge
from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import ROOM_VERSIONS

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
pdus = st.lists(st.dictionaries(st.text(), values, max_size=4), max_size=5)


def taken(text: bytes, cut: int) -> list[tuple[str, Any]]:
    stream = EventStream(("state", "auth_chain"), ("event",))
    pieces = [text[at : at + cut] for at in range(0, len(text), cut)]
    found = [item for piece in pieces for item in stream.feed(piece)]
    stream.finish()
    return [(name, json.loads(raw)) for name, raw in found]


@settings(max_examples=60)
@given(state=pdus, chain=pdus, event=st.dictionaries(st.text(), values, max_size=3), cut=st.integers(1, 40))
def test_events_come_out_as_they_are(state: Any, chain: Any, event: Any, cut: int) -> None:
    answer = {"state": state, "origin": '"}{', "auth_chain": chain, "event": event, "other": [{"state": [{}]}], "n": 1}
    expected = [("state", pdu) for pdu in state] + [("auth_chain", pdu) for pdu in chain] + [("event", event)]
    assert taken(json.dumps(answer).encode(), cut) == expected
    assert taken(json.dumps(answer, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass"), cut) == expected


@settings(max_examples=60)
@given(
    flag=st.none() | st.booleans() | st.integers(-9, 9),
    names=st.lists(st.text(), max_size=4),
    state=pdus,
    gap=st.sampled_from(["", " ", "\n\t"]),
    cut=st.integers(1, 40),
)
def test_other_members_come_out_whole(flag: Any, names: list[str], state: Any, gap: str, cut: int) -> None:
    stream = EventStream(("state",), ("flag", "names"))
    members = {"origin": "flag", "flag": flag, "state": state, "names": names, "more": [["names"], {"flag": 1}]}
    parts = (f"{json.dumps(name)}{gap}:{gap}{json.dumps(value)}{gap}" for name, value in members.items())
    text = ("{" + ("," + gap).join(parts) + "}").encode()
    found = [item for at in range(0, len(text), cut) for item in stream.feed(text[at : at + cut])]
    stream.finish()
    assert [(name, json.loads(raw)) for name, raw in found] == [
        ("flag", flag),
        *(("state", pdu) for pdu in state),
        ("names", names),
    ]


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b'{"state":[{}', b'{"state":[{]}', b'{"state":[}', b"{}{}", b"[" * 5000]
)
def test_what_is_no_whole_object_is_refused(text: bytes) -> None:
    with pytest.raises(AnswerMalformed):
        taken(text, 7)


def test_what_never_ends_is_not_kept() -> None:
    stream = EventStream(("state",))
    pieces = [b'{"state":[{"a":"', *[b"x" * 1000] * (MAX_EVENT // 1000 + 2)]
    with pytest.raises(AnswerTooLarge):
        [item for piece in pieces for item in stream.feed(piece)]


def test_auth_events_come_first(tmp_path: Path) -> None:
    version = ROOM_VERSIONS["11"]
    spool = EventSpool(version, tmp_path)
    count = 300
    for number in reversed(range(count)):
        auth = [f"${before}" for before in range(max(0, number - 3), number)] + ["$elsewhere"]
        pdu = {"type": "t", "sender": "@a:b", "room_id": "!r:b", "content": {"n": number}, "auth_events": auth}
        spool.add(Event.from_trusted(pdu, version, f"${number}"))
    order = list(spool.in_order())
    assert sorted(order) == sorted(f"${number}" for number in range(count))
    seen: set[str] = set()
    for event_id in order:
        assert set(spool.get(event_id).auth_event_ids) - {"$elsewhere"} <= seen
        seen.add(event_id)
    assert "$elsewhere" not in spool
    spool.close()
