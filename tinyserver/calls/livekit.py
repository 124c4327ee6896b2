"""Tokens for a LiveKit server, which carries the media of group calls: given to whoever is in the room.

The user proves who they are with an OpenID token of their own server, whichever that is.

spec: MSC4143, MSC4195
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any, Protocol

from tinyserver.outgoing.errors import OutgoingError
from tinyserver.protocol import base64, canonical_json
from tinyserver.protocol.errors import Forbidden, Unauthorized, UnknownToken
from tinyserver.protocol.identifiers import domain_of, is_valid_server_name, is_valid_user_id
from tinyserver.rooms.access import room_of_member
from tinyserver.storage.database import Database

LIFETIME_SECONDS = 3600
DEFAULT_SLOT = "m.call#ROOM"
"""The one call of a room, where a client does not say which."""


class OwnTokens(Protocol):
    """Tells whose an OpenID token of this server is."""

    def owner(self, token: str) -> str:
        """The user ID. Raises UnknownToken."""
        ...


class OtherServers(Protocol):
    """Asks other servers whose an OpenID token of theirs is."""

    async def openid_owner(self, server_name: str, token: str) -> str:
        """The user ID. Raises OutgoingError."""
        ...


@dataclass(frozen=True, slots=True)
class LiveKit:
    """A LiveKit server: where clients connect to, and what tokens for it are signed with."""

    url: str
    key: str
    secret: str


@dataclass(frozen=True, slots=True)
class OpenIdToken:
    """What a client shows to prove who its user is."""

    access_token: str
    matrix_server_name: str


@dataclass(frozen=True, slots=True)
class CallMember:
    """Who takes part in a call: with `member_id` as today's proposal says, without it as clients do today."""

    device_id: str
    member_id: str | None = None
    claimed_user_id: str | None = None


class LiveKitTokens:
    """Gives out tokens.

    Args:
        db: who is in which room.
        livekit: the server that they are for.
        server_name: this server, whose users may open calls.
        own: tells whose tokens of this server are.
        others: asks other servers; None: there are none.
    """

    def __init__(
        self, db: Database, livekit: LiveKit, server_name: str, own: OwnTokens, others: OtherServers | None
    ) -> None:
        self._db = db
        self._livekit = livekit
        self._server_name = server_name
        self._own = own
        self._others = others

    async def create(self, room_id: str, slot_id: str, token: OpenIdToken, member: CallMember) -> dict[str, str]:
        """Where to connect to, and the token for it.

        Raises:
            Unauthorized: the OpenID token is not good, or the user is not in the room.
        """
        user_id = await self._user(token)
        if member.claimed_user_id is not None and member.claimed_user_id != user_id:
            raise Unauthorized("The OpenID token is not of the user that the member claims to be")
        try:
            self._db.glance(lambda tx: room_of_member(tx, room_id, user_id))
        except Forbidden as error:
            raise Unauthorized("Only who is in the room can take part in its calls") from error
        if member.member_id is None:
            identity = f"{user_id}:{member.device_id}"
        else:
            identity = pseudonym(user_id, member.device_id, member.member_id)
        room = pseudonym(room_id, slot_id)
        return {"url": self._livekit.url, "jwt": self._signed(identity, room, is_own=self._is_own(user_id))}

    async def _user(self, token: OpenIdToken) -> str:
        server = token.matrix_server_name
        try:
            if server == self._server_name:
                return self._own.owner(token.access_token)
            if self._others is None or not is_valid_server_name(server):
                raise Unauthorized("The OpenID token is of a server that cannot be asked")
            user_id = await self._others.openid_owner(server, token.access_token)
        except (UnknownToken, OutgoingError) as error:
            raise Unauthorized("The OpenID token is not good") from error
        if not is_valid_user_id(user_id) or domain_of(user_id) != server:
            raise Unauthorized("The OpenID token is of somebody whom its server does not know")
        return user_id

    def _is_own(self, user_id: str) -> bool:
        return domain_of(user_id) == self._server_name

    def _signed(self, identity: str, room: str, *, is_own: bool) -> str:
        # Only group calls need it.
        import jwt

        now = int(time.time())
        grants: dict[str, Any] = {"room": room, "roomJoin": True, "canSubscribe": True, "canPublish": True}
        if is_own:
            grants["roomCreate"] = True
        claims = {"iss": self._livekit.key, "sub": identity, "nbf": now - 60, "exp": now + LIFETIME_SECONDS}
        return jwt.encode({**claims, "video": grants}, self._livekit.secret, algorithm="HS256")


def pseudonym(*parts: str) -> str:
    """What the LiveKit server knows a room or a member as: nothing that it could read."""
    return base64.encode(hashlib.sha256(canonical_json.encode(list(parts))).digest())
