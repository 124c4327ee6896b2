"""The pushers of users, as clients set them.

spec: client-server-api#post_matrixclientv3pushersset
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tinyserver.accounts.requester import Requester
from tinyserver.clock import Clock
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.outgoing.targets import target_of_url
from tinyserver.protocol.errors import InvalidParam, MissingParam, ThreepidNotFound, TooLarge
from tinyserver.protocol.threepids import canonical_email
from tinyserver.storage import devices, pushers, threepids
from tinyserver.storage.database import Database
from tinyserver.storage.pushers import PusherSettings
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

NOTIFY_PATH = "/_matrix/push/v1/notify"
EMAIL_APP_ID = "m.email"
UNSTABLE_FEATURES = {"org.matrix.msc3881": True, "org.matrix.msc4028": True, "org.matrix.msc4076": True}
MAX_PUSHERS = 100
"""How many pushers a user can have."""
MAX_PUSHKEY_BYTES, MAX_APP_ID = 512, 64
MAX_TEXT = 256
MAX_DATA_BYTES = 16 * 1024
_REQUIRED = ("app_display_name", "device_display_name", "lang", "data")
_MSC3881 = "org.matrix.msc3881."


class Pushers:
    """Sets and lists pushers; told of devices that go (a `DeviceListener` of sessions).

    Args:
        allow_http: whether gateways may be reached without TLS, as on a LAN.
        own_url: the URL of the gateway of this server itself; "" where there is none.
        with_mail: whether there are pushers that send mails.
    """

    def __init__(self, db: Database, clock: Clock, *, allow_http: bool, own_url: str, with_mail: bool = False) -> None:
        self._db = db
        self._clock = clock
        self._allow_http = allow_http
        self._own_url = own_url
        self._kinds = (pushers.HTTP, pushers.EMAIL) if with_mail else (pushers.HTTP,)
        self.on_set: Callable[[int, str], None] = lambda nid, kind: None
        """Called with the number and the kind of a pusher that was set, when that is stored."""

    def all_of(self, requester: Requester) -> list[dict[str, Any]]:
        """All pushers of the requester, as the client-server API shows them."""

        def step(tx: ReadTransaction) -> list[dict[str, Any]]:
            return [_shown(tx, row.settings) for row in pushers.of_user(tx, requester.user_nid)]

        return self._db.glance(step)

    async def set(self, requester: Requester, body: Mapping[str, Any]) -> None:
        """Create, change or (kind null) delete a pusher of the requester.

        Raises:
            MissingParam, InvalidParam, TooLarge: the body is not what it must be.
            ThreepidNotFound: mails are wanted to an address that is not the requester's.
        """
        missing = [key for key in ("kind", "app_id", "pushkey") if key not in body]
        if missing:
            raise MissingParam(f"Missing parameters: {', '.join(missing)}")
        app_id, pushkey = _text(body, "app_id", MAX_APP_ID), _text(body, "pushkey", MAX_PUSHKEY_BYTES)
        if not pushkey or len(pushkey.encode()) > MAX_PUSHKEY_BYTES:
            raise InvalidParam(f"pushkey must have 1 to {MAX_PUSHKEY_BYTES} bytes.")
        if app_id == EMAIL_APP_ID:
            pushkey = canonical_email(pushkey) or pushkey
        if body["kind"] is None:
            await self._db.write(lambda tx: _remove(tx, requester.user_nid, app_id, pushkey))
            return
        settings = self._settings(requester, body, app_id, pushkey)
        append = _boolean(body, "append", default=False)
        asked_device = body.get("device_id", body.get(_MSC3881 + "device_id"))
        now = self._clock.now_ms()
        await self._db.write(lambda tx: self._put(tx, requester, settings, asked_device, append=append, now=now))

    def devices_removed(self, tx: WriteTransaction, user: int, removed: Sequence[int]) -> None:
        """Delete what hangs on devices (by number) of a user. Other users' pushers with the same pushkey stay."""
        pushers.remove_of_devices(tx, removed)

    def device_renamed(self, tx: WriteTransaction, user: int, device: int) -> None:
        """A pusher has a name of its own for its device."""

    def _settings(self, requester: Requester, body: Mapping[str, Any], app_id: str, pushkey: str) -> PusherSettings:
        missing = [key for key in _REQUIRED if body.get(key) is None]
        if missing:
            raise MissingParam(f"Missing parameters: {', '.join(missing)}")
        kind = body["kind"]
        if kind not in self._kinds:
            raise InvalidParam(f"This server has pushers of these kinds only: {', '.join(self._kinds)}")
        data = body["data"]
        if not isinstance(data, dict):
            raise InvalidParam("data must be an object.")
        try:
            size = len(json.dumps(data, allow_nan=False))
        except ValueError as error:
            raise InvalidParam("data holds a number that is none.") from error
        if size > MAX_DATA_BYTES:
            raise TooLarge(f"data must not have more than {MAX_DATA_BYTES} bytes.")
        if kind == pushers.EMAIL:
            pushkey = self._check_address(requester, app_id, pushkey)
        elif "url" not in data:
            raise MissingParam("Missing parameters: data.url")
        else:
            self._check_url(data["url"])
        enabled = body.get("enabled", body.get(_MSC3881 + "enabled", True))
        if not isinstance(enabled, bool):
            raise InvalidParam("enabled must be true or false.")
        return PusherSettings(
            # Mails are for when one is not there: they outlast the device on which they were switched on.
            device=requester.device_nid if kind == pushers.HTTP else None,
            app_id=app_id,
            pushkey=pushkey,
            kind=kind,
            app_display_name=_text(body, "app_display_name"),
            device_display_name=_text(body, "device_display_name"),
            profile_tag=None if body.get("profile_tag") is None else _text(body, "profile_tag"),
            lang=_text(body, "lang"),
            data=data,
            enabled=enabled,
        )

    def _check_address(self, requester: Requester, app_id: str, pushkey: str) -> str:
        if app_id != EMAIL_APP_ID:
            raise InvalidParam(f"The app_id of a pusher of the kind email is {EMAIL_APP_ID}.")
        address = canonical_email(pushkey)
        owner = None if address is None else self._db.glance(lambda tx: threepids.user_of(tx, "email", address))
        if address is None or owner != requester.user_nid:
            raise ThreepidNotFound("Mails are sent to the mail addresses of your account only. Add this one first.")
        return address

    def _check_url(self, url: object) -> None:
        if not isinstance(url, str) or len(url) > 2000:
            raise InvalidParam("data.url must be the URL of a push gateway.")
        if url == self._own_url:
            return
        try:
            target, path = target_of_url(url)
        except OutgoingError as error:
            raise InvalidParam(f"data.url must be the URL of a push gateway: {error}") from error
        if path.partition("?")[0] != NOTIFY_PATH:
            raise InvalidParam(f"The path of data.url must be {NOTIFY_PATH}.")
        if target.scheme != "https" and not self._allow_http:
            raise InvalidParam("data.url must begin with https:// (http only where private addresses are allowed).")

    def _put(
        self,
        tx: WriteTransaction,
        requester: Requester,
        settings: PusherSettings,
        asked_device: object,
        *,
        append: bool,
        now: int,
    ) -> None:
        user = requester.user_nid
        if settings.kind == pushers.EMAIL and threepids.user_of(tx, "email", settings.pushkey) != user:
            raise ThreepidNotFound("This mail address belongs to your account no more.")
        if not append:
            pushers.remove_of_others(tx, user, settings.app_id, settings.pushkey)
        known = pushers.find(tx, user, settings.app_id, settings.pushkey)
        position = tx.next_position()
        if known is None:
            if len(pushers.of_user(tx, user)) >= MAX_PUSHERS:
                raise InvalidParam(f"You have {MAX_PUSHERS} pushers already. Delete some of them first.")
            nid = pushers.add(tx, user, settings, now, position)
        else:
            nid = known.nid
            if known.settings.device is not None and asked_device is not None:
                device = devices.get(tx, known.settings.device)
                if device is not None and device.device_id == asked_device:  # another device switches it on or off
                    settings = replace(settings, device=device.nid)
            pushers.change(tx, nid, settings, now, known.sent if known.settings.enabled else position)
        tx.on_commit(lambda: self.on_set(nid, settings.kind))


