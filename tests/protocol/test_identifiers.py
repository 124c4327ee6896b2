from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol import vectors
from tests.protocol.strategies import JUNK
from tinyserver.protocol import identifiers
from tinyserver.protocol.errors import InvalidUsername
from tinyserver.protocol.identifiers import HostKind, InvalidIdentifier, ServerName

VECTORS = vectors.load("identifiers")


@pytest.mark.parametrize("text", VECTORS["server_name"]["valid"])
def test_server_names(text: str) -> None:
    assert identifiers.is_valid_server_name(text)
    assert str(identifiers.parse_server_name(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *VECTORS["server_name"]["derived_invalid"],
        "a" * 256,
        "example.org\n",
        "example.org:80\n",
        "example.org:٣",
        "1.2.3.256",
        "example.org:65536",
        "[::::]",
        "[1.2.3.4]",
        "ex\0ample",
        None,
        7,
    ],
)
def test_what_is_no_server_name(text: Any) -> None:
    assert not identifiers.is_valid_server_name(text)


def test_the_parts_of_a_server_name() -> None:
    assert identifiers.parse_server_name("matrix.org") == ServerName("matrix.org", None, HostKind.DNS)
    assert identifiers.parse_server_name("1.2.3.4:1234") == ServerName("1.2.3.4", 1234, HostKind.IPV4)
    assert identifiers.parse_server_name("[1234::abcd]:80") == ServerName("1234::abcd", 80, HostKind.IPV6)


@pytest.mark.parametrize("text", VECTORS["user_id"]["derived_valid_current"])
def test_user_ids(text: str) -> None:
    assert str(identifiers.parse_user_id(text, historical=False)) == text
    assert str(identifiers.parse_user_id(text)) == text


@pytest.mark.parametrize("text", [*VECTORS["user_id"]["derived_valid_historical_only"], "@a b\n:c", "@ü:c"])
def test_historical_user_ids(text: str) -> None:
    assert str(identifiers.parse_user_id(text)) == text
    assert not identifiers.is_valid_user_id(text, historical=False)


@pytest.mark.parametrize(
    "text",
    [
        *VECTORS["user_id"]["derived_invalid"],
        "@a:",
        "@a:b c",
        "@\0:b",
        "@\ud800:b",
        "@" + "é" * 127 + ":b",
        "",
        None,
        [],
    ],
)
def test_what_is_no_user_id(text: Any) -> None:
    assert not identifiers.is_valid_user_id(text)
    assert not identifiers.is_compliant_user_id(text)


def test_a_user_id_has_at_most_255_bytes() -> None:
    assert identifiers.is_valid_user_id("@" + "a" * 252 + ":b")
    assert not identifiers.is_valid_user_id("@" + "a" * 253 + ":b")


def test_user_ids_that_clients_may_be_shown_outside_of_events() -> None:
    assert identifiers.is_compliant_user_id("@Al!ce~:example.org")
    for text in ("@:example.org", "@a b:example.org", "@ü:example.org", "@a\x7f:example.org"):
        assert identifiers.is_valid_user_id(text)
        assert not identifiers.is_compliant_user_id(text)


def test_names_of_new_accounts() -> None:
    identifiers.check_localpart("a.b_c=d-e/f+g0", "example.org")
    for text in ("", "Alice", "a b", "a:b", "é", "a\n", "a" * 250):
        with pytest.raises(InvalidUsername):
            identifiers.check_localpart(text, "example.org")


@pytest.mark.parametrize("case", VECTORS["localpart_mapping"]["cases"], ids=lambda case: case["char"])
def test_mapping_to_localparts(case: dict[str, str]) -> None:
    if "case_preserving" in case:
        assert identifiers.map_to_localpart(case["char"], preserve_case=True) == case["case_preserving"]
    if "case_insensitive" in case:
        assert identifiers.map_to_localpart(case["char"]) == case["case_insensitive"]
    if "mapped" in case:
        assert identifiers.map_to_localpart(case["char"]) == case["mapped"]


@given(st.text(max_size=20), st.text(max_size=20))
def test_different_names_map_to_different_valid_localparts(first: str, second: str) -> None:
    mapped = [identifiers.map_to_localpart(name, preserve_case=True) for name in (first, second)]
    assert (mapped[0] == mapped[1]) == (first == second)
    for localpart in filter(None, mapped):
        identifiers.check_localpart(localpart)


