"""The devices of a user."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.accounts.devices import Devices
from tinyserver.api.answers import FullAnswer
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint

_SPEC = "client-server-api#device-management"


class RenameBody(msgspec.Struct):
    """The body of `PUT /devices/{deviceId}`."""

    display_name: str | None = None


class DeleteBody(msgspec.Struct):
    """The body of `DELETE /devices/{deviceId}`."""

    auth: dict[str, Any] | None = None


class DeleteDevicesBody(msgspec.Struct):
    """The body of `POST /delete_devices`."""

    devices: list[str]
    auth: dict[str, Any] | None = None


class DevicesApi:
    """The device management chapter."""

    surface = Surface.CLIENT

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    @endpoint("GET", "/_matrix/client/v3/devices", spec=_SPEC, auth=Auth.USER, guests=True)
    async def all_devices(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All devices of the user."""
        return {"devices": await self._devices.all_of(call.requester)}

    @endpoint("GET", "/_matrix/client/v3/devices/{deviceId}", spec=_SPEC, auth=Auth.USER, guests=True)
    async def one_device(self, call: Call[NoBody, NoQuery]) -> Answer:
        """One device of the user."""
        return await self._devices.get(call.requester, call.path["deviceId"])

    @endpoint(
        "PUT",
        "/_matrix/client/v3/devices/{deviceId}",
        spec=_SPEC,
        auth=Auth.USER,
        body=RenameBody,
        guests=True,
        limit=Limit.OTHER,
    )
    async def rename(self, call: Call[RenameBody, NoQuery]) -> Answer:
        """Give a device another display name."""
        is_new = await self._devices.rename(call.requester, call.path["deviceId"], call.body.display_name)
        return FullAnswer(201, {}) if is_new else {}

    @endpoint(
        "DELETE",
        "/_matrix/client/v3/devices/{deviceId}",
        spec=_SPEC,
        auth=Auth.USER,
        body=DeleteBody,
        body_optional=True,
        limit=Limit.OTHER,
    )
    async def delete(self, call: Call[DeleteBody, NoQuery]) -> Answer:
        """Delete a device and end its sessions."""
        await self._devices.remove(call.requester, [call.path["deviceId"]], call.body.auth)
        return {}

    @endpoint(
        "POST",
        "/_matrix/client/v3/delete_devices",
        spec=_SPEC,
        auth=Auth.USER,
        body=DeleteDevicesBody,
        limit=Limit.OTHER,
    )
    async def delete_devices(self, call: Call[DeleteDevicesBody, NoQuery]) -> Answer:
        """Delete several devices and end their sessions."""
        await self._devices.remove(call.requester, call.body.devices, call.body.auth)
        return {}
