"""Users of other servers join, knock and leave through this server.

spec: server-server-api#joining-rooms, #knocking-upon-a-room, #leaving-rooms-rejecting-invites
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.long_answers import json_text
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.federation.serving.handshakes import Handshakes
from tinyserver.federation.serving.templates import Template, Templates

_V1 = "/_matrix/federation/v1"
_V2 = "/_matrix/federation/v2"


class JoinVersions(msgspec.Struct):
    """The room versions that the joining server knows."""

    ver: list[str] = msgspec.field(default_factory=lambda: ["1"])


class KnockVersions(msgspec.Struct):
    """The room versions that the knocking server knows."""

    ver: list[str]


class SendJoinQuery(msgspec.Struct):
    """Whether the joining server is content with less."""

    omit_members: bool = False


class JoinsApi:
    """Both steps of each handshake: making the event, and sending it.

    :param templates: makes the events.
    :param handshakes: takes them.
    :param server_name: this server.
    """

    surface = Surface.FEDERATION

    def __init__(self, templates: Templates, handshakes: Handshakes, server_name: str) -> None:
        self._templates = templates
        self._handshakes = handshakes
        self._origin = orjson.dumps(server_name)

    @endpoint(
        "GET",
        _V1 + "/make_join/{roomId}/{userId}",
        spec="server-server-api#get_matrixfederationv1make_joinroomiduserid",
        auth=Auth.SERVER,
        query=JoinVersions,
    )
    async def make_join(self, call: Call[NoBody, JoinVersions]) -> Answer:
        """A join to be signed."""
        path = call.path
        return _event(await self._templates.make(call.origin, path["roomId"], path["userId"], "join", call.query.ver))

    @endpoint(
        "PUT",
        _V2 + "/send_join/{roomId}/{eventId}",
        spec="server-server-api#put_matrixfederationv2send_joinroomideventid",
        auth=Auth.SERVER,
        body=dict,
        query=SendJoinQuery,
    )
    async def send_join(self, call: Call[dict[str, Any], SendJoinQuery]) -> Answer:
        """A signed join; answered with the state of the room."""
        return await self._joined(call, b"{", b"}", omit_members=call.query.omit_members)

    @endpoint(
        "PUT",
        _V1 + "/send_join/{roomId}/{eventId}",
        spec="server-server-api#joining-rooms",
        auth=Auth.SERVER,
        body=dict,
    )
    async def send_join_v1(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """The same for older servers, which expect the status in the body beside the answer."""
        return await self._joined(call, b"[200,{", b"}]", omit_members=False)

    async def _joined(
        self, call: Call[dict[str, Any], Any], opening: bytes, closing: bytes, *, omit_members: bool
    ) -> Answer:
        path, omit = call.path, omit_members
        answer = await self._handshakes.join(call.origin, path["roomId"], path["eventId"], call.body, omit_members=omit)
        start = b'%b"origin":%b,"event":%b' % (opening, self._origin, answer.event)
        if answer.servers_in_room is None:
            start += b',"members_omitted":false'
        else:
            start += b',"members_omitted":true,"servers_in_room":' + orjson.dumps(answer.servers_in_room)
        return json_text(start, b',"auth_chain":[', answer.auth_chain, b'],"state":[', answer.state, b"]" + closing)

    @endpoint(
        "GET",
        _V1 + "/make_knock/{roomId}/{userId}",
        spec="server-server-api#get_matrixfederationv1make_knockroomiduserid",
        auth=Auth.SERVER,
        query=KnockVersions,
    )
    async def make_knock(self, call: Call[NoBody, KnockVersions]) -> Answer:
        """A knock to be signed."""
        path = call.path
        return _event(await self._templates.make(call.origin, path["roomId"], path["userId"], "knock", call.query.ver))

    @endpoint(
        "PUT",
        _V1 + "/send_knock/{roomId}/{eventId}",
        spec="server-server-api#put_matrixfederationv1send_knockroomideventid",
        auth=Auth.SERVER,
        body=dict,
    )
    async def send_knock(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """A signed knock; answered with what tells the room from others."""
        path = call.path
        state = await self._handshakes.knock(call.origin, path["roomId"], path["eventId"], call.body)
        return b'{"knock_room_state":[%b]}' % b",".join(state)

    @endpoint(
        "GET",
        _V1 + "/make_leave/{roomId}/{userId}",
        spec="server-server-api#get_matrixfederationv1make_leaveroomiduserid",
        auth=Auth.SERVER,
    )
    async def make_leave(self, call: Call[NoBody, NoQuery]) -> Answer:
        """A leave to be signed."""
        return _event(await self._templates.make(call.origin, call.path["roomId"], call.path["userId"], "leave", None))

    @endpoint(
        "PUT",
        _V2 + "/send_leave/{roomId}/{eventId}",
        spec="server-server-api#put_matrixfederationv2send_leaveroomideventid",
        auth=Auth.SERVER,
        body=dict,
    )
    async def send_leave(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """A signed leave."""
        await self._handshakes.leave(call.origin, call.path["roomId"], call.path["eventId"], call.body)
        return {}

    @endpoint(
        "PUT",
        _V1 + "/send_leave/{roomId}/{eventId}",
        spec="server-server-api#leaving-rooms-rejecting-invites",
        auth=Auth.SERVER,
        body=dict,
    )
    async def send_leave_v1(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """The same for older servers, which expect the status in the body beside the answer."""
        return [200, await self.send_leave(call)]


def _event(template: Template) -> Answer:
    return {"room_version": template.room_version, "event": template.event}
