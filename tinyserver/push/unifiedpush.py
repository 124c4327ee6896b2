"""A push gateway for UnifiedPush: passes notifications on to the URL of a distributor (such as ntfy), the pushkey.

Anybody may use it, as other gateways of this kind; so it makes only POST requests without redirects to public
addresses. Private ones are reached where the configuration allows that, and only for pushkeys that users of this
server have set themselves.

spec: push-gateway-api#post_matrixpushv1notify, https://unifiedpush.org/developers/gateway/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tinyserver.outgoing.errors import AddressRefused, HttpError, OutgoingError
from tinyserver.outgoing.http import HttpClient
from tinyserver.outgoing.targets import target_of_url
from tinyserver.protocol.errors import BadJson, InvalidParam, MissingParam
from tinyserver.storage import pushers
from tinyserver.storage.database import Database

MAX_DEVICES = 10
MAX_MESSAGE = 4096
"""Bytes that every distributor takes."""
TIMEOUT = 20.0
_MAX_ANSWER = 16 * 1024
_GONE = (404, 410)


class UnifiedPush:
    """The gateway.

    Args:
        db: which pushkeys are users' own.
        http: reaches public addresses only.
        own_http: for the pushkeys of users of this server.
    """

    def __init__(self, db: Database, http: HttpClient, own_http: HttpClient) -> None:
        self._db = db
        self._http = http
        self._own_http = own_http

    async def notify(self, content: Mapping[str, Any]) -> list[str]:
        """Pass a notification on to all of its devices.

        Args:
            content: the body of a request to a push gateway.

        Returns:
            The pushkeys that are not valid (any more).

        Raises:
            BadJson, MissingParam, InvalidParam: the content is not what it must be.
            OutgoingError: a distributor cannot take it now.
        """
        notification = content.get("notification")
        if notification is None:
            raise MissingParam("Missing parameters: notification")
        devices = notification.get("devices") if isinstance(notification, dict) else None
        if not isinstance(devices, list):
            raise BadJson("notification must be an object with a list of devices.")
        if len(devices) > MAX_DEVICES:
            raise InvalidParam(f"At most {MAX_DEVICES} devices are notified at once.")
        keys = [device.get("pushkey") if isinstance(device, dict) else None for device in devices]
        if not all(isinstance(key, str) for key in keys):
            raise BadJson("Every device must be an object with a pushkey.")
        rejected = []
        for device, key in zip(devices, keys, strict=True):
            if not await self._pass_on(str(key), message_of(notification, device), notification.get("prio")):
                rejected.append(str(key))
        return rejected

    async def _pass_on(self, url: str, message: bytes, prio: object) -> bool:
        """Whether a distributor took a message; False if it never will. Raises OutgoingError."""
        try:
            target_of_url(url)
        except OutgoingError:
            return False
        is_own = self._db.glance(lambda tx: pushers.has_pushkey(tx, url))
        http = self._own_http if is_own else self._http
        try:
            answer = await http.fetch(
                url,
                method="POST",
                headers={
                    "Content-Type": "application/json",
                    "TTL": "86400",
                    "Urgency": "normal" if prio == "low" else "high",
                },
                content=message,
                timeout=TIMEOUT,
                max_bytes=_MAX_ANSWER,
            )
        except AddressRefused:
            return False
        if answer.status in _GONE:
            return False
        if not 200 <= answer.status < 300:
            raise HttpError(answer.status, None, "")
        return True


def message_of(notification: Mapping[str, Any], device: Mapping[str, Any]) -> bytes:
    """What one device is sent: the notification without the others; where that is too long, only what names it."""
    told = {**notification, "devices": [device]}
    message = json.dumps({"notification": told}).encode()
    if len(message) <= MAX_MESSAGE:
        return message
    short = {key: notification[key] for key in ("event_id", "room_id", "counts", "prio") if key in notification}
    message = json.dumps({"notification": short}).encode()
    return message if len(message) <= MAX_MESSAGE else b'{"notification":{}}'
