"""Dot-separated property paths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyserver.protocol.property_paths import MISSING, look_up, split_path


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("content.body", ("content", "body")),
        (r"content.m\.relates_to", ("content", "m.relates_to")),
        (r"content.m\\foo", ("content", r"m\foo")),
        (r"content.m\xfoo", ("content", r"m\xfoo")),
        ("a..b.", ("a", "", "b", "")),
        ("", ("",)),
        ("a\\", ("a\\",)),
    ],
)
def test_splitting(path: str, names: tuple[str, ...]) -> None:
    assert split_path(path) == names


@given(st.lists(st.text(), min_size=1))
def test_escaped_names_come_back(names: list[str]) -> None:
    path = ".".join(name.replace("\\", "\\\\").replace(".", "\\.") for name in names)
    assert split_path(path) == tuple(names)


def test_looking_up() -> None:
    value = {"a": {"b.c": None, "list": [1]}}
    assert look_up(value, ("a", "b.c")) is None
    assert look_up(value, ("a", "x")) is MISSING
    assert look_up(value, ("a", "list", "0")) is MISSING
    assert look_up(value, ("a", "b.c", "d")) is MISSING
