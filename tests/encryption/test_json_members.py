"""JSON objects taken apart while they arrive: the same members as from a parser that sees the whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyserver.encryption.json_members import MAX_MEMBER, JsonMembers
from tinyserver.protocol.errors import BadJson, MatrixError, NotJson, TooLarge

names = st.text(st.characters(codec="utf-8"), max_size=6)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | names
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))
rooms = st.dictionaries(
    names, st.dictionaries(names, values, max_size=2).flatmap(lambda rest: sessions(rest)), max_size=3
)


def sessions(rest: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(names, values, max_size=3).map(lambda found: {**rest, "sessions": found})


def split(pattern: tuple[str | None, ...], text: bytes, sizes: list[int]) -> list[tuple[tuple[str, ...], Any]]:
    members = JsonMembers(pattern)
    found = []
    while text:
        size = sizes.pop(0) if sizes else len(text)
        found += list(members.feed(text[:size]))
        text = text[size:]
    members.finish()
    return found


@given(rooms, st.dictionaries(names, values, max_size=2), st.lists(st.integers(1, 30), max_size=60), st.booleans())
def test_the_same_as_the_whole(
    of_rooms: dict[str, Any], rest: dict[str, Any], sizes: list[int], is_spaced: bool
) -> None:
    whole = {**rest, "rooms": of_rooms}
    text = json.dumps(whole, indent=2 if is_spaced else None, ensure_ascii=is_spaced).encode()
    expected = [
        (("rooms", room, "sessions", session), value)
        for room, of_room in of_rooms.items()
        for session, value in of_room["sessions"].items()
    ]
    assert split(("rooms", None, "sessions", None), text, sizes) == expected


@given(st.binary(max_size=60), st.lists(st.integers(1, 9), max_size=10))
def test_junk_is_an_error_or_json(junk: bytes, sizes: list[int]) -> None:
    text = b'{"sessions":{"a":1' + junk
    try:
        split(("sessions", None), text, sizes)
    except MatrixError:
        return
    assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", NotJson),
        (b"[]", NotJson),
        (b"{}", BadJson),
        (b'{"rooms":{}}', BadJson),
        (b'{"sessions":[]}', BadJson),
        (b'{"sessions":{}', NotJson),
        (b'{"sessions":{}}x', NotJson),
        (b'{"sessions":{,}}', NotJson),
        (b'{"sessions":{"a":1,}}', NotJson),
        (b'{"sessions":{"a" 1}}', NotJson),
        (b'{"sessions":{"a":NaN}}', NotJson),
        (b'{"sessions":{"a":"\xff"}}', NotJson),
        (b'{"sessions":{"a":"\xc3', NotJson),
        (b'{"sessions":{"a":' + b"[" * 100_000, BadJson),
        (b'{"sessions":{"a":' + b"1" * 10_000 + b"}}", BadJson),
        (b'{"sessions":{"a":"' + b"x" * (MAX_MEMBER + 1), TooLarge),
    ],
)
def test_what_is_wrong_is_said(text: bytes, error: type[MatrixError]) -> None:
    with pytest.raises(error):
        split(("sessions", None), text, [])
