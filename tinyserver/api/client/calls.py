"""What calls need of the server: TURN credentials, and where the media of group calls go."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.calls.livekit import DEFAULT_SLOT, CallMember, LiveKitTokens, OpenIdToken
from tinyserver.calls.turn import TurnServers

LIVEKIT_PATH = "/_tinyserver/livekit"


class TurnApi:
    """The chapter about calls between two."""

    surface = Surface.CLIENT

    def __init__(self, turn: TurnServers) -> None:
        self._turn = turn

    @endpoint(
        "GET",
        "/_matrix/client/v3/voip/turnServer",
        spec="client-server-api#get_matrixclientv3voipturnserver",
        auth=Auth.USER,
        limit=Limit.OTHER,
    )
    async def turn_server(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Credentials for the TURN servers; nothing where there are none."""
        found = self._turn.credentials(call.requester.user_id)
        if found is None:
            return {}
        return {"username": found.username, "password": found.password, "uris": list(found.uris), "ttl": found.ttl}


class TransportsApi:
    """Where clients find what carries the media of group calls (MSC4143).

    :param transports: as clients get them.
    """

    surface = Surface.CLIENT

    def __init__(self, transports: list[dict[str, Any]]) -> None:
        self._transports = transports

    @endpoint("GET", "/_matrix/client/v1/rtc/transports", spec="msc4143", auth=Auth.USER, guests=True)
    @endpoint(
        "GET",
        "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports",
        spec="msc4143",
        auth=Auth.USER,
        guests=True,
    )
    async def transports(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All of them."""
        return {"rtc_transports": self._transports}


class OpenIdBody(msgspec.Struct):
    """An OpenID token as clients get it from their server."""

    access_token: str
    matrix_server_name: str


class SfuBody(msgspec.Struct):
    """What clients send today."""

    room: str
    openid_token: OpenIdBody
    device_id: str


class MemberBody(msgspec.Struct):
    """Who takes part."""

    id: str
    claimed_user_id: str
    claimed_device_id: str


class TokenBody(msgspec.Struct):
    """What clients send as MSC4195 says."""

    room_id: str
    openid_token: OpenIdBody
    member: MemberBody
    slot_id: str = DEFAULT_SLOT


class LiveKitApi:
    """The token service at `livekit_service_url`. Its clients may be users of other servers, so they have no token."""

    surface = Surface.CLIENT

    def __init__(self, tokens: LiveKitTokens) -> None:
        self._tokens = tokens

    @endpoint("POST", LIVEKIT_PATH + "/sfu/get", spec="msc4195", auth=Auth.NONE, body=SfuBody, limit=Limit.OTHER)
    async def sfu(self, call: Call[SfuBody, NoQuery]) -> Answer:
        """A token, in the form that clients use today."""
        body = call.body
        return await self._tokens.create(body.room, DEFAULT_SLOT, _token(body.openid_token), CallMember(body.device_id))

    @endpoint("POST", LIVEKIT_PATH + "/get_token", spec="msc4195", auth=Auth.NONE, body=TokenBody, limit=Limit.OTHER)
    async def token(self, call: Call[TokenBody, NoQuery]) -> Answer:
        """A token, in the form of MSC4195."""
        body, member = call.body, call.body.member
        return await self._tokens.create(
            body.room_id,
            body.slot_id,
            _token(body.openid_token),
            CallMember(member.claimed_device_id, member.id, member.claimed_user_id),
        )


def _token(body: OpenIdBody) -> OpenIdToken:
    return OpenIdToken(body.access_token, body.matrix_server_name)
