from typing import Any

import pytest

from tests.protocol import vectors
from tinyserver.protocol.errors import UnsupportedRoomVersion
from tinyserver.protocol.room_versions import (
    DEFAULT_ROOM_VERSION,
    ROOM_VERSIONS,
    EventIdFormat,
    RoomVersion,
    StateResolution,
    get_room_version,
)

VECTORS = vectors.load("room_versions")


def described(version: RoomVersion) -> dict[str, Any]:
    """The version in the words of the vectors."""
    return {
        "stable": True,
        "event_id": {
            EventIdFormat.OPAQUE: "own field, $opaque:domain",
            EventIdFormat.HASH: "$ + reference hash, unpadded base64, standard alphabet",
            EventIdFormat.HASH_URLSAFE: "$ + reference hash, unpadded base64, URL-safe alphabet",
        }[version.event_id_format],
        "event_id_field_on_federation": version.event_id_in_pdu,
        "prev_and_auth_events": (
            "[[event_id, {sha256: hash}], ...]" if version.references_with_hashes else "[event_id, ...]"
        ),
        "state_resolution": {
            StateResolution.V1: "v1",
            StateResolution.V2: "v2",
            StateResolution.V2_1: "v2.1 (start from an empty state, conflicted state subgraph)",
        }[version.state_resolution],
        "signing_key_validity_enforced": version.enforce_key_validity,
        "canonical_json_enforced": version.strict_canonical_json,
        "m.room.aliases_auth_rule_and_redaction": version.special_case_aliases,
        "power_level_rules_cover_notifications": version.power_levels_cover_notifications,
        "power_levels_strings_accepted": version.power_levels_accept_strings,
        "power_levels_floats_accepted": version.power_levels_accept_floats,
        "redaction_checked": (
            "by the authorisation rules (rule 11)"
            if version.redactions_authorised_by_rules
            else "when applied (Handling redactions)"
        ),
        "redacts_field": "content.redacts" if version.redacts_in_content else "top level",
        "knock": version.knock,
        "restricted": version.restricted,
        "knock_restricted": version.knock_restricted,
        "create_has_creator_field": version.creator_in_content,
        "room_id": (
            "! + event ID of the create event without $; the create event has no room_id"
            if version.room_id_is_create_hash
            else "!opaque:domain"
        ),
        "create_event_in_auth_events": version.create_in_auth_events,
        "creators_have_infinite_power_and_additional_creators": version.privileged_creators,
    }


def test_there_are_twelve_versions() -> None:
    assert list(ROOM_VERSIONS) == [str(number) for number in range(1, 13)] == list(VECTORS["versions"])
    assert VECTORS["default_room_version"].split()[0] == DEFAULT_ROOM_VERSION


@pytest.mark.parametrize("identifier", list(ROOM_VERSIONS))
def test_flags(identifier: str) -> None:
    expected = dict(VECTORS["versions"][identifier])
    same_rules = ROOM_VERSIONS[str(expected.pop("redaction_rules_of_version"))]
    expected.pop("pdu_schema")
    version = get_room_version(identifier)
    assert described(version) == expected
    assert version.identifier == identifier
    assert version.redaction_rules is same_rules.redaction_rules


@pytest.mark.parametrize("identifier", list(ROOM_VERSIONS))
def test_flags_that_follow_from_each_other(identifier: str) -> None:
    version = get_room_version(identifier)
    assert version.max_depth == (2**53 - 1 if version.strict_canonical_json else 2**63 - 1)
    assert version.integer_power_levels == (not version.power_levels_accept_strings)
    assert ("restricted" in version.restricted_join_rules) == version.restricted
    assert ("knock" in version.knock_join_rules) == version.knock
    for rules in (version.restricted_join_rules, version.knock_join_rules):
        assert ("knock_restricted" in rules) == version.knock_restricted


@pytest.mark.parametrize("identifier", ["", "0", "13", "org.example", None, 12, [], {}])
def test_unknown_versions(identifier: Any) -> None:
    with pytest.raises(UnsupportedRoomVersion):
        get_room_version(identifier)