def test_room_ids() -> None:
    with_domain, without = VECTORS["room_id"]["example_v1"], VECTORS["room_id"]["example_v12"]
    assert identifiers.parse_room_id(with_domain).server_name == "example.org"
    assert identifiers.parse_room_id(without).server_name is None
    for text in (with_domain, without):
        assert str(identifiers.parse_room_id(text)) == text
    assert identifiers.is_hash_room_id(without)
    assert not identifiers.is_hash_room_id(with_domain)
    for bad in (
        "!a",
        "!" + "a" * 42,
        "!" + "a" * 44,
        "!" + "a" * 43 + "\n",
        "!a:",
        "#a:b",
        "!a\0:b",
        "!" + "a" * 300 + ":b",
    ):
        assert not identifiers.is_valid_room_id(bad)


def test_room_aliases() -> None:
    for text in ("#a:b", "#größe und mehr:example.org:8448", "#:b"):
        assert str(identifiers.parse_room_alias(text)) == text
    for bad in ("a:b", "#a", "#a\0:b", "#" + "é" * 127 + ":b", "!a:b", 1):
        assert not identifiers.is_valid_room_alias(bad)


@pytest.mark.parametrize("text", [VECTORS["event_id"]["v3"], VECTORS["event_id"]["v4_and_later"]])
def test_event_ids_that_are_hashes(text: str) -> None:
    assert identifiers.parse_event_id(text).server_name is None
    assert str(identifiers.parse_event_id(text)) == text


def test_event_ids_with_a_domain() -> None:
    assert identifiers.parse_event_id("$opaque:example.org").server_name == "example.org"
    for bad in ("$opaque", "opaque:example.org", "$a:b c", "$" + "a" * 255 + ":b", "$" + "a" * 42):
        assert not identifiers.is_valid_event_id(bad)


@pytest.mark.parametrize("text", VECTORS["room_version"]["valid"])
def test_room_version_identifiers(text: str) -> None:
    assert identifiers.is_valid_room_version(text)


@pytest.mark.parametrize("text", [*VECTORS["room_version"]["derived_invalid"], "1\n", 1])
def test_what_is_no_room_version_identifier(text: Any) -> None:
    assert not identifiers.is_valid_room_version(text)


def test_key_ids() -> None:
    assert str(identifiers.parse_key_id("curve25519:DEVICE/ID")) == "curve25519:DEVICE/ID"
    assert identifiers.is_valid_server_key_id("ed25519:a_1")
    for bad in ("ed25519", "ed25519:", ":a", "", "a:" + "b" * 255, None):
        with pytest.raises(InvalidIdentifier):
            identifiers.parse_key_id(bad)  # type: ignore[arg-type]
    for bad in ("ed25519:", "ed25519:a-b", "rsa:a", "ed25519:a\n", None):
        assert not identifiers.is_valid_server_key_id(bad)


def test_content_uris() -> None:
    uri = identifiers.parse_mxc_uri("mxc://example.org:8448/aZ_0-")
    assert (uri.server_name, uri.media_id, str(uri)) == ("example.org:8448", "aZ_0-", "mxc://example.org:8448/aZ_0-")
    for bad in (
        "",
        "mxc://",
        "mxc://a",
        "mxc://a/",
        "mxc:///b",
        "mxc://a/b/c",
        "mxc://a/..",
        "mxc://a/b?c",
        "http://a/b",
        None,
    ):
        with pytest.raises(InvalidIdentifier):
            identifiers.parse_mxc_uri(bad)  # type: ignore[arg-type]


def test_other_names() -> None:
    assert identifiers.is_valid_opaque_id("aZ0._~-")
    assert not any(map(identifiers.is_valid_opaque_id, ["", "a" * 256, "a/b", "a\n", None]))
    assert identifiers.is_valid_namespaced_id("m.room.message_1-x")
    assert not any(map(identifiers.is_valid_namespaced_id, ["", "A", "1a", ".a", "a" * 256, "a\n", None]))


@pytest.mark.parametrize("case", VECTORS["threepid_email"]["cases"], ids=lambda case: case["address"])
def test_email_addresses(case: dict[str, str]) -> None:
    assert identifiers.canonical_email(case["address"]) == case["canonical"]


def test_the_domain_of_an_identifier() -> None:
    assert identifiers.domain_of("@a:example.org:8448") == "example.org:8448"
    with pytest.raises(InvalidIdentifier):
        identifiers.domain_of("$hash")


@given(JUNK | st.text("@!#$:a.[]1\0é\n", max_size=12))
def test_checks_answer_for_any_value(value: Any) -> None:
    for name in dir(identifiers):
        if name.startswith("is_valid_") or name == "is_compliant_user_id":
            assert getattr(identifiers, name)(value) in (True, False)
