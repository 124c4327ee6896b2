"""Third-party identifiers in canonical form."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.strategies import JUNK
from tinyserver.protocol.threepids import canonical_address, canonical_email, is_valid_client_secret


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("bob@Example.com", "bob@example.com"),
        ("Strauß@Example.com", "strauss@example.com"),  # the specification's example
        (" Ada.Lovelace+matrix@example.org ", "ada.lovelace+matrix@example.org"),
        ("a@localhost", "a@localhost"),
        ("\u212aim@example.org", "kim@example.org"),  # the sign for kelvin
    ],
)
def test_mail_addresses(typed: str, canonical: str) -> None:
    assert canonical_email(typed) == canonical
    assert canonical_address("email", typed) == canonical


@pytest.mark.parametrize(
    "typed",
    [
        *("", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b c", "<a@b>", "a@b,c@d", "a@b\nc", "a@b\r\nTo: c@d", "a\0@b"),
        *("a@-b", "a..b@c", ".a@b", "a.@b", "a@b.", "a@.b", "a@[127.0.0.1]", '"a b"@c', "ü@example.org", "mailto:a@b"),
        *("a@" + "b" * 64, "a" * 65 + "@b", "a@" + ".".join(["b" * 60] * 5)),
    ],
)
def test_what_is_no_mail_address(typed: str) -> None:
    assert canonical_email(typed) is None


@given(st.text() | st.from_regex(r"[a-zA-ZäßİıK.+@-]{1,20}@[a-zA-Z.]{1,20}"))
def test_a_canonical_address_stays_as_it_is_and_is_safe_in_a_header(text: str) -> None:
    canonical = canonical_email(text)
    if canonical is not None:
        assert canonical_email(canonical) == canonical
        assert re.fullmatch(r"[!-~]+@[a-z0-9.-]+", canonical)
        assert not set(canonical) & set('<>,;:"()[]\\')


def test_other_media() -> None:
    assert canonical_address("msisdn", "447700900001") == "447700900001"
    assert canonical_address("msisdn", "+447700900001") is None
    assert canonical_address("msisdn", "٣") is None
    assert canonical_address("fax", "1") is None


@given(JUNK)
def test_client_secrets(junk: object) -> None:
    if isinstance(junk, str) and is_valid_client_secret(junk):
        assert re.fullmatch(r"[0-9a-zA-Z.=_-]{1,255}", junk, re.ASCII)
    assert is_valid_client_secret("monkeys_are_GREAT")
    assert not is_valid_client_secret("a\n")
