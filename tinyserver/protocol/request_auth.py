"""Requests between servers: what is signed, and the ``Authorization: X-Matrix`` header that carries the signature.

spec: server-server-api#request-authentication
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tinyserver.protocol.identifiers import is_valid_server_key_id, is_valid_server_name
from tinyserver.protocol.signing import SigningKey, signed_bytes

_SCHEME = "x-matrix"
_MAX_HEADER = 4096  # characters; two server names, a key ID and a signature fit four times
# More than a token (RFC 9110): old servers leave colons, the brackets of IPv6 literals and Base64 unquoted.
_PARAMETER = re.compile(
    r"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)          # name
        [ \t]*=[ \t]*
        (?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~0-9A-Za-z:\[\]/=-]*))
        [ \t]*(?:,|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_EMPTY_ELEMENT = re.compile(r"[ \t]*,")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class AuthorizationError(ValueError):
    """A header is no X-Matrix authorization that can be checked; the message says why."""


@dataclass(frozen=True, slots=True)
class XMatrix:
    """What the header says; nothing of it is verified yet. ``destination`` is None where old servers leave it out."""

    origin: str
    destination: str | None
    key_id: str
    signature: str


def request_target(path: str, query: Mapping[str, str | int | bool | list[str]] | None = None) -> str:
    """The target of a request as it is sent and signed.

    :param path: already percent-encoded, see :func:`path_of`.
    :param query: parameters by name; a list repeats its parameter, booleans are written ``true`` and ``false``.
    """
    if not query:
        return path
    pairs = [(name, item) for name, value in query.items() for item in (value if isinstance(value, list) else [value])]
    return path + "?" + "&".join(f"{quote(name, safe='')}={quote(_text(value), safe='')}" for name, value in pairs)


def path_of(*segments: str) -> str:
    """The path of the segments, each percent-encoded: ``path_of("_matrix", "federation", "v1", "event", "$a/b")``."""
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


def signed_object(method: str, uri: str, origin: str, destination: str, content: Any = None) -> dict[str, Any]:
    """The JSON object that is signed in place of a request.

    :param uri: the target with its query, as it stands in the request.
    :param content: the parsed body; None without a body.
    """
    signed = {"method": method, "uri": uri, "origin": origin, "destination": destination}
    return signed if content is None else {**signed, "content": content}


def authorization(method: str, uri: str, origin: str, destination: str, content: Any, key: SigningKey) -> str:
    """The value of the ``Authorization`` header for a request, signed with ``key``.

    :raises CanonicalJsonError: the content has no JSON form.
    """
    signature = key.sign(signed_bytes(signed_object(method, uri, origin, destination, content)))
    return f'X-Matrix origin="{origin}",destination="{destination}",key="{key.key_id}",sig="{signature}"'


def is_x_matrix(header: str) -> bool:
    """Whether the header has the scheme ``X-Matrix``."""
    return header[: len(_SCHEME) + 1].rstrip().lower() == _SCHEME


def parse_authorization(header: str) -> XMatrix:
    """Take an ``Authorization`` header apart, in all the ways in which servers quote it.

    :raises AuthorizationError: another scheme, broken syntax, a missing or repeated parameter, or an origin, key or
        destination that cannot be one.
    """
    if len(header) > _MAX_HEADER:
        raise AuthorizationError("the Authorization header is too long")
    if not is_x_matrix(header):
        raise AuthorizationError("the Authorization header does not have the scheme X-Matrix")
    given = _parameters(header[len(_SCHEME) + 1 :])
    missing = [name for name in ("origin", "key", "sig") if not given.get(name)]
    if missing:
        raise AuthorizationError(f"the Authorization header lacks {' and '.join(missing)}")
    found = XMatrix(given["origin"], given.get("destination"), given["key"], given["sig"])
    if not is_valid_server_name(found.origin):
        raise AuthorizationError("the origin in the Authorization header is not a server name")
    if not is_valid_server_key_id(found.key_id):
        raise AuthorizationError("the key in the Authorization header is not the ID of an Ed25519 key")
    return found


def _parameters(text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    position = 0
    while position < len(text):
        empty = _EMPTY_ELEMENT.match(text, position)
        if empty:
            position = empty.end()
            continue
        found = _PARAMETER.match(text, position)
        if found is None:
            if not text[position:].strip(" \t"):
                break
            raise AuthorizationError("the Authorization header is malformed")
        name = found[1].lower()
        if name in given:
            raise AuthorizationError(f"the Authorization header has {name} twice")
        given[name] = found[3] if found[2] is None else _ESCAPED.sub(r"\1", found[2])
        position = found.end()
    return given


def _text(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
