from typing import Any

import pytest
from hypothesis import given

from tests.protocol import vectors
from tests.protocol.strategies import JUNK, json_objects
from tinyserver.protocol import base64, signing
from tinyserver.protocol.canonical_json import CanonicalJsonError
from tinyserver.protocol.signing import SignatureError, SigningKey

VECTORS = vectors.load("signing")
SERVER = VECTORS["server_name"]
KEY = SigningKey("1", base64.decode(VECTORS["signing_key_seed"]))


def test_the_key_of_the_vectors() -> None:
    assert KEY.key_id == VECTORS["key_id"]
    assert KEY.verify_key_base64 == VECTORS["verify_key"]


@pytest.mark.parametrize("case", VECTORS["json_signing"], ids=lambda case: str(case["input"]))
def test_json_signing_vectors(case: dict[str, Any]) -> None:
    signed = signing.sign_json(case["input"], SERVER, KEY)
    assert signed == case["signed"]
    signing.verify_json(signed, SERVER, KEY.key_id, KEY.verify_key_base64)


@pytest.mark.parametrize(
    "case", vectors.load("request_signing")["cases"], ids=lambda case: case["signed_object"]["method"]
)
def test_request_signing_vectors(case: dict[str, Any]) -> None:
    signed = signing.sign_json(case["signed_object"], SERVER, KEY)
    assert signed["signatures"][SERVER][KEY.key_id] == case["signature"]


@given(json_objects())
def test_round_trip(obj: dict[str, Any]) -> None:
    signed = signing.sign_json(obj, SERVER, KEY)
    signing.verify_json(signed, SERVER, KEY.key_id, KEY.verify_key_base64)
    signing.verify_json({**signed, "unsigned": {"age": 1}}, SERVER, KEY.key_id, KEY.verify_key_base64)
    with pytest.raises(SignatureError):
        signing.verify_json({**signed, "changed": True}, SERVER, KEY.key_id, KEY.verify_key_base64)


def test_signing_adds_to_the_signatures_that_are_there_and_changes_nothing_else() -> None:
    original = {"a": 1, "unsigned": {"age": 1}, "signatures": {SERVER: {"ed25519:0": "x"}, "other": {"ed25519:9": "y"}}}
    signed = signing.sign_json(original, SERVER, KEY)
    assert original["signatures"] == {SERVER: {"ed25519:0": "x"}, "other": {"ed25519:9": "y"}}
    assert signed["unsigned"] == {"age": 1}
    assert signed["signatures"]["other"] == {"ed25519:9": "y"}
    assert set(signed["signatures"][SERVER]) == {"ed25519:0", KEY.key_id}


def test_numbers_of_old_rooms_can_be_signed() -> None:
    signed = signing.sign_json({"level": 50.57, "big": 2**70}, SERVER, KEY)
    signing.verify_json(signed, SERVER, KEY.key_id, KEY.verify_key_base64)
    with pytest.raises(CanonicalJsonError):
        signing.sign_json({"a": float("nan")}, SERVER, KEY)


@pytest.mark.parametrize(
    "signatures",
    [
        None,
        {},
        [],
        "x",
        {SERVER: None},
        {SERVER: {}},
        {SERVER: {KEY.key_id: 1}},
        {SERVER: {KEY.key_id: "!"}},
        {SERVER: {KEY.key_id: "YQ"}},
    ],
    ids=repr,
)
def test_missing_and_malformed_signatures(signatures: Any) -> None:
    with pytest.raises(SignatureError):
        signing.verify_json({"signatures": signatures}, SERVER, KEY.key_id, KEY.verify_key_base64)
    assert SERVER in signing.sign_json({"signatures": signatures}, SERVER, KEY)["signatures"]


@pytest.mark.parametrize("verify_key", ["", "!", "YQ", "A" * 43, "A" * 86])
def test_malformed_and_wrong_keys(verify_key: str) -> None:
    signed = signing.sign_json({}, SERVER, KEY)
    with pytest.raises(SignatureError):
        signing.verify_json(signed, SERVER, KEY.key_id, verify_key)


def test_an_object_without_a_json_form_has_no_valid_signature() -> None:
    signatures = signing.sign_json({}, SERVER, KEY)["signatures"]
    with pytest.raises(SignatureError):
        signing.verify_json({"a": "\ud800", "signatures": signatures}, SERVER, KEY.key_id, KEY.verify_key_base64)


@given(JUNK)
def test_verifying_raises_nothing_but_its_error(value: Any) -> None:
    for obj in ({"signatures": value}, {"signatures": {SERVER: value}}, {"signatures": {SERVER: {KEY.key_id: value}}}):
        with pytest.raises(SignatureError):
            signing.verify_json(obj, SERVER, KEY.key_id, KEY.verify_key_base64)


def test_key_files() -> None:
    text = signing.format_signing_key_file(KEY)
    assert text == f"ed25519 1 {VECTORS['signing_key_seed']}\n".replace("XA1", "XA0")
    assert signing.parse_signing_key_file("\n" + text + "\n").verify_key_base64 == KEY.verify_key_base64


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ed25519 1",
        "rsa 1 " + "A" * 43,
        "ed25519 a-b " + "A" * 43,
        "ed25519 1 AAAA",
        "ed25519 1 ?",
        ("ed25519 1 " + "A" * 43 + "\n") * 2,
    ],
)
def test_malformed_key_files(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - ValueError is the contract
        signing.parse_signing_key_file(text)


def test_a_key_does_not_print_its_secret() -> None:
    assert VECTORS["signing_key_seed"][:10] not in repr(KEY)
