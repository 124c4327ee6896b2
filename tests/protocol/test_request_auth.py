"""X-Matrix headers: what is signed, and reading them in all the ways in which servers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyserver.protocol import base64
from tinyserver.protocol.request_auth import (
    AuthorizationError,
    XMatrix,
    authorization,
    is_x_matrix,
    parse_authorization,
    path_of,
    request_target,
    signed_object,
)
from tinyserver.protocol.signing import SigningKey, signed_bytes, verify_bytes

from .vectors import load

VECTORS = load("request_signing")["cases"]
KEY = SigningKey("1", base64.decode(load("signing")["signing_key_seed"]))
FULL = XMatrix("a.test", "b.test:1", "ed25519:k", "c2ln+/")


@pytest.mark.parametrize("case", VECTORS)
def test_vectors(case: dict) -> None:  # type: ignore[type-arg]
    signed = case["signed_object"]
    header = authorization(
        signed["method"], signed["uri"], signed["origin"], signed["destination"], signed.get("content"), KEY
    )
    assert header == case["authorization"]
    parsed = parse_authorization(header)
    assert parsed == XMatrix(signed["origin"], signed["destination"], "ed25519:1", case["signature"])
    again = signed_object(signed["method"], signed["uri"], parsed.origin, "destination.example", signed.get("content"))
    verify_bytes(signed_bytes(again), base64.decode(parsed.signature), KEY.verify_key_base64)


@pytest.mark.parametrize(
    "header",
    [
        'X-Matrix origin="a.test",destination="b.test:1",key="ed25519:k",sig="c2ln+/"',
        'x-matrix   ORIGIN="a.test" , Destination="b.test:1"\t,\tKey="ed25519:k",sig="c2ln+/"',
        "X-Matrix origin=a.test,destination=b.test:1,key=ed25519:k,sig=c2ln+/",
        'X-Matrix sig="c2ln\\+\\/",key="ed25519\\:k",destination="b.test:1",origin="\\a.test"',
        'X-Matrix origin = "a.test", destination= b.test:1, key ="ed25519:k", sig="c2ln+/"',
        'X-Matrix ,, origin="a.test",,destination="b.test:1",key="ed25519:k",sig="c2ln+/", ,',
        'X-Matrix origin="a.test",future="a\\"b,c=d",destination="b.test:1",x=,key="ed25519:k",sig="c2ln+/"',
    ],
)
def test_quoting(header: str) -> None:
    assert is_x_matrix(header)
    assert parse_authorization(header) == FULL


def test_old_servers_name_no_destination_and_quote_no_literals() -> None:
    parsed = parse_authorization("X-Matrix origin=[::1]:8448,key=ed25519:a_1,sig=abc=")
    assert parsed == XMatrix("[::1]:8448", None, "ed25519:a_1", "abc=")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "X-Matrix",
        "X-Matrix ",
        "Bearer abc",
        "X-Matrixorigin=a.test,key=ed25519:k,sig=s",
        'X-Matrix origin="a.test",key="ed25519:k"',
        'X-Matrix origin="a.test",key="ed25519:k",sig=""',
        'X-Matrix origin="a.test",key="ed25519:k",sig="s",sig="t"',
        'X-Matrix origin="a.test",key="ed25519:k",sig="s',
        'X-Matrix origin="a.test" key="ed25519:k" sig="s"',
        'X-Matrix origin="a test",key="ed25519:k",sig="s"',
        'X-Matrix origin="a.test",key="rsa:k",sig="s"',
        'X-Matrix origin="a.test",key="ed25519:",sig="s"',
        'X-Matrix origin="a.test",key="ed25519:k k",sig="s"',
        'X-Matrix origin="a.test",key="ed25519:k",sig="s";x',
        'X-Matrix origin="a.test",key="ed25519:k",sig="' + "s" * 5000 + '"',
    ],
)
def test_malformed(header: str) -> None:
    with pytest.raises(AuthorizationError):
        parse_authorization(header)


@given(st.text(max_size=60))
def test_junk_is_refused_cleanly(text: str) -> None:
    with pytest.raises(AuthorizationError):
        parse_authorization("X-Matrix " + text.replace("=", ""))


@given(st.text(alphabet='a,="\\ \t:\x00é', max_size=30))
def test_any_value_survives_quoting(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    header = f'X-Matrix other="{quoted}",origin=a.test,key="ed25519:k",sig="{quoted}x"'
    assert parse_authorization(header).signature == value + "x"


def test_targets() -> None:
    path = path_of("_matrix", "federation", "v1", "state", "!a/b:c d")
    assert path == "/_matrix/federation/v1/state/%21a%2Fb%3Ac%20d"
    assert request_target(path) == path
    assert request_target("/p", {"v": ["1", "2"], "b": False, "n": 3}) == "/p?v=1&v=2&b=false&n=3"
