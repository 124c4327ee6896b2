"""The key objects that clients upload, checked and in the form in which they are stored.

spec: client-server-api#key-algorithms
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tinyserver.protocol import base64, canonical_json
from tinyserver.protocol.errors import BadJson, InvalidParam, InvalidSignature
from tinyserver.protocol.signing import SignatureError, verify_json
from tinyserver.storage.cross_signing import Usage
from tinyserver.storage.one_time_keys import PublicKey

MAX_KEY_OBJECT = 65536
"""Bytes of one key object."""
MAX_KEY_NAME = 255
"""Bytes of `algorithm:key_id`."""
_ED25519_BYTES = 32

USAGE_NAMES = {Usage.MASTER: "master", Usage.SELF_SIGNING: "self_signing", Usage.USER_SIGNING: "user_signing"}


@dataclass(frozen=True, slots=True)
class CrossSigningKey:
    """A cross-signing key as uploaded: `public_key` is its unpadded Base64, `value` the whole object."""

    usage: Usage
    public_key: str
    value: dict[str, Any]

    @property
    def key_id(self) -> str:
        """Its name in signatures."""
        return f"ed25519:{self.public_key}"


def encode_key(value: Any) -> bytes:
    """The JSON of a key object, as it is stored. Raises BadJson for what cannot be signed, or is too large."""
    try:
        encoded = canonical_json.encode(value)
    except canonical_json.CanonicalJsonError as error:
        raise BadJson(f"A key object has no canonical JSON form: {error}.") from error
    if len(encoded) > MAX_KEY_OBJECT:
        raise BadJson(f"A key object is larger than {MAX_KEY_OBJECT} bytes.")
    return encoded


def check_device_keys(value: Mapping[str, Any], user_id: str, device_id: str) -> dict[str, Any]:
    """Check identity keys that a device uploads for itself.

    Returns:
        The object without `unsigned`.

    Raises:
        InvalidParam: they are those of another user or device.
        BadJson: they are malformed.
        InvalidSignature: the device has not signed them with its Ed25519 key.

    spec: client-server-api#device-keys
    """
    if value.get("user_id") != user_id or value.get("device_id") != device_id:
        raise InvalidParam("The user_id and device_id in device_keys must be those of the device that uploads them.")
    algorithms = value.get("algorithms")
    if not isinstance(algorithms, list) or not all(isinstance(name, str) for name in algorithms):
        raise BadJson("'algorithms' in device_keys must be a list of strings.")
    keys = _keys_of(value)
    for name in keys:
        if name.partition(":")[2] != device_id:
            raise InvalidParam(f"The name of the key '{name[:MAX_KEY_NAME]}' does not end in the device's ID.")
    checked = {name: part for name, part in value.items() if name != "unsigned"}
    encode_key(checked)
    check_signature(checked, user_id, f"ed25519:{device_id}", keys.get(f"ed25519:{device_id}"))
    return checked


def check_one_time_keys(value: Mapping[str, Any], user_id: str, device_id: str, *, fallback: bool) -> list[PublicKey]:
    """Check one-time or fallback keys. Their signatures are left to those who claim them and must check them anyway.

    Raises:
        BadJson, InvalidParam: they are malformed, or there are two fallback keys of one algorithm.
        InvalidSignature: a signed key has no signature of its device.
    """
    found: list[PublicKey] = []
    for name, key in value.items():
        algorithm, colon, key_id = name.partition(":")
        if not (algorithm and colon and key_id) or len(name.encode()) > MAX_KEY_NAME:
            raise InvalidParam(f"The name of the key '{name[:MAX_KEY_NAME]}' is not of the form 'algorithm:key_id'.")
        if isinstance(key, dict):
            if not isinstance(key.get("key"), str):
                raise BadJson(f"The key '{name}' has no 'key' that is a string.")
            if not _has_signature(key, user_id, f"ed25519:{device_id}"):
                raise InvalidSignature(f"The key '{name}' is not signed by its device.")
        elif not isinstance(key, str) or algorithm.startswith("signed_"):
            raise BadJson(f"The key '{name}' has the wrong type.")
        if fallback and any(other.algorithm == algorithm for other in found):
            raise InvalidParam("There can be only one fallback key of each algorithm.")
        found.append(PublicKey(algorithm, key_id, encode_key(key)))
    return found


def check_cross_signing_key(value: Mapping[str, Any], user_id: str, usage: Usage) -> CrossSigningKey:
    """Check one cross-signing key by itself; its signatures are another question.

    Raises:
        InvalidParam: it is another user's, or for something else.
        BadJson: it is malformed.
    """
    name = USAGE_NAMES[usage]
    if value.get("user_id") != user_id:
        raise InvalidParam(f"The user_id in the {name} key must be yours.")
    usages = value.get("usage")
    if not isinstance(usages, list) or name not in usages:
        raise InvalidParam(f"The 'usage' of the {name} key must contain '{name}'.")
    public_key = public_key_of(value)
    checked = {key: part for key, part in value.items() if key != "unsigned"}
    if not isinstance(checked.get("signatures", {}), dict):
        raise BadJson(f"The 'signatures' of the {name} key must be an object.")
    encode_key(checked)
    return CrossSigningKey(usage, public_key, checked)


def stored_cross_signing_key(usage: Usage, stored: bytes) -> CrossSigningKey:
    """A key as it was stored."""
    value: dict[str, Any] = orjson.loads(stored)
    return CrossSigningKey(usage, public_key_of(value), value)


def public_key_of(value: Mapping[str, Any]) -> str:
    """The one public key of a cross-signing key object. Raises BadJson."""
    keys = _keys_of(value)
    if len(keys) != 1:
        raise BadJson("A cross-signing key object must have exactly one key.")
    ((name, public_key),) = keys.items()
    try:
        decoded = base64.decode(public_key)
    except ValueError:
        decoded = b""
    if name != f"ed25519:{public_key}" or len(decoded) != _ED25519_BYTES:
        raise BadJson("A cross-signing key must be an unpadded Base64 Ed25519 key, named 'ed25519:' and the key.")
    return public_key


def check_signature(value: Mapping[str, Any], user_id: str, key_id: str, public_key: str | None) -> None:
    """Check a signature of a user's key on an object. Raises InvalidSignature when it is missing or wrong."""
    try:
        if public_key is None:
            raise SignatureError(f"there is no key {key_id}")
        verify_json(value, user_id, key_id, public_key)
    except SignatureError as error:
        raise InvalidSignature(f"A key is not signed as it must be: {error}.") from error


