"""Delayed events (MSC4140), in the form that clients use today and in that of the proposal's present text."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from tinyserver.accounts.capabilities import CapabilityProvider
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.client.rooms import timestamp
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.protocol.errors import InvalidParam, MissingParam
from tinyserver.rooms.delayed_events import DelayedEvents, Limits, Wanted
from tinyserver.storage.delayed_events import DelayedRow

_SPEC = "msc4140"
_UNSTABLE = "/_matrix/client/unstable/org.matrix.msc4140"
_EVENTS = "/delayed_events"
UNSTABLE_FEATURES = {"org.matrix.msc4140": True}


class DelayedBody(msgspec.Struct):
    """An event to be sent later; without a `state_key` it is no state event."""

    delay_ms: int
    content: dict[str, Any]
    state_key: str | None = None


class ScheduleQuery(msgspec.Struct):
    """When an application service says that it is sent (ms since 1970)."""

    ts: str | None = None


class ActionBody(msgspec.Struct):
    """What is to become of a delayed event."""

    action: Any = None


class DelayedEventsApi:
    """Scheduling events, and saying what becomes of them."""

    surface = Surface.CLIENT

    def __init__(self, delayed: DelayedEvents) -> None:
        self._delayed = delayed

    @endpoint(
        "PUT",
        "/_matrix/client/v3/rooms/{roomId}/delayed_event/{eventType}/{txnId}",
        spec=_SPEC,
        auth=Auth.USER,
        body=DelayedBody,
        query=ScheduleQuery,
        limit=Limit.MESSAGE,
        suspended=False,
        guests=True,
    )
    @endpoint(
        "PUT",
        _UNSTABLE + "/rooms/{roomId}/delayed_event/{eventType}/{txnId}",
        spec=_SPEC,
        auth=Auth.USER,
        body=DelayedBody,
        query=ScheduleQuery,
        limit=Limit.MESSAGE,
        suspended=False,
        guests=True,
    )
    async def schedule(self, call: Call[DelayedBody, ScheduleQuery]) -> Answer:
        """Schedule an event."""
        path, body = call.path, call.body
        wanted = Wanted(
            path["roomId"],
            path["eventType"],
            body.state_key,
            body.content,
            body.delay_ms,
            path["txnId"],
            timestamp(call, call.query.ts),
        )
        return {"delay_id": await self._delayed.schedule(call.requester, wanted)}

    @endpoint(
        "POST",
        _UNSTABLE + _EVENTS + "/{delayId}",
        spec=_SPEC,
        auth=Auth.OPTIONAL,
        body=ActionBody,
        limit=Limit.OTHER,
        guests=True,
    )
    async def update(self, call: Call[ActionBody, NoQuery]) -> Answer:
        """Send, cancel or restart, as the body says."""
        if call.body.action is None:
            raise MissingParam("The body must have an action")
        return await self._act(call, call.body.action)

    @endpoint(
        "POST",
        _UNSTABLE + _EVENTS + "/{delayId}/{action}",
        spec=_SPEC,
        auth=Auth.OPTIONAL,
        limit=Limit.OTHER,
        guests=True,
    )
    @endpoint(
        "POST",
        "/_matrix/client/v1" + _EVENTS + "/{delayId}/{action}",
        spec=_SPEC,
        auth=Auth.OPTIONAL,
        limit=Limit.OTHER,
        guests=True,
    )
    async def act(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Send, cancel or restart, as the path says. Whoever knows the ID may, the services behind calls among them."""
        return await self._act(call, call.path["action"])

    @endpoint("GET", _UNSTABLE + _EVENTS, spec=_SPEC, auth=Auth.USER, guests=True)
    @endpoint("GET", "/_matrix/client/v1" + _EVENTS, spec=_SPEC, auth=Auth.USER, guests=True)
    async def all(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The requester's that are still to be sent."""
        return {
            "delayed_events": [
                {**_shown(row), "running_since": since} for row, since in self._delayed.all(call.requester)
            ]
        }

    @endpoint("GET", _UNSTABLE + _EVENTS + "/{delayId}", spec=_SPEC, auth=Auth.USER, guests=True)
    @endpoint("GET", "/_matrix/client/v1" + _EVENTS + "/{delayId}", spec=_SPEC, auth=Auth.USER, guests=True)
    async def one(self, call: Call[NoBody, NoQuery]) -> Answer:
        """One of the requester's, and what became of it."""
        row = self._delayed.one(call.requester, call.path["delayId"])
        shown = _shown(row)
        if row.finalised is not None:
            shown["finalised_ts"] = row.finalised
        if row.event_id is not None:
            shown["event_id"] = row.event_id
        if row.error is not None:
            shown["error"] = orjson.Fragment(row.error)
        return shown

    async def _act(self, call: Call[Any, NoQuery], action: Any) -> Answer:
        delay_id, requester = call.path["delayId"], call.optional_requester
        if action == "restart":
            self._delayed.restart(delay_id, requester)
        elif action == "cancel":
            await self._delayed.cancel(delay_id, requester)
        elif action == "send":
            await self._delayed.send(delay_id, requester)
        else:
            raise InvalidParam("The action must be send, cancel or restart")
        return {}


def _shown(row: DelayedRow) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "delay_id": row.delay_id,
        "room_id": row.room_id,
        "type": row.type,
        "delay": row.delay,
        "delay_ms": row.delay,
        "scheduled_at": row.scheduled,
        "content": orjson.Fragment(row.content),
    }
    if row.state_key is not None:
        shown["state_key"] = row.state_key
    return shown


def delayed_events_capability(limits: Limits) -> CapabilityProvider:
    """`m.delayed_events`: how far ahead and how many may be scheduled."""
    capability = {"max_delay_ms": limits.max_delay, "max_scheduled": limits.max_scheduled}
    told = {"m.delayed_events": capability, "org.matrix.msc4140.delayed_events": capability}
    return lambda requester: told
