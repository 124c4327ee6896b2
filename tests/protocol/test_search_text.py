"""Text cut into words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyserver.protocol.search_text import MAX_WORD, score, searchable_text, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("Café CAFÉ cafe\u0301", ["cafe", "cafe", "cafe"]),
        ("Straße", ["strasse"]),
        ("snake_case x86", ["snake", "case", "x86"]),
        ("東京都に", ["東京", "京都", "都に"]),
        ("abc東京", ["abc", "東京"]),
        ("人", ["人"]),
        ("привет Мир", ["привет", "мир"]),
        ("... --- '\"", []),
        ("x" * 100, ["x" * MAX_WORD]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(max_size=300))
def test_words_are_stable_and_safe(text: str) -> None:
    found = words(text)
    assert all(word and '"' not in word and " " not in word and "\0" not in word for word in found)
    assert words(" ".join(found)) == found or not text.isascii()


def test_an_edit_is_searched_by_its_new_text() -> None:
    content = {"body": "* new", "m.new_content": {"body": "new"}}
    relation = {"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}}
    assert searchable_text("m.room.message", {**content, **relation}) == "new"
    assert searchable_text("m.room.message", content) == "* new"
    assert searchable_text("m.room.topic", {"topic": "tea"}) == "tea"
    assert searchable_text("m.room.message", {"body": 7}) is None
    assert searchable_text("m.reaction", {"body": "x"}) is None


def test_short_texts_that_say_it_often_come_first() -> None:
    assert score(["tea"], ["tea"]) > score(["tea"], ["tea", "and", "cake"])
    assert score(["tea"], ["tea", "tea", "cake"]) > score(["tea"], ["tea", "milk", "cake"])
