"""Creating, upgrading and sending into rooms over the client-server API."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.protocol.errors import InvalidParam, MaxDelayExceeded, Unknown, UserSuspended
from tinyserver.rooms.creation import InitialState, RoomCreation, RoomRequest
from tinyserver.rooms.delayed_events import DelayedEvents, Wanted
from tinyserver.rooms.sending import Sending
from tinyserver.rooms.third_party_invitees import Invitee
from tinyserver.rooms.upgrades import RoomUpgrades

_ROOM = "/_matrix/client/v3/rooms/{roomId}"


class InitialStateBody(msgspec.Struct):
    """One of the `initial_state` events."""

    type: str
    content: dict[str, Any]
    state_key: str = ""


class InviteeBody(msgspec.Struct):
    """Somebody to be invited by address."""

    medium: str
    address: str
    id_server: str
    id_access_token: str = ""


class CreateRoomBody(msgspec.Struct):
    """The body of `POST /createRoom`."""

    visibility: Literal["public", "private"] | None = None
    room_alias_name: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: list[str] | None = None
    invite_3pid: list[InviteeBody] | None = None
    room_version: str | None = None
    creation_content: dict[str, Any] | None = None
    initial_state: list[InitialStateBody] | None = None
    preset: Literal["private_chat", "public_chat", "trusted_private_chat"] | None = None
    is_direct: bool | None = None
    power_level_content_override: dict[str, Any] | None = None


class UpgradeBody(msgspec.Struct):
    """The body of `POST /rooms/{roomId}/upgrade`."""

    new_version: str
    additional_creators: list[str] | None = None


class SendQuery(msgspec.Struct):
    """After how many milliseconds the event is to be sent (MSC4140); None: now."""

    delay: int | None = msgspec.field(default=None, name="org.matrix.msc4140.delay")
    sticky_duration_ms: int | None = None
    unstable_sticky_duration_ms: int | None = msgspec.field(default=None, name="org.matrix.msc4354.sticky_duration_ms")
    ts: str | None = None
    """When an application service says that it was sent (ms since 1970); of others it is not looked at."""

    @property
    def sticky(self) -> int | None:
        """For how many milliseconds the event is sticky (MSC4354); None: not at all."""
        stable = self.sticky_duration_ms
        return self.unstable_sticky_duration_ms if stable is None else stable


class RoomsApi:
    """Room creation, room upgrades and sending events."""

    surface = Surface.CLIENT

    def __init__(
        self, creation: RoomCreation, sending: Sending, upgrades: RoomUpgrades, delayed: DelayedEvents
    ) -> None:
        self._creation = creation
        self._sending = sending
        self._upgrades = upgrades
        self._delayed = delayed

    @endpoint(
        "POST",
        "/_matrix/client/v3/createRoom",
        spec="client-server-api#creation",
        auth=Auth.USER,
        body=CreateRoomBody,
        body_optional=True,
        limit=Limit.CREATE_ROOM,
        suspended=False,
    )
    async def create(self, call: Call[CreateRoomBody, NoQuery]) -> Answer:
        """Make a room."""
        body = call.body
        is_public = body.visibility == "public"
        request = RoomRequest(
            creator=call.requester.user_id,
            preset=body.preset or ("public_chat" if is_public else "private_chat"),
            is_public=is_public,
            appservice=call.requester.appservice,
            room_version=body.room_version,
            alias_localpart=body.room_alias_name,
            name=body.name,
            topic=body.topic,
            invite=body.invite or [],
            third_party_invites=[
                Invitee(each.medium, each.address, each.id_server, each.id_access_token)
                for each in body.invite_3pid or ()
            ],
            creation_content=body.creation_content or {},
            initial_state=[
                InitialState(event.type, event.content, event.state_key) for event in body.initial_state or ()
            ],
            is_direct=bool(body.is_direct),
            power_level_content_override=body.power_level_content_override or {},
        )
        return {"room_id": await self._creation.create(request)}

    @endpoint(
        "POST",
        _ROOM + "/upgrade",
        spec="client-server-api#room-upgrades",
        auth=Auth.USER,
        body=UpgradeBody,
        limit=Limit.CREATE_ROOM,
        suspended=False,
    )
    async def upgrade(self, call: Call[UpgradeBody, NoQuery]) -> Answer:
        """Replace a room by one of another version."""
        new_id = await self._upgrades.upgrade(
            call.requester.user_id, call.path["roomId"], call.body.new_version, call.body.additional_creators or []
        )
        return {"replacement_room": new_id}

    @endpoint(
        "PUT",
        _ROOM + "/send/{eventType}/{txnId}",
        spec="client-server-api#sending-events-to-a-room",
        auth=Auth.USER,
        body=dict,
        query=SendQuery,
        limit=Limit.MESSAGE,
        guests=True,
    )
    async def send(self, call: Call[dict[str, Any], SendQuery]) -> Answer:
        """Send a message event, or schedule it."""
        if call.query.delay is not None:
            return await self._schedule(call, None)
        event_id = await self._sending.message(
            call.requester.user_id,
            call.path["roomId"],
            call.path["eventType"],
            call.body,
            is_admin=call.requester.is_admin,
            device=call.requester.txn_scope,
            txn_id=call.path.get("txnId"),
            timestamp=timestamp(call, call.query.ts),
            sticky=call.query.sticky,
        )
        return {"event_id": event_id}

    @endpoint(
        "PUT",
        _ROOM + "/state/{eventType}/{stateKey?}",
        spec="client-server-api#sending-events-to-a-room",
        auth=Auth.USER,
        body=dict,
        query=SendQuery,
        limit=Limit.MESSAGE,
        guests=True,
    )
    async def set_state(self, call: Call[dict[str, Any], SendQuery]) -> Answer:
        """Set a state event, or schedule it."""
        if call.query.delay is not None:
            return await self._schedule(call, call.path.get("stateKey", ""))
        event_id = await self._sending.state(
            call.requester.user_id,
            call.path["roomId"],
            call.path["eventType"],
            call.path.get("stateKey", ""),
            call.body,
            is_guest=call.requester.is_guest,
            timestamp=timestamp(call, call.query.ts),
            sticky=call.query.sticky,
        )
        return {"event_id": event_id}

    @endpoint(
        "PUT",
        _ROOM + "/redact/{eventId}/{txnId}",
        spec="client-server-api#redactions",
        auth=Auth.USER,
        body=dict,
        body_optional=True,
        limit=Limit.REDACTION,
        guests=True,
    )
    async def redact(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Redact an event."""
        event_id = await self._sending.redact(
            call.requester.user_id,
            call.path["roomId"],
            call.path["eventId"],
            call.body,
            is_admin=call.requester.is_admin,
            device=call.requester.txn_scope,
            txn_id=call.path.get("txnId"),
        )
        return {"event_id": event_id}

    async def _schedule(self, call: Call[dict[str, Any], SendQuery], state_key: str | None) -> Answer:
        if call.requester.is_suspended:
            raise UserSuspended
        path = call.path
        wanted = Wanted(
            path["roomId"],
            path["eventType"],
            state_key,
            call.body,
            call.query.delay or 0,
            path.get("txnId"),
            timestamp(call, call.query.ts),
            call.query.sticky,
        )
        try:
            return {"delay_id": await self._delayed.schedule(call.requester, wanted)}
        except MaxDelayExceeded as error:
            # In the words that the clients of this form know.
            code, limit = error.errcode, self._delayed.limits.max_delay
            told = {"org.matrix.msc4140.errcode": code, "org.matrix.msc4140.max_delay": limit}
            raise Unknown(error.message, status=400, extra=told) from error


def timestamp(call: Call[Any, Any], text: str | None) -> int | None:
    """What an application service says when an event was sent, in the parameter `ts`. Raises InvalidParam.

    spec: application-service-api#timestamp-massaging
    """
    if text is None or call.requester.appservice is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and int(text) < 2**53):
        raise InvalidParam("ts must be milliseconds since 1970")
    return int(text)
