"""Lists of keys that servers publish."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyserver.protocol import base64
from tinyserver.protocol.server_keys import (
    MAX_KEYS,
    BadKeyDocument,
    PublishedKey,
    make_key_document,
    parse_key_document,
)
from tinyserver.protocol.signing import SigningKey, sign_json

KEY, OTHER = SigningKey("k", b"k" * 32), SigningKey("o", b"o" * 32)
OLD = PublishedKey("ed25519:old", base64.encode(b"x" * 32), 500)


def document(**changes: Any) -> dict[str, Any]:
    made = make_key_document("a.test", [KEY], [OLD], 1000)
    return sign_json({**made, **changes, "signatures": {}}, "a.test", KEY)


def test_what_is_made_is_understood() -> None:
    made = make_key_document("a.test", [KEY, OTHER], [OLD], 1000)
    parsed = parse_key_document(made, "a.test")
    assert parsed.valid_until_ts == 1000
    assert parsed.keys == {
        "ed25519:k": PublishedKey("ed25519:k", KEY.verify_key_base64),
        "ed25519:o": PublishedKey("ed25519:o", OTHER.verify_key_base64),
        "ed25519:old": OLD,
    }


def test_unknown_algorithms_and_fields_are_passed_over() -> None:
    keys = {"ed25519:k": {"key": KEY.verify_key_base64}, "dilithium:x": {"key": "AA"}, "ed25519:b ad": {"key": "AA"}}
    made = document(verify_keys=keys, old_verify_keys={"ed25519:y": 7, "ed25519:z": {"key": OLD.public_key}}, more=[1])
    assert set(parse_key_document(made, "a.test").keys) == {"ed25519:k"}


def test_a_present_key_wins_over_an_old_one_of_the_same_name() -> None:
    made = document(old_verify_keys={"ed25519:k": {"key": OLD.public_key, "expired_ts": 5}})
    assert parse_key_document(made, "a.test").keys["ed25519:k"].expired_ts is None


def test_there_may_be_no_old_keys() -> None:
    assert parse_key_document(document(old_verify_keys=None), "a.test")


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        "x",
        {},
        document(server_name="b.test"),
        document(valid_until_ts="1000"),
        document(valid_until_ts=True),
        document(valid_until_ts=-1),
        document(valid_until_ts=2**63),
        document(valid_until_ts=1.5),
        document(verify_keys={}),
        document(verify_keys=[]),
        document(verify_keys={"ed25519:k": {"key": "AAAA"}}),
        document(verify_keys={"ed25519:k": {"key": OTHER.verify_key_base64}}),
        document(verify_keys={"ed25519:o": {"key": OTHER.verify_key_base64}}),
        {**document(), "signatures": {}},
        {**document(), "signatures": {"a.test": {"ed25519:k": "AAAA"}}},
        {**document(), "signatures": {"a.test": []}},
        {**document(), "valid_until_ts": 1001},
        {**document(), "more": "\ud800"},
    ],
)
def test_refused(bad: Any) -> None:
    with pytest.raises(BadKeyDocument):
        parse_key_document(bad, "a.test")


def test_one_wrong_signature_of_two_spoils_it() -> None:
    made = make_key_document("a.test", [KEY, OTHER], [], 1000)
    made["signatures"]["a.test"]["ed25519:o"] = made["signatures"]["a.test"]["ed25519:k"]
    with pytest.raises(BadKeyDocument):
        parse_key_document(made, "a.test")


def test_countless_keys_are_not_all_looked_at() -> None:
    many = {f"ed25519:n{number}": {"key": OLD.public_key, "expired_ts": 1} for number in range(3 * MAX_KEYS)}
    assert len(parse_key_document(document(old_verify_keys=many), "a.test").keys) == MAX_KEYS + 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["verify_keys", "old_verify_keys", "signatures", "valid_until_ts"]), JSON))
def test_any_json_is_refused_cleanly(fields: dict[str, Any]) -> None:
    with pytest.raises(BadKeyDocument):
        parse_key_document({"server_name": "a.test", **fields}, "a.test")
