"""What clients say of themselves and what they ask for: the rules of OAuth, by examples of the specification."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyserver.protocol.oauth.client_metadata import display_name, may_redirect_to, parse_client_metadata
from tinyserver.protocol.oauth.errors import OAuthError
from tinyserver.protocol.oauth.requests import (
    AuthorizationRefused,
    callback_url,
    form_target,
    is_proved,
    parse_authorization,
    parse_scope,
)
from tinyserver.protocol.sso import is_safe_redirect, with_login_token

WEB: dict[str, Any] = {"client_uri": "https://example.com/", "redirect_uris": ["https://example.com/callback"]}
API = "urn:matrix:client:api:*"


def metadata(kind: str, *redirect_uris: str) -> dict[str, Any]:
    return {**WEB, "application_type": kind, "redirect_uris": list(redirect_uris)}


@pytest.mark.parametrize(
    "uri", ["https://example.com/callback", "https://app.example.com/callback", "https://example.com:5173/?query=value"]
)
def test_redirect_uris_of_web_clients(uri: str) -> None:
    """The examples of the specification."""
    for kind in ("web", "native"):
        assert parse_client_metadata(metadata(kind, uri))["redirect_uris"] == [uri]


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.com/callback#fragment",
        "http://example.com/callback",
        "http://localhost/",
        "https://evil.com/callback",
        "https://notexample.com/callback",
        "https://example.com.evil.com/",
        "https://user@example.com/",
        "https://example.com@evil.com/",
        "https://example.com\\@evil.com/",
        "https:///callback",
        "https://example.com:x/",
        "https://[::1/",
        "//example.com/callback",
        "/callback",
        "com.example:/callback",
        "javascript:alert(1)",
        "https://example.com/ x",
        "https://example.com/\nx",
        "https://example.com/" + "x" * 1000,
        "",
    ],
)
def test_no_redirect_uris_of_web_clients(uri: str) -> None:
    with pytest.raises(OAuthError) as caught:
        parse_client_metadata(metadata("web", uri))
    assert caught.value.code == "invalid_redirect_uri"


@pytest.mark.parametrize(
    "uri",
    [
        "com.example.app:/callback",
        "com.example:/",
        "com.example:callback",
        "http://localhost/callback",
        "http://127.0.0.1/callback",
        "http://[::1]/callback",
    ],
)
def test_redirect_uris_of_native_clients(uri: str) -> None:
    """The examples of the specification."""
    assert may_redirect_to(parse_client_metadata(metadata("native", uri)), uri)


@pytest.mark.parametrize(
    "uri",
    [
        "example:/callback",
        "com.example.app://callback",
        "https://localhost/callback",
        "http://localhost:1234/callback",
        "http://localhost:/callback",
        "http://localhost.evil.com/",
        "http://localhost@evil.com/",
        "http://127.0.0.2/callback",
        "com.examples:/",
        "com:/",
        "javascript:alert(1)",
    ],
)
def test_no_redirect_uris_of_native_clients(uri: str) -> None:
    with pytest.raises(OAuthError) as caught:
        parse_client_metadata(metadata("native", uri))
    assert caught.value.code == "invalid_redirect_uri"


@pytest.mark.parametrize(
    "changed",
    [
        {"client_uri": None},
        {"client_uri": 1},
        {"client_uri": "http://example.com/"},
        {"client_uri": "https://user:secret@example.com/"},
        {"client_uri": "https://com/"},
        {"client_uri": "https://example.com./"},
        {"client_name": ""},
        {"client_name": "x" * 101},
        {"client_name": "x\u202egnp.exe"},
        {"client_name": ["x"]},
        {"tos_uri": "https://evil.com/"},
        {"policy_uri": "http://example.com/"},
        {"logo_uri": "javascript:alert(1)"},
        {"grant_types": "authorization_code"},
        {"grant_types": ["implicit"]},
        {"grant_types": ["x"] * 21},
        {"response_types": ["token"]},
        {"token_endpoint_auth_method": "client_secret_basic"},
        {"application_type": "desktop"},
    ],
)
def test_metadata_that_cannot_be(changed: dict[str, Any]) -> None:
    with pytest.raises(OAuthError) as caught:
        parse_client_metadata({**WEB, **changed})
    assert caught.value.code == "invalid_client_metadata"


def test_what_is_left_out_gets_a_default() -> None:
    registered = parse_client_metadata(WEB)
    assert registered["application_type"] == "web"
    assert registered["token_endpoint_auth_method"] == "none"
    assert registered["grant_types"] == ["authorization_code"]
    assert display_name(registered) == "example.com"
    with pytest.raises(OAuthError):
        parse_client_metadata({"client_uri": "https://example.com/"})


def test_only_loopback_addresses_of_native_clients_have_any_port() -> None:
    native = parse_client_metadata(
        metadata("native", "http://127.0.0.1/cb?a=1", "http://[::1]", "https://example.com/")
    )
    assert may_redirect_to(native, "http://127.0.0.1:80/cb?a=1")
    assert may_redirect_to(native, "http://[::1]:65535")
    for uri in (
        "http://127.0.0.1:80/cb",
        "http://127.0.0.1:80/cb?a=1#x",
        "http://127.0.0.1:80@evil.com/cb?a=1",
        "http://localhost:80/cb?a=1",
        "https://example.com:80/",
        "HTTPS://example.com/",
    ):
        assert not may_redirect_to(native, uri)


def test_scopes() -> None:
    unstable = "urn:matrix:org.matrix.msc2967.client"
    for api in (API, f"{unstable}:api:*"):
        for device in ("urn:matrix:client:device:ABC", f"{unstable}:device:ABC"):
            scope = parse_scope(f"openid {api} {device} {device}")
            assert (scope.device_id, scope.granted) == ("ABC", f"{api} {device}")
    both = parse_scope(f"{API} urn:matrix:client:device:ABC {unstable}:device:ABC")
    assert both.device_id == "ABC"
    for wrong in ("", API, "urn:matrix:client:device:ABC", f"{API} urn:matrix:client:device:", f"{API}  x", f'{API} "'):
        with pytest.raises(OAuthError):
            parse_scope(wrong)
    with pytest.raises(OAuthError):
        parse_scope(f"{API} urn:matrix:client:device:ABC {unstable}:device:ABD")


def test_the_proof_key_of_the_rfc() -> None:
    """RFC 7636, appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert is_proved("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", verifier)
    assert not is_proved("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cN", verifier)
    assert not is_proved(verifier, verifier)  # that would be the plain method
    short = "x" * 42
    assert not is_proved(urlsafe_b64encode(hashlib.sha256(short.encode()).digest()).rstrip(b"=").decode(), short)


