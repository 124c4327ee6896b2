"""What another server says of its users' devices, checked piece by piece: what is malformed is left out.

spec: server-server-api#device-management, server-server-api#end-to-end-encryption
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tinyserver.encryption.key_objects import check_cross_signing_key, encode_key
from tinyserver.protocol.errors import MatrixError
from tinyserver.storage.cross_signing import Usage
from tinyserver.storage.remote_devices import RemoteDevice

MAX_DEVICES = 2000
"""How many devices of one user are looked at."""
MAX_NAME = 1024
"""Characters of a device's ID or display name."""
_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class ToldList:
    """A user's devices, and cross-signing keys as JSON objects; `stream` is None where the server does not say it."""

    devices: list[RemoteDevice] = field(default_factory=list)
    signing_keys: dict[Usage, bytes] = field(default_factory=dict)
    stream: int | None = None


_Signatures = dict[str, dict[str, str]]


class _DeviceKeys(msgspec.Struct):
    """What clients rely on in the keys of a device, where it is there."""

    algorithms: list[str] = []
    keys: dict[str, str] = {}
    signatures: _Signatures = {}


class _ClaimedKey(msgspec.Struct):
    """What a claimed key must have."""

    key: str
    signatures: _Signatures
    fallback: bool = False


def is_claimed_key(value: Any) -> bool:
    """Whether something is a one-time key or a fallback key."""
    return isinstance(value, str) or (isinstance(value, dict) and _has_form(value, _ClaimedKey))


def _has_form(value: Mapping[str, Any], form: type[msgspec.Struct]) -> bool:
    try:
        msgspec.convert(value, form)
    except msgspec.ValidationError:
        return False
    return True


def list_of_user(user_id: str, answer: Mapping[str, Any]) -> ToldList:
    """An answer to `GET /user/devices`."""
    told = answer.get("devices")
    devices = []
    for each in told[:MAX_DEVICES] if isinstance(told, list) else ():
        if isinstance(each, dict):
            device = device_of(user_id, each.get("device_id"), each.get("keys"), each.get("device_display_name"))
            if device is not None:
                devices.append(device)
    return ToldList(devices, signing_keys_of(user_id, answer), stream_id_of(answer.get("stream_id")))


def lists_of_users(user_ids: Collection[str], answer: Mapping[str, Any]) -> dict[str, ToldList]:
    """An answer to `POST /user/keys/query`, for those who were asked about; a user of whom it says nothing has no
    devices."""
    parts = {name: answer.get(name) for name in ("device_keys", "master_keys", "self_signing_keys")}
    all_devices, masters, self_signing = (part if isinstance(part, dict) else {} for part in parts.values())
    found = {}
    for user_id in user_ids:
        told = all_devices.get(user_id)
        devices = []
        for device_id, keys in list(told.items())[:MAX_DEVICES] if isinstance(told, dict) else ():
            unsigned = keys.get("unsigned") if isinstance(keys, dict) else None
            name = unsigned.get("device_display_name") if isinstance(unsigned, dict) else None
            device = device_of(user_id, device_id, keys, name)
            if device is not None:
                devices.append(device)
        signing = {"master_key": masters.get(user_id), "self_signing_key": self_signing.get(user_id)}
        found[user_id] = ToldList(devices, signing_keys_of(user_id, signing))
    return found


def device_of(user_id: str, device_id: Any, keys: Any, name: Any) -> RemoteDevice | None:
    """A device with keys, if it is one of the user."""
    if not isinstance(device_id, str) or len(device_id) > MAX_NAME or not isinstance(keys, dict):
        return None
    if keys.get("user_id") != user_id or keys.get("device_id") != device_id or not _has_form(keys, _DeviceKeys):
        return None
    try:
        encoded = encode_key({part: value for part, value in keys.items() if part != "unsigned"})
    except MatrixError:
        return None
    display_name = name if isinstance(name, str) and len(name) <= MAX_NAME else None
    return RemoteDevice(device_id, display_name, encoded)


def signing_keys_of(user_id: str, content: Mapping[str, Any]) -> dict[Usage, bytes]:
    """The well-formed ones of `master_key` and `self_signing_key`."""
    found = {}
    for usage, name in ((Usage.MASTER, "master_key"), (Usage.SELF_SIGNING, "self_signing_key")):
        value = content.get(name)
        if not isinstance(value, dict):
            continue
        try:
            found[usage] = encode_key(check_cross_signing_key(value, user_id, usage).value)
        except MatrixError:
            continue
    return found


def stream_id_of(value: Any) -> int | None:
    """A stream ID that can be kept, or None."""
    return value if type(value) is int and 0 <= value < _INT64 else None