def _remove(tx: WriteTransaction, user: int, app_id: str, pushkey: str) -> None:
    known = pushers.find(tx, user, app_id, pushkey)
    if known is not None:
        pushers.remove(tx, known.nid)


def _shown(tx: ReadTransaction, settings: PusherSettings) -> dict[str, Any]:
    device = None if settings.device is None else devices.get(tx, settings.device)
    shown: dict[str, Any] = {
        "app_id": settings.app_id,
        "pushkey": settings.pushkey,
        "kind": settings.kind,
        "app_display_name": settings.app_display_name,
        "device_display_name": settings.device_display_name,
        "lang": settings.lang,
        "data": settings.data,
    }
    if settings.profile_tag is not None:
        shown["profile_tag"] = settings.profile_tag
    for prefix in ("", _MSC3881):
        shown[prefix + "enabled"] = settings.enabled
        shown[prefix + "device_id"] = None if device is None else device.device_id
    return shown


def _text(body: Mapping[str, Any], key: str, longest: int = MAX_TEXT) -> str:
    value = body[key]
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidParam(f"{key} must be text of at most {longest} characters.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidParam(f"{key} holds half of a character.") from error
    return value


def _boolean(body: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = body.get(key, default)
    if not isinstance(value, bool):
        raise InvalidParam(f"{key} must be true or false.")
    return value
