from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol import vectors
from tinyserver.protocol import base64

VECTORS = vectors.load("unpadded_base64")


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: repr(case["input"]))
def test_vectors(case: dict[str, str]) -> None:
    data = case["input"].encode()
    assert base64.encode(data) == case["encoded"]
    assert base64.decode(case["encoded"]) == data


@pytest.mark.parametrize("case", VECTORS["url_safe"]["cases"], ids=lambda case: case["bytes_hex"])
def test_both_alphabets(case: dict[str, str]) -> None:
    data = bytes.fromhex(case["bytes_hex"])
    assert base64.encode(data) == case["standard"]
    assert base64.encode_urlsafe(data) == case["url_safe"]
    assert base64.decode(case["standard"]) == base64.decode(case["url_safe"]) == data


@pytest.mark.parametrize("case", vectors.load("identity_lookup_hash")["cases"], ids=lambda case: case["input"])
def test_identity_lookup_hashes(case: dict[str, str]) -> None:
    assert base64.encode_urlsafe(sha256(case["input"].encode()).digest()) == case["hash"]


@given(st.binary(max_size=100))
def test_round_trip_with_and_without_padding(data: bytes) -> None:
    for encoded in (base64.encode(data), base64.encode_urlsafe(data)):
        assert "=" not in encoded
        assert base64.decode(encoded) == data
        assert base64.decode(encoded + "=" * (-len(encoded) % 4)) == data


@pytest.mark.parametrize(
    "text", ["a", "Zg=", "Zg===", "Z=g=", "====", "Zm 9v", "Zm9v\n", "é", "\ud800", "Zm.v", None, b"Zg"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - ValueError is the contract
        base64.decode(text)


@given(st.text(max_size=20))
def test_decoding_raises_nothing_but_value_error(text: str) -> None:
    try:
        base64.decode(text)
    except ValueError:
        return