def signatures_by(value: Mapping[str, Any], user_id: str) -> dict[str, Any]:
    """The signatures of a user on an object, by key ID; whatever is malformed counts as none."""
    signatures = value.get("signatures")
    own = signatures.get(user_id) if isinstance(signatures, dict) else None
    return own if isinstance(own, dict) else {}


def is_same_key(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two key objects are equal but for their signatures."""
    return _signed_part(one) == _signed_part(other)


def with_signatures_of(value: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A key object with the signatures of another version of it added."""
    merged: dict[str, Any] = {}
    for source in (other, value):
        signatures = source.get("signatures")
        for user_id, own in (signatures if isinstance(signatures, dict) else {}).items():
            if isinstance(own, dict):
                merged.setdefault(user_id, {}).update(own)
    return {**value, "signatures": merged} if merged else value


def shown_keys(keys: bytes, display_name: str | None) -> bytes:
    """The JSON of a device's keys with its display name in `unsigned`."""
    if display_name is None:
        return keys
    return b'%b,"unsigned":{"device_display_name":%b}}' % (keys[:-1], orjson.dumps(display_name))


def _signed_part(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in value.items() if key not in ("signatures", "unsigned")}


def _has_signature(value: Mapping[str, Any], user_id: str, key_id: str) -> bool:
    return isinstance(signatures_by(value, user_id).get(key_id), str)


def _keys_of(value: Mapping[str, Any]) -> dict[str, str]:
    keys = value.get("keys")
    if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
        raise BadJson("'keys' of a key object must map names to strings.")
    return keys
