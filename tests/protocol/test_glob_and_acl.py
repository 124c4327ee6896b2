"""Glob-style matching and server ACLs."""

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol import vectors
from tests.protocol.room_events import HOSTILE_JSON
from tinyserver.protocol.glob import compile_glob, compile_word_glob, contains_word, matches
from tinyserver.protocol.server_acl import ServerAcl, is_allowed

VECTORS = vectors.load("glob_and_acl")
PATTERNS = st.text("abA*?.", max_size=8)
TEXTS = st.text("abA.-\n", max_size=10)


@pytest.mark.parametrize("case", VECTORS["glob"]["derived_cases"], ids=str)
def test_glob_vectors(case: dict[str, object]) -> None:
    assert matches(str(case["pattern"]), str(case["text"])) == case["match"]


@given(PATTERNS, TEXTS)
def test_glob_agrees_with_fnmatch(pattern: str, text: str) -> None:
    expected = fnmatch.fnmatchcase(text.lower(), pattern.lower())  # neither has brackets here
    assert compile_glob(pattern)(text.lower()) == expected


@given(PATTERNS, TEXTS)
def test_glob_that_minds_case_and_takes_question_marks_literally(pattern: str, text: str) -> None:
    expected = fnmatch.fnmatchcase(text, pattern.replace("?", "[?]"))
    assert compile_glob(pattern, ignore_case=False, question_mark=False)(text) == expected


@given(PATTERNS, TEXTS)
def test_word_glob_agrees_with_a_plain_regular_expression(pattern: str, text: str) -> None:
    inner = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern.lower())
    plain = re.compile(f"(?:^|(?<=[^A-Za-z0-9_])){inner}(?:$|(?=[^A-Za-z0-9_]))".replace("$", r"\Z"), re.DOTALL)
    assert compile_word_glob(pattern)(text.lower()) == (plain.search(text.lower()) is not None)


@pytest.mark.parametrize(
    ("text", "word", "found"),
    [
        ("tea", "tea", True),
        ("it's time for tea!", "tea", True),
        ("steam", "tea", False),
        ("tea_time", "tea", False),
        ("teas tea", "tea", True),
        ("ätea", "tea", True),
        ("", "tea", False),
    ],
)
def test_words(text: str, word: str, found: bool) -> None:
    assert contains_word(text, word) is found
    assert compile_word_glob(word)(text) is found


@pytest.mark.parametrize("compiler", [compile_glob, compile_word_glob])
@pytest.mark.parametrize("pattern", ["a*" * 100 + "b", "?*" * 50 + "b", "a?" * 50 + "*b", "*a" * 200 + "?b"])
def test_hostile_patterns_take_no_exponential_time(compiler: object, pattern: str) -> None:
    started = time.process_time()
    compile_this = compile_glob if compiler is compile_glob else compile_word_glob
    assert compile_this(pattern)("a" * 20_000) is False
    assert time.process_time() - started < 2


ACL = VECTORS["server_acl"]


@pytest.mark.parametrize("case", ACL["derived_cases_for_the_example"], ids=str)
def test_acl_example(case: dict[str, object]) -> None:
    assert is_allowed(str(case["server"]), ACL["example_event_content"]) == case["allowed"]


@pytest.mark.parametrize("case", ACL["derived_cases_other"], ids=str)
def test_acl_other_cases(case: dict[str, object]) -> None:
    assert is_allowed(str(case["server"]), case["content"]) == case["allowed"]


@pytest.mark.parametrize(
    ("content", "server", "allowed"),
    [
        ({"allow": ["*"], "deny": ["EVIL.*"]}, "evil.com:1234", False),
        ({"allow": ["Good.org"]}, "gOOD.ORG:443", True),
        ({"allow": ["good.org:443"]}, "good.org:443", False),  # ports are never compared
        ({"allow": ["*"], "allow_ip_literals": False}, "[::1]", False),
        ({"allow": ["*"], "allow_ip_literals": False}, "1.2.3.4.example.org", True),
        ({"allow": ["[::1]"]}, "[::1]:8448", True),
        ({"allow": ["*"], "allow_ip_literals": 0}, "1.2.3.4", True),
        ({"allow": "*"}, "good.org", False),
        ({"allow": [None, 1, {}, ["*"], "*"], "deny": [None]}, "good.org", True),
        ({"allow": ["*"], "deny": {"good.org": True}}, "good.org", True),
        ([], "good.org", False),
        ("*", "good.org", False),
    ],
)
def test_acl_cases(content: object, server: str, allowed: bool) -> None:
    assert is_allowed(server, content) is allowed


@given(HOSTILE_JSON, HOSTILE_JSON, HOSTILE_JSON, st.text(max_size=20))
def test_no_acl_is_too_malformed(allow: object, deny: object, literals: object, server: str) -> None:
    acl = ServerAcl({"allow": allow, "deny": deny, "allow_ip_literals": literals})
    assert acl.allows(server) in (True, False)
    assert is_allowed(server, allow) in (True, False)
