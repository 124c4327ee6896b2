"""Where a browser may be sent after a single sign-on, and how the login token gets there.

spec: client-server-api#client-login-via-sso
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit

MAX_REDIRECT_URL = 2000
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):[A-Za-z0-9!#$%&'()*+,./:;=?@_~|{}\[\]-]+")
# What a browser would run, open or read instead of leaving.
_UNSAFE_SCHEMES = frozenset(
    {"about", "blob", "chrome", "data", "file", "filesystem", "ftp", "intent", "jar", "javascript", "mailto", "tel"}
    | {"vbscript", "view-source", "ws", "wss"}
)


def is_safe_redirect(url: str) -> bool:
    """Whether a browser can be sent to a client's URL: a website, or an app by its own scheme."""
    found = _URL.fullmatch(url) if len(url) <= MAX_REDIRECT_URL else None
    if found is None or found[1].lower() in _UNSAFE_SCHEMES:
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme in ("http", "https"):
        # A name before an @ makes people believe that it is the host.
        return bool(parts.hostname) and "@" not in parts.netloc
    return True


def with_login_token(url: str, token: str) -> str:
    """The client's URL with the login token in its query, instead of any that was there."""
    rest, hash_sign, fragment = url.partition("#")
    path, _, query = rest.partition("?")
    kept = [part for part in query.split("&") if part and unquote(part.partition("=")[0]) != "loginToken"]
    return f"{path}?{'&'.join([*kept, f'loginToken={quote(token)}'])}{hash_sign}{fragment}"


def place_of(url: str) -> str:
    """What a user is told about where a safe URL leads: the host, or the scheme of an app."""
    parts = urlsplit(url)
    return parts.netloc if parts.scheme in ("http", "https") else f"{parts.scheme}:"
