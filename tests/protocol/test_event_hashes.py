from typing import Any

import pytest
from hypothesis import given

from tests.protocol import vectors
from tests.protocol.strategies import KEY, SERVER, make_pdu, pdus
from tinyserver.protocol import base64
from tinyserver.protocol.event_hashes import (
    add_content_hash,
    check_content_hash,
    content_hash,
    event_id_of,
    reference_hash,
    required_signers,
    room_id_of_create,
    sign_event,
    verify_event_signature,
)
from tinyserver.protocol.identifiers import InvalidIdentifier
from tinyserver.protocol.redaction import redact
from tinyserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from tinyserver.protocol.signing import SignatureError, SigningKey

SIGNING = vectors.load("signing")
EVENT_IDS = vectors.load("event_ids")
VECTOR_KEY = SigningKey("1", base64.decode(SIGNING["signing_key_seed"]))
COMPLETE = list(EVENT_IDS["complete_events_by_room_version"].items())
V12 = ROOM_VERSIONS["12"]


SIGNED_WITH_EVENT_ID = [version for version in ROOM_VERSIONS.values() if version.event_id_in_pdu]
SIGNED_WITH_ORIGIN = [version for version in ROOM_VERSIONS.values() if "origin" in version.redaction_rules.top_level]


@pytest.mark.parametrize(
    ("version", "case"),
    [(version, SIGNING["event_signing"][0]) for version in SIGNED_WITH_ORIGIN]
    + [(version, SIGNING["event_signing"][1]) for version in SIGNED_WITH_EVENT_ID],
    ids=lambda value: value.identifier if isinstance(value, RoomVersion) else value["input"]["type"],
)
def test_event_signing_vectors(version: RoomVersion, case: dict[str, Any]) -> None:
    signed = sign_event(add_content_hash(case["input"]), version, SIGNING["server_name"], VECTOR_KEY)
    assert signed == case["signed"]
    assert check_content_hash(signed)
    verify_event_signature(signed, version, "domain", VECTOR_KEY.key_id, VECTOR_KEY.verify_key_base64)


@pytest.mark.parametrize("case", EVENT_IDS["cases"], ids=["minimal"])
def test_event_id_vectors(case: dict[str, Any]) -> None:
    for identifier, event_id in case["event_id_by_room_version"].items():
        assert event_id_of(case["event"], ROOM_VERSIONS[identifier]) == event_id


@pytest.mark.parametrize(("identifier", "case"), COMPLETE, ids=[identifier for identifier, _ in COMPLETE])
def test_complete_event_vectors(identifier: str, case: dict[str, Any]) -> None:
    version = ROOM_VERSIONS[identifier]
    event = case["event"]
    assert event_id_of(event, version) == case["event_id"]
    assert check_content_hash(event)
    verify_event_signature(event, version, "domain", VECTOR_KEY.key_id, VECTOR_KEY.verify_key_base64)


def test_the_create_event_vector_of_version_12() -> None:
    case = EVENT_IDS["room_version_12_create"]
    assert event_id_of(case["event"], V12) == case["event_id"]
    assert room_id_of_create(case["event"], V12) == case["room_id"]
    assert check_content_hash(case["event"])
    verify_event_signature(case["event"], V12, "domain", VECTOR_KEY.key_id, VECTOR_KEY.verify_key_base64)


def test_the_room_id_of_older_create_events_is_their_own() -> None:
    assert room_id_of_create({"room_id": "!a:b"}, ROOM_VERSIONS["11"]) == "!a:b"


@given(pdus())
def test_redaction_unsigned_and_signatures_change_neither_id_nor_signature(
    case: tuple[RoomVersion, dict[str, Any]],
) -> None:
    version, pdu = case
    expected = reference_hash(pdu, version)
    changed = [
        redact(pdu, version),
        {**pdu, "unsigned": {"age": 1}},
        sign_event(pdu, version, "other.example", SigningKey("b", bytes(32))),
        dict(reversed(pdu.items())),
    ]
    for variant in changed:
        assert reference_hash(variant, version) == expected
        assert event_id_of(variant, version) == event_id_of(pdu, version)
        verify_event_signature(variant, version, SERVER, KEY.key_id, KEY.verify_key_base64)
    assert len(expected) == 32


@given(pdus())
def test_the_content_hash_covers_everything_else(case: tuple[RoomVersion, dict[str, Any]]) -> None:
    _, pdu = case
    assert check_content_hash(pdu)
    assert check_content_hash({**pdu, "unsigned": {"age": 1}, "signatures": {}})
    assert not check_content_hash({**pdu, "content": {**pdu["content"], "changed": 1}})
    assert not check_content_hash({**pdu, "new": 1})


@pytest.mark.parametrize(
    "hashes", [None, {}, [], "x", {"sha256": 1}, {"sha256": "?"}, {"sha256": ""}, {"md5": "x"}], ids=repr
)
def test_missing_and_malformed_content_hashes(hashes: Any) -> None:
    assert not check_content_hash({**make_pdu(V12), "hashes": hashes})


def test_a_stray_event_id_is_not_hashed_where_the_id_is_the_hash() -> None:
    for version in ROOM_VERSIONS.values():
        if not version.event_id_in_pdu:
            pdu = make_pdu(version)
            assert event_id_of({**pdu, "event_id": "$stray:example.org"}, version) == event_id_of(pdu, version)


def test_an_essential_field_changes_id_and_signature() -> None:
    pdu = make_pdu(V12)
    changed = {**pdu, "depth": 13}
    assert event_id_of(changed, V12) != event_id_of(pdu, V12)
    with pytest.raises(SignatureError):
        verify_event_signature(changed, V12, SERVER, KEY.key_id, KEY.verify_key_base64)
    with pytest.raises(SignatureError):
        verify_event_signature(pdu, V12, "other.example", KEY.key_id, KEY.verify_key_base64)


def test_content_hashes_of_old_rooms_cover_any_number() -> None:
    assert content_hash({"a": 2**70}) != content_hash({"a": 2**70 + 1})
    assert content_hash({"a": 1.5}) != content_hash({"a": 1.25})


def test_the_sender_s_server_signs() -> None:
    assert required_signers(make_pdu(V12), V12) == {"example.org"}


def test_in_the_first_versions_the_server_in_the_event_id_signs_too() -> None:
    for identifier in ("1", "2"):
        version = ROOM_VERSIONS[identifier]
        assert required_signers(make_pdu(version, event_id="$a:other.net"), version) == {"example.org", "other.net"}


def test_another_server_may_send_a_third_party_invite() -> None:
    content = {"membership": "invite", "third_party_invite": {"signed": {}}}
    invite = {"type": "m.room.member", "state_key": "@bob:other.net", "content": content}
    assert required_signers(make_pdu(V12, **invite), V12) == set()
    version = ROOM_VERSIONS["1"]
    assert required_signers(make_pdu(version, event_id="$a:third.net", **invite), version) == {"third.net"}
    content["membership"] = "join"
    assert required_signers(make_pdu(V12, **invite), V12) == {"example.org"}


def test_a_restricted_join_is_signed_by_the_server_that_authorised_it() -> None:
    content = {"membership": "join", "join_authorised_via_users_server": "@bob:other.net"}
    join = {"type": "m.room.member", "state_key": "@alice:example.org", "content": content}
    for version in ROOM_VERSIONS.values():
        expected = {"example.org", "other.net"} if version.restricted else {"example.org"}
        assert required_signers(make_pdu(version, **join), version) == expected
    content["join_authorised_via_users_server"] = "nobody"
    with pytest.raises(InvalidIdentifier):
        required_signers(make_pdu(V12, **join), V12)
