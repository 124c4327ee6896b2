"""What a client says about itself when it registers, and where it may be sent back to.

spec: client-server-api#client-metadata, RFC 7591 section 2
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from tinyserver.protocol.oauth.errors import OAuthError

AUTHORIZATION_CODE = "authorization_code"
REFRESH_TOKEN = "refresh_token"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
GRANT_TYPES = (AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE)

MAX_URI = 1000
MAX_NAME = 100
MAX_REDIRECT_URIS = 20
_MAX_VALUES = 20

_URI = re.compile(r"[A-Za-z0-9!#$%&'()*+,./:;=?@_~\[\]-]+")
_HOST = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]*[a-z0-9])?)+")
_LOOPBACK = re.compile(r"http://(?P<host>localhost|127\.0\.0\.1|\[::1\])(?P<port>:[0-9]{1,5})?(?P<rest>[/?].*)?")


def parse_client_metadata(given: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that is registered: what is known of what the client gave, checked, with defaults filled in.

    Values of other languages are not kept, as the specification allows.

    Raises:
        OAuthError: ``invalid_client_metadata`` or ``invalid_redirect_uri``.
    """
    client_uri = _page(given, "client_uri", None)
    if client_uri is None:
        raise _invalid("client_uri is missing")
    base = _host_of(client_uri)
    kind = given.get("application_type", "web")
    if kind not in ("web", "native"):
        raise _invalid("application_type must be web or native")
    if given.get("token_endpoint_auth_method", "none") != "none":
        raise _invalid("only public clients are registered: token_endpoint_auth_method must be none")
    metadata: dict[str, Any] = {"application_type": kind, "client_uri": client_uri}
    name = given.get("client_name")
    if name is not None:
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME or not name.isprintable():
            raise _invalid(f"client_name must be printable text of up to {MAX_NAME} characters")
        metadata["client_name"] = name.strip()
    for key in ("logo_uri", "tos_uri", "policy_uri"):
        page = _page(given, key, base)
        if page is not None:
            metadata[key] = page
    redirect_uris = _texts(given, "redirect_uris", MAX_REDIRECT_URIS, "invalid_redirect_uri")
    for uri in redirect_uris:
        _check_redirect_uri(uri, base, native=kind == "native")
    grant_types = _texts(given, "grant_types", _MAX_VALUES) or [AUTHORIZATION_CODE]
    metadata["grant_types"] = [grant for grant in GRANT_TYPES if grant in grant_types]
    response_types = _texts(given, "response_types", _MAX_VALUES) or ["code"]
    metadata["response_types"] = ["code"] if "code" in response_types else []
    metadata["redirect_uris"] = redirect_uris
    metadata["token_endpoint_auth_method"] = "none"
    _check_use(metadata)
    return metadata


def may_redirect_to(metadata: Mapping[str, Any], redirect_uri: str) -> bool:
    """Whether a redirect URI is one of those registered: exactly, only a loopback address may have any port.

    spec: client-server-api#redirect-uri-validation, RFC 8252 section 7.3
    """
    registered: list[str] = metadata["redirect_uris"]
    if redirect_uri in registered:
        return True
    loopback = _LOOPBACK.fullmatch(redirect_uri)
    if loopback is None or loopback["port"] is None or _URI.fullmatch(redirect_uri) is None:
        return False
    return (
        metadata["application_type"] == "native" and f"http://{loopback['host']}{loopback['rest'] or ''}" in registered
    )


def display_name(metadata: Mapping[str, Any]) -> str:
    """What the client is called on pages: its name, or the host of its page."""
    return str(metadata.get("client_name") or _host_of(metadata["client_uri"]))


def _check_use(metadata: Mapping[str, Any]) -> None:
    grants = metadata["grant_types"]
    if AUTHORIZATION_CODE in grants:
        if not metadata["redirect_uris"]:
            raise OAuthError("invalid_redirect_uri", "the authorization code grant needs at least one redirect URI")
        if not metadata["response_types"]:
            raise _invalid("response_types must have code for the authorization code grant")
    elif DEVICE_CODE not in grants:
        raise _invalid("grant_types has none by which a client could sign in here")


def _check_redirect_uri(uri: str, base: str, *, native: bool) -> None:
    scheme, colon, rest = uri.partition(":")
    scheme = scheme.lower()
    if len(uri) > MAX_URI or _URI.fullmatch(uri) is None or not colon or "#" in uri:
        raise OAuthError("invalid_redirect_uri", "a redirect URI is no absolute URI, has a fragment, or is too long")
    if scheme == "https":
        _check_web_uri(uri, base, "invalid_redirect_uri")
    elif not native:
        raise OAuthError("invalid_redirect_uri", "the redirect URIs of web clients must use https")
    elif scheme == "http":
        loopback = _LOOPBACK.fullmatch(uri)
        if loopback is None or loopback["port"] is not None:
            raise OAuthError("invalid_redirect_uri", "an http redirect URI must be on the loopback interface, portless")
    else:
        reverse = ".".join(reversed(base.split(".")))
        if scheme != reverse and not scheme.startswith(reverse + "."):
            message = f"the scheme of a redirect URI must begin with the client_uri in reverse, {reverse}"
            raise OAuthError("invalid_redirect_uri", message)
        if rest.startswith("//"):
            raise OAuthError("invalid_redirect_uri", "a redirect URI with a scheme of its own must have no authority")


def _page(given: Mapping[str, Any], key: str, base: str | None) -> str | None:
    """A URL of the client's metadata: https, no user, on the host of `base` or below it."""
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_URI or _URI.fullmatch(value) is None:
        raise _invalid(f"{key} is no URL")
    _check_web_uri(value, base, "invalid_client_metadata")
    return value


def _check_web_uri(uri: str, base: str | None, code: str) -> None:
    parts = _split(uri)
    host = (parts.hostname or "") if parts is not None else ""
    if parts is None or parts.scheme != "https" or "@" in parts.netloc or not _is_name_or_address(host):
        raise OAuthError(code, f"{uri} must use https, a full host name, and no user name")
    if base is not None and host != base and not host.endswith("." + base):
        raise OAuthError(code, f"{uri} must be on the host of client_uri, {base}, or below it")


def _split(uri: str) -> SplitResult | None:
    try:
        parts = urlsplit(uri)
        _ = parts.port, parts.hostname
    except ValueError:
        return None
    return parts


def _is_name_or_address(host: str) -> bool:
    if _HOST.fullmatch(host):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _host_of(uri: str) -> str:
    return urlsplit(uri).hostname or ""


def _texts(given: Mapping[str, Any], key: str, most: int, code: str = "invalid_client_metadata") -> list[str]:
    values = given.get(key)
    if values is None:
        return []
    if not isinstance(values, list) or len(values) > most or not all(isinstance(value, str) for value in values):
        raise OAuthError(code, f"{key} must be a list of no more than {most} texts")
    return values


def _invalid(description: str) -> OAuthError:
    return OAuthError("invalid_client_metadata", description)
