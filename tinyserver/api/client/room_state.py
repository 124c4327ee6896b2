"""The state of rooms and their members.

spec: client-server-api#getting-events-for-a-room
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.long_answers import json_list
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.rooms.state_reader import StateReader

MembershipName = Literal["join", "invite", "knock", "leave", "ban"]


class StateQuery(msgspec.Struct):
    """The query of `GET /state/{eventType}/{stateKey}`."""

    format: Literal["content", "event"] = "content"


class MembersQuery(msgspec.Struct):
    """The query of `GET /members`."""

    at: str | None = None
    membership: MembershipName | None = None
    not_membership: MembershipName | None = None


class StateApi:
    """Reading state."""

    surface = Surface.CLIENT

    def __init__(self, reader: StateReader) -> None:
        self._reader = reader

    @endpoint(
        "GET",
        "/_matrix/client/v3/rooms/{roomId}/state",
        spec="client-server-api#get_matrixclientv3roomsroomidstate",
        auth=Auth.USER,
        guests=True,
    )
    async def state(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All state events."""
        return json_list(b"[", await self._reader.state(call.requester, call.path["roomId"]), b"]")

    @endpoint(
        "GET",
        "/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey?}",
        spec="client-server-api#get_matrixclientv3roomsroomidstateeventtypestatekey",
        auth=Auth.USER,
        query=StateQuery,
        guests=True,
    )
    async def state_event(self, call: Call[NoBody, StateQuery]) -> Answer:
        """One state event, or its content."""
        read = self._reader.event if call.query.format == "event" else self._reader.content
        return await read(call.requester, call.path["roomId"], call.path["eventType"], call.path["stateKey"])

    @endpoint(
        "GET",
        "/_matrix/client/v3/rooms/{roomId}/members",
        spec="client-server-api#get_matrixclientv3roomsroomidmembers",
        auth=Auth.USER,
        query=MembersQuery,
        guests=True,
    )
    async def members(self, call: Call[NoBody, MembersQuery]) -> Answer:
        """The member events."""
        query = call.query
        members = await self._reader.members(
            call.requester,
            call.path["roomId"],
            at=query.at or None,
            membership=query.membership,
            not_membership=query.not_membership,
        )
        return json_list(b'{"chunk":[', members, b"]}")

    @endpoint(
        "GET",
        "/_matrix/client/v3/rooms/{roomId}/joined_members",
        spec="client-server-api#get_matrixclientv3roomsroomidjoined_members",
        auth=Auth.USER,
    )
    async def joined_members(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Who is in the room, with name and avatar."""
        members = await self._reader.joined_members(call.requester, call.path["roomId"])
        return json_list(b'{"joined":{', members, b"}}")
