"""The first half of joining, knocking and leaving through another server: its template, made into a signed event.

spec: server-server-api#joining-rooms, #knocking-upon-a-room, #leaving-rooms-rejecting-invites
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinyserver.clock import Clock
from tinyserver.federation.client import FederationClient
from tinyserver.outgoing.errors import AnswerMalformed
from tinyserver.protocol import base64
from tinyserver.protocol.canonical_json import CanonicalJsonError
from tinyserver.protocol.errors import BadJson
from tinyserver.protocol.event_hashes import add_content_hash, sign_event
from tinyserver.protocol.events import Event, parse_pdu
from tinyserver.protocol.request_auth import path_of
from tinyserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion, get_room_version
from tinyserver.protocol.signing import SigningKey

MAKE_TIMEOUT = 10.0
"""Seconds for a template."""
_AUTHORISER = "join_authorised_via_users_server"


@dataclass(frozen=True, slots=True)
class Template:
    """What a server in the room proposes: the room's version, and an event without hashes and signatures."""

    version: RoomVersion
    event: Mapping[str, Any]


class MemberRequests:
    """Asks for templates and fills them in.

    Args:
        client: requests to other servers.
        server_name, key: this server.
        clock: the time of the events.
    """

    def __init__(self, client: FederationClient, server_name: str, key: SigningKey, clock: Clock) -> None:
        self._client = client
        self._server_name = server_name
        self._key = key
        self._clock = clock

    async def template(self, server: str, membership: str, room_id: str, user_id: str) -> Template:
        """What a server proposes for a user's `join`, `knock` or `leave`.

        Raises:
            OutgoingError: it proposes nothing.
            UnsupportedRoomVersion: the room is of a version that is not known here.
        """
        path = path_of("_matrix", "federation", "v1", f"make_{membership}", room_id, user_id)
        query = None if membership == "leave" else {"ver": list(ROOM_VERSIONS)}
        answer = await self._client.get(server, path, query=query, timeout=MAKE_TIMEOUT, ignore_backoff=True)
        event, version = answer.get("event"), answer.get("room_version", "1")
        if not isinstance(event, dict) or not isinstance(version, str):
            raise AnswerMalformed(f"{server} gave no event to sign")
        return Template(get_room_version(version), event)

    def fill_in(
        self, template: Template, membership: str, room_id: str, user_id: str, content: Mapping[str, Any]
    ) -> Event:
        """The signed member event of a user of this server.

        Args:
            content: what it says besides the membership.

        Raises:
            AnswerMalformed: the template does not have what it needs.
        """
        proposed, version = template.event, template.version
        said = {**content, "membership": membership}
        given = proposed.get("content")
        if membership == "join" and version.restricted and isinstance(given, dict) and _AUTHORISER in given:
            said[_AUTHORISER] = given[_AUTHORISER]
        pdu: dict[str, Any] = {name: proposed.get(name) for name in ("auth_events", "prev_events", "depth")}
        pdu |= {
            "type": "m.room.member",
            "room_id": room_id,
            "sender": user_id,
            "state_key": user_id,
            "content": said,
            "origin_server_ts": self._clock.now_ms(),
        }
        return self.sign(pdu, version)

    def sign(self, pdu: Mapping[str, Any], version: RoomVersion) -> Event:
        """A member event with hash and signature. Raises AnswerMalformed if it has not the format of its version."""
        whole = dict(pdu)
        if version.event_id_in_pdu:
            whole["event_id"] = f"${base64.encode_urlsafe(secrets.token_bytes(18))}:{self._server_name}"
        try:
            return parse_pdu(sign_event(add_content_hash(whole), version, self._server_name, self._key), version)
        except (BadJson, CanonicalJsonError) as error:
            raise AnswerMalformed(f"what the other server proposes is no event: {error}") from error
