"""Dehydrated devices."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.client.session_answers import origin_of
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.encryption.dehydrated_devices import DehydratedDevices, MessagePage, NewDehydratedDevice
from tinyserver.encryption.device_keys import KeyUpload

_SPEC = "msc3814"
_PATH = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"


class DehydratedBody(msgspec.Struct):
    """The body of `PUT /dehydrated_device`."""

    device_id: str
    device_data: dict[str, Any]
    device_keys: dict[str, Any]
    initial_device_display_name: str | None = None
    one_time_keys: dict[str, Any] | None = None
    fallback_keys: dict[str, Any] | None = None


class EventsQuery(msgspec.Struct):
    """The parameters of `GET .../events`."""

    start: str | None = msgspec.field(name="from", default=None)


class EventsBody(msgspec.Struct):
    """The body of `POST .../events`, as older clients ask."""

    next_batch: str | None = None


class DehydratedDevicesApi:
    """The endpoints of MSC3814. A client that finds none of them takes them as unsupported."""

    surface = Surface.CLIENT

    def __init__(self, devices: DehydratedDevices) -> None:
        self._devices = devices

    @endpoint("PUT", _PATH, spec=_SPEC, auth=Auth.USER, body=DehydratedBody, limit=Limit.OTHER)
    async def put(self, call: Call[DehydratedBody, NoQuery]) -> Answer:
        """Put a device to sleep."""
        body = call.body
        new = NewDehydratedDevice(
            body.device_id,
            body.device_data,
            body.initial_device_display_name,
            KeyUpload(body.device_keys, body.one_time_keys, body.fallback_keys),
        )
        await self._devices.put(call.requester, new, origin_of(call))
        return {"device_id": body.device_id}

    @endpoint("GET", _PATH, spec=_SPEC, auth=Auth.USER)
    async def get(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The sleeping device."""
        return self._devices.get(call.requester)

    @endpoint("DELETE", _PATH, spec=_SPEC, auth=Auth.USER, limit=Limit.OTHER)
    async def delete(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Delete the sleeping device."""
        return {"device_id": await self._devices.remove(call.requester)}

    @endpoint("GET", _PATH + "/{deviceId}/events", spec=_SPEC, auth=Auth.USER, query=EventsQuery)
    async def events(self, call: Call[NoBody, EventsQuery]) -> Answer:
        """Messages that wait for it."""
        page = self._devices.messages(call.requester, call.path["deviceId"], call.query.start)
        return _page_text(page, with_token=page.has_more)

    @endpoint(
        "POST",
        _PATH + "/{deviceId}/events",
        spec=_SPEC,
        auth=Auth.USER,
        body=EventsBody,
        body_optional=True,
        limit=Limit.OTHER,
    )
    async def events_of_old(self, call: Call[EventsBody, NoQuery]) -> Answer:
        """The same as older clients ask for it: they read on until a page is empty."""
        page = self._devices.messages(call.requester, call.path["deviceId"], call.body.next_batch)
        return _page_text(page, with_token=True)


def _page_text(page: MessagePage, *, with_token: bool) -> bytes:
    token = b',"next_batch":"%b"' % page.next_batch.encode() if with_token else b""
    return b'{"events":[%b]%b}' % (b",".join(page.events), token)
