"""Regular expressions in linear time: they match what Python's own do, and nothing makes them slow or large."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyserver.protocol.linear_patterns import LinearPattern, PatternError

_ATOMS = st.sampled_from(["a", "b", "_", ".", "[ab]", "[^a]", "[a-c]", r"\d", r"\w", r"\W", r"\.", "^", "$", "()"])


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    repeated = st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "{2}", "{1,3}", "{0,2}", "{2,}"]))
    return st.one_of(
        st.lists(inner, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        repeated.map(lambda pair: f"({pair[0]}){pair[1]}"),
    )


@given(st.recursive(_ATOMS, _larger, max_leaves=8), st.text("abc_.1:", max_size=8))
def test_matches_as_python_does(expression: str, text: str) -> None:
    assert LinearPattern(expression).matches(text) == (re.match(expression, text) is not None)


@pytest.mark.parametrize("expression", ["(a*)*b", "(a|a)*b", "(a|aa)+$b", "((((a*)*)*)*)*b"])
def test_what_explodes_elsewhere_is_fast(expression: str) -> None:
    began = time.monotonic()
    assert not LinearPattern(expression).matches("a" * 2000)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "expression",
    [
        *("(", "a**", "[", r"\1", r"(a)\1", "(?=a)", "(?<!a)a", "(?i)a", r"\b", "a*+", "(?>a)", "(?P<n>a)(?P=n)"),
        *("(a{100}){100}", "a{0,999999999}", "(){999999999}", "(){0,999999999}", "((){4000}){4000}"),
        *("a" * 5000, "(" * 2000 + ")" * 2000),
    ],
)
def test_what_cannot_be_used_is_refused(expression: str) -> None:
    with pytest.raises(PatternError):
        LinearPattern(expression)
