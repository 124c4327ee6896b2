"""Room membership over the client-server API."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.protocol.errors import InvalidParam, MissingParam
from tinyserver.rooms.membership import RoomMembership
from tinyserver.rooms.third_party_invitees import Invitee, ThirdPartyInviter

_ROOM = "/_matrix/client/v3/rooms/{roomId}"
_JOINING = "client-server-api#joining-rooms"
_LEAVING = "client-server-api#leaving-rooms"
_BANNING = "client-server-api#banning-users-in-a-room"


class JoinBody(msgspec.Struct):
    """The body of the join requests."""

    reason: str | None = None
    third_party_signed: dict[str, Any] | None = None


class ReasonBody(msgspec.Struct):
    """A body that may give a reason."""

    reason: str | None = None


class TargetBody(msgspec.Struct):
    """A body that names somebody else."""

    user_id: str
    reason: str | None = None


class InviteBody(msgspec.Struct):
    """The body of `POST /invite`: a user, or a third-party identifier."""

    user_id: str | None = None
    reason: str | None = None
    medium: str | None = None
    address: str | None = None
    id_server: str | None = None
    id_access_token: str | None = None


class ViaQuery(msgspec.Struct):
    """Servers that may know the room."""

    via: list[str] = []
    server_name: list[str] = []


class MembershipApi:
    """Joining, leaving, inviting, removing, banning, knocking, forgetting."""

    surface = Surface.CLIENT

    def __init__(self, membership: RoomMembership, by_address: ThirdPartyInviter) -> None:
        self._membership = membership
        self._by_address = by_address

    @endpoint(
        "GET", "/_matrix/client/v3/joined_rooms", spec="client-server-api#room-membership", auth=Auth.USER, guests=True
    )
    async def joined_rooms(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The rooms that the user is in."""
        return {"joined_rooms": await self._membership.joined_rooms(call.requester.user_id)}

    @endpoint(
        "POST",
        _ROOM + "/join",
        spec=_JOINING,
        auth=Auth.USER,
        body=JoinBody,
        body_optional=True,
        limit=Limit.JOIN,
        guests=True,
        suspended=False,
    )
    async def join_room(self, call: Call[JoinBody, NoQuery]) -> Answer:
        """Join a room by its ID (not by an alias, as the other path does)."""
        if not call.path["roomId"].startswith("!"):
            raise InvalidParam("This needs the ID of a room; to join by an alias use /join/{roomIdOrAlias}")
        return await self._join(call, call.path["roomId"], [])

    @endpoint(
        "POST",
        "/_matrix/client/v3/join/{roomIdOrAlias}",
        spec=_JOINING,
        auth=Auth.USER,
        body=JoinBody,
        query=ViaQuery,
        body_optional=True,
        limit=Limit.JOIN,
        guests=True,
        suspended=False,
    )
    async def join(self, call: Call[JoinBody, ViaQuery]) -> Answer:
        """Join a room by ID or alias."""
        return await self._join(call, call.path["roomIdOrAlias"], [*call.query.via, *call.query.server_name])

    async def _join(self, call: Call[JoinBody, Any], room: str, via: list[str]) -> Answer:
        room_id = await self._membership.join(
            call.requester.user_id,
            room,
            via=via,
            reason=call.body.reason,
            is_guest=call.requester.is_guest,
            third_party_signed=call.body.third_party_signed,
        )
        return {"room_id": room_id}

    @endpoint(
        "POST",
        "/_matrix/client/v3/knock/{roomIdOrAlias}",
        spec="client-server-api#knocking-on-rooms",
        auth=Auth.USER,
        body=ReasonBody,
        query=ViaQuery,
        body_optional=True,
        limit=Limit.JOIN,
        suspended=False,
    )
    async def knock(self, call: Call[ReasonBody, ViaQuery]) -> Answer:
        """Ask to be let in."""
        room_id = await self._membership.knock(
            call.requester.user_id,
            call.path["roomIdOrAlias"],
            via=[*call.query.via, *call.query.server_name],
            reason=call.body.reason,
        )
        return {"room_id": room_id}

    @endpoint(
        "POST", _ROOM + "/invite", spec=_JOINING, auth=Auth.USER, body=InviteBody, limit=Limit.INVITE, suspended=False
    )
    async def invite(self, call: Call[InviteBody, NoQuery]) -> Answer:
        """Invite a user."""
        body = call.body
        if body.user_id is None:
            if body.medium is None and body.address is None:
                raise MissingParam("user_id is missing: whom do you want to invite?")
            invitee = Invitee(body.medium or "", body.address or "", body.id_server or "", body.id_access_token or "")
            await self._by_address.invite(call.requester.user_id, call.path["roomId"], invitee)
            return {}
        await self._membership.invite(call.requester.user_id, call.path["roomId"], body.user_id, body.reason)
        return {}

    @endpoint(
        "POST",
        _ROOM + "/leave",
        spec=_LEAVING,
        auth=Auth.USER,
        body=ReasonBody,
        body_optional=True,
        guests=True,
        limit=Limit.OTHER,
    )
    async def leave(self, call: Call[ReasonBody, NoQuery]) -> Answer:
        """Leave a room, refuse an invite or take back a knock."""
        await self._membership.leave(call.requester.user_id, call.path["roomId"], call.body.reason)
        return {}

    @endpoint(
        "POST",
        _ROOM + "/forget",
        spec=_LEAVING,
        auth=Auth.USER,
        body=dict,
        body_optional=True,
        guests=True,
        limit=Limit.OTHER,
    )
    async def forget(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Hide a room that was left."""
        await self._membership.forget(call.requester.user_id, call.path["roomId"])
        return {}

    @endpoint(
        "POST", _ROOM + "/kick", spec=_LEAVING, auth=Auth.USER, body=TargetBody, limit=Limit.OTHER, suspended=False
    )
    async def kick(self, call: Call[TargetBody, NoQuery]) -> Answer:
        """Remove somebody."""
        body = call.body
        await self._membership.kick(call.requester.user_id, call.path["roomId"], body.user_id, body.reason)
        return {}

    @endpoint(
        "POST", _ROOM + "/ban", spec=_BANNING, auth=Auth.USER, body=TargetBody, limit=Limit.OTHER, suspended=False
    )
    async def ban(self, call: Call[TargetBody, NoQuery]) -> Answer:
        """Ban somebody."""
        body = call.body
        await self._membership.ban(call.requester.user_id, call.path["roomId"], body.user_id, body.reason)
        return {}

    @endpoint(
        "POST", _ROOM + "/unban", spec=_BANNING, auth=Auth.USER, body=TargetBody, limit=Limit.OTHER, suspended=False
    )
    async def unban(self, call: Call[TargetBody, NoQuery]) -> Answer:
        """Lift a ban."""
        body = call.body
        await self._membership.unban(call.requester.user_id, call.path["roomId"], body.user_id, body.reason)
        return {}
