"""What other servers are told of the devices of this server's users.

spec: server-server-api#device-management, server-server-api#end-to-end-encryption
"""

from __future__ import annotations

from typing import Any

import orjson

from tinyserver.storage import accounts, cross_signing, device_keys, device_list_log, devices, names
from tinyserver.storage.cross_signing import Usage
from tinyserver.storage.device_list_log import SIGNING_KEYS, ListUpdate
from tinyserver.storage.transaction import ReadTransaction

_SHOWN = {Usage.MASTER: "master_key", Usage.SELF_SIGNING: "self_signing_key"}


def list_update_edu(tx: ReadTransaction, update: ListUpdate) -> dict[str, Any]:
    """The EDU that tells of a change: how the device or the cross-signing keys are now."""
    user_id = names.text(tx, update.user)
    if update.device == SIGNING_KEYS:
        content = {"user_id": user_id, **_signing_keys(tx, update.user)}
        return {"edu_type": "m.signing_key_update", "content": content}
    content = {
        "user_id": user_id,
        "device_id": update.device,
        "stream_id": update.stream_id,
        "prev_id": [] if update.prev is None else [update.prev],
    }
    device = devices.find(tx, update.user, update.device)
    keys = None if device is None else device_keys.get(tx, device.nid)
    if device is None or keys is None:
        content["deleted"] = True
    else:
        content["keys"] = orjson.loads(keys)
        if device.display_name is not None:
            content["device_display_name"] = device.display_name
    return {"edu_type": "m.device_list_update", "content": content}


def device_list(tx: ReadTransaction, user_id: str) -> dict[str, Any] | None:
    """All devices with keys of a local user, as `GET /user/devices` shows them; None: there is no such user."""
    user = names.find(tx, user_id)
    if user is None or accounts.get(tx, user) is None:
        return None
    listed = []
    for row in device_keys.of_users(tx, [user]):
        device: dict[str, Any] = {"device_id": row.device_id, "keys": orjson.loads(row.keys)}
        if row.display_name is not None:
            device["device_display_name"] = row.display_name
        listed.append(device)
    stream_id = device_list_log.stream_id(tx, user) or 0
    return {"user_id": user_id, "stream_id": stream_id, "devices": listed, **_signing_keys(tx, user)}


def _signing_keys(tx: ReadTransaction, user: int) -> dict[str, Any]:
    """The cross-signing keys that everybody may see."""
    keys = cross_signing.of_user(tx, user)
    return {name: orjson.loads(keys[usage]) for usage, name in _SHOWN.items() if usage in keys}
