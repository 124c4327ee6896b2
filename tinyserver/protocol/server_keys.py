"""The signing keys that servers publish: parsing and checking their documents, and making one.

spec: server-server-api#publishing-keys
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tinyserver.protocol import base64
from tinyserver.protocol.canonical_json import MAX_INTEGER
from tinyserver.protocol.identifiers import is_valid_server_key_id
from tinyserver.protocol.signing import SignatureError, SigningKey, sign_json, verify_json

MAX_VALIDITY_MS = 7 * 24 * 3600 * 1000
"""However long a server says that its keys are valid, they are looked up again after this time."""
MAX_KEYS = 100
"""More keys than this in one document are a mistake or an attack; further ones are not looked at."""
_KEY_BYTES = 32


class BadKeyDocument(ValueError):
    """A document is no server's list of keys, or is not signed as it must be; the message says why."""


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """One key: the public half in Base64, and when (ms) it went out of use; None while it is in use."""

    key_id: str
    public_key: str
    expired_ts: int | None = None


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The keys of a server, and until when (ms) the list is good."""

    server_name: str
    keys: Mapping[str, PublishedKey]
    valid_until_ts: int


def make_key_document(
    server_name: str, keys: Iterable[SigningKey], old_keys: Iterable[PublishedKey], valid_until_ts: int
) -> dict[str, Any]:
    """The document that a server publishes, signed with all ``keys``."""
    current = list(keys)
    document: dict[str, Any] = {
        "server_name": server_name,
        "valid_until_ts": valid_until_ts,
        "verify_keys": {key.key_id: {"key": key.verify_key_base64} for key in current},
        "old_verify_keys": {old.key_id: {"key": old.public_key, "expired_ts": old.expired_ts} for old in old_keys},
    }
    for key in current:
        document = sign_json(document, server_name, key)
    return document


def parse_key_document(document: Any, server_name: str) -> ServerKeys:
    """The keys in a document that claims to be of ``server_name``.

    Its own signatures are checked: at least one by a key in ``verify_keys``, and none that is wrong. Keys of other
    algorithms than Ed25519 are left out.

    :raises BadKeyDocument: it is malformed, of another server, or not signed by itself.
    """
    if not isinstance(document, dict):
        raise BadKeyDocument("the keys are not a JSON object")
    if document.get("server_name") != server_name:
        raise BadKeyDocument("the keys are those of another server")
    valid_until = document.get("valid_until_ts")
    if not isinstance(valid_until, int) or not _is_timestamp(valid_until):
        raise BadKeyDocument("valid_until_ts is not a timestamp")
    current = {key_id: PublishedKey(key_id, key) for key_id, key, _ in _entries(document.get("verify_keys"))}
    if not current:
        raise BadKeyDocument("there is no usable key in verify_keys")
    _check_own_signatures(document, server_name, current)
    old = {
        key_id: PublishedKey(key_id, key, entry["expired_ts"])
        for key_id, key, entry in _entries(document.get("old_verify_keys"))
        if key_id not in current and _is_timestamp(entry.get("expired_ts"))
    }
    return ServerKeys(server_name, {**old, **current}, valid_until)


def _check_own_signatures(document: Mapping[str, Any], server_name: str, current: Mapping[str, PublishedKey]) -> None:
    signatures = document.get("signatures")
    own = signatures.get(server_name) if isinstance(signatures, dict) else None
    signed_by = [key_id for key_id in own if key_id in current] if isinstance(own, dict) else []
    if not signed_by:
        raise BadKeyDocument("the keys are not signed by one of themselves")
    try:
        for key_id in signed_by:
            verify_json(document, server_name, key_id, current[key_id].public_key)
    except SignatureError as error:
        raise BadKeyDocument(f"the keys are signed wrongly: {error}") from error


def _entries(keys: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Key ID, public key and the whole entry of every usable key."""
    found = []
    for key_id, entry in list(keys.items())[:MAX_KEYS] if isinstance(keys, dict) else ():
        key = entry.get("key") if isinstance(entry, dict) else None
        if is_valid_server_key_id(key_id) and len(key_id) <= 255 and isinstance(key, str) and _is_public_key(key):
            found.append((key_id, key, entry))
    return found


def _is_public_key(text: str) -> bool:
    try:
        return len(base64.decode(text)) == _KEY_BYTES
    except ValueError:
        return False


def _is_timestamp(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_INTEGER
