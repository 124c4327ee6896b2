from typing import Any

import pytest
from hypothesis import given

from tests.protocol import vectors
from tests.protocol.strategies import JUNK, VERSIONS, pdus
from tinyserver.protocol.redaction import redact
from tinyserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion

RULES = vectors.load("redaction_rules")["versions"]
EXAMPLES = [
    (case["input"], identifier, redacted)
    for case in vectors.load("redaction_examples")["cases"]
    for identifier, redacted in case["redacted"].items()
]
VERSION_WITH_SAME_RULES = {"2": "1", "3": "1", "4": "1", "5": "1", "7": "6", "10": "9", "12": "11"}


@pytest.mark.parametrize("identifier", list(ROOM_VERSIONS))
def test_rules(identifier: str) -> None:
    rules = ROOM_VERSIONS[identifier].redaction_rules
    expected = RULES[identifier]
    assert rules.top_level == set(expected["top_level"])
    found: dict[str, Any] = {}
    for event_type, rule in rules.content.items():
        if rule.keys is None:
            found[event_type] = "*"
        elif rule.keys:
            found[event_type] = (set(rule.keys), {key: set(inner) for key, inner in rule.nested.items()})
    assert found == {event_type: described(rule) for event_type, rule in expected["content"].items()}


def described(rule: Any) -> Any:
    """A rule of the vectors: all keys, or the keys that stay and those of which a part stays."""
    if rule == "*":
        return "*"
    keys = {key for key in rule if isinstance(key, str)}
    nested = {key: set(inner) for entry in rule if isinstance(entry, dict) for key, inner in entry.items()}
    return keys, nested


@pytest.mark.parametrize(("pdu", "identifier", "redacted"), EXAMPLES)
def test_examples(pdu: dict[str, Any], identifier: str, redacted: dict[str, Any]) -> None:
    for version in ROOM_VERSIONS.values():
        if version.identifier == identifier or VERSION_WITH_SAME_RULES.get(version.identifier) == identifier:
            assert redact(pdu, version) == redacted


@given(pdus())
def test_redacting_twice_is_redacting_once(case: tuple[RoomVersion, dict[str, Any]]) -> None:
    version, pdu = case
    before = repr(pdu)
    redacted = redact(pdu, version)
    assert redact(redacted, version) == redacted
    assert repr(pdu) == before
    assert set(redacted) <= set(pdu) - {"unsigned", "redacts"}


@given(VERSIONS, JUNK, JUNK)
def test_content_of_the_wrong_type_becomes_empty(version: RoomVersion, event_type: Any, content: Any) -> None:
    redacted = redact({"type": event_type, "content": content}, version)
    assert isinstance(redacted["content"], dict)


@pytest.mark.parametrize("invite", ["x", 1, None, []])
def test_a_third_party_invite_that_is_no_object_goes(invite: Any) -> None:
    pdu = {"type": "m.room.member", "content": {"membership": "invite", "third_party_invite": invite}}
    assert redact(pdu, ROOM_VERSIONS["11"])["content"] == {"membership": "invite"}