@given(state=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=200))
def test_any_state_comes_back_as_it_was(state: str) -> None:
    for mode in ("query", "fragment"):
        url = callback_url("https://example.com/cb?x=1", mode, state, {"code": "&=#"})
        assert url.isascii()
        assert url.isprintable()
        parts = urlsplit(url)
        answer = parse_qs(parts.query if mode == "query" else parts.fragment, keep_blank_values=True)
        assert (answer["state"], answer["code"]) == ([state], ["&=#"])


@given(st.dictionaries(st.sampled_from(["state", "scope", "prompt", "code_challenge", "x"]), st.lists(st.text())))
def test_no_request_breaks_anything(parameters: dict[str, list[str]]) -> None:
    with pytest.raises(AuthorizationRefused) as caught:
        parse_authorization(parameters, "https://example.com/cb")
    assert caught.value.location.startswith("https://example.com/cb?")


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("https://example.com/cb?x=;", "https://example.com"),
        ("http://127.0.0.1:123/cb", "http://127.0.0.1:123"),
        ("http://[::1]:123/cb", "http:"),
        ("com.example.app:/cb", "com.example.app:"),
        ("https://x;sandbox,default-src/", "https:"),
    ],
)
def test_where_forms_may_end(uri: str, source: str) -> None:
    assert form_target(uri) == source


@pytest.mark.parametrize(
    "url",
    [
        "https://x.example/a?b=c#d",
        "http://localhost:8080/",
        "im.fluffychat://login",
        "element://vector/webapp/",
        "a:/b",
    ],
)
def test_where_single_sign_on_may_end(url: str) -> None:
    assert is_safe_redirect(url)


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "/x", "//x.example/", "JavaScript:alert(1)", "data:text/html,x", "https://a@x.example/", "https:x"),
        *("https://", "https://x.example/ a", "https://x.example/\r\nb", "https://x.example:x/", "https://[x/"),
        "https://x/" + "x" * 2000,
    ],
)
def test_where_single_sign_on_must_not_end(url: str) -> None:
    assert not is_safe_redirect(url)


def test_the_login_token_replaces_any_other() -> None:
    url = "https://x.example/p?a=1&loginToken=x&login%54oken=y&b#f?loginToken=z"
    assert with_login_token(url, "tsl_1") == "https://x.example/p?a=1&b&loginToken=tsl_1#f?loginToken=z"
    assert with_login_token("app://x", "t") == "app://x?loginToken=t"
