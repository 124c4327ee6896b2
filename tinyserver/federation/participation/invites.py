"""Invites between servers: those that come in for users of this server, and those that users of this server send.

spec: server-server-api#inviting-to-a-room
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinyserver.federation.client import FederationClient
from tinyserver.federation.participation.collector import ManySignatures, checked_events
from tinyserver.federation.participation.errors import error_for_user
from tinyserver.outgoing.errors import HttpError, OutgoingError
from tinyserver.protocol.canonical_json import CanonicalJsonError
from tinyserver.protocol.errors import (
    BadJson,
    Forbidden,
    IncompatibleRoomVersion,
    InvalidParam,
    NotFound,
    TooLarge,
    Unknown,
    UserDeactivated,
)
from tinyserver.protocol.event_hashes import check_content_hash, sign_event
from tinyserver.protocol.events import Event, parse_pdu
from tinyserver.protocol.identifiers import InvalidIdentifier, domain_of, is_valid_user_id
from tinyserver.protocol.request_auth import path_of
from tinyserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from tinyserver.protocol.signing import SigningKey
from tinyserver.rooms.append import EventFollower
from tinyserver.rooms.member_checks import check_not_blocked, check_wants_invites
from tinyserver.rooms.on_demand import NothingOnDemand, OnDemand
from tinyserver.rooms.out_of_band import is_resident, set_out_of_band, with_stripped_state
from tinyserver.rooms.server_acls import allows
from tinyserver.rooms.stripped import stripped_events
from tinyserver.storage import accounts, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

INVITE_TIMEOUT = 15.0
_MAX_STATE_CHECKED = 30


class InboundInvites:
    """Takes invites for users of this server.

    Args:
        db: where they are stored.
        signatures: checks events.
        server_name, key: this server, which signs the invites that it takes.
        followers: who is told of them.
        on_demand: makes users who are asked for.
    """

    def __init__(
        self,
        db: Database,
        signatures: ManySignatures,
        server_name: str,
        key: SigningKey,
        followers: Sequence[EventFollower] = (),
        on_demand: OnDemand | None = None,
    ) -> None:
        self._on_demand = on_demand or NothingOnDemand()
        self._followers = followers
        self._db = db
        self._signatures = signatures
        self._server_name = server_name
        self._key = key

    async def receive(
        self, origin: str, room_id: str, event_id: str, room_version: str, pdu: Mapping[str, Any], state: object
    ) -> dict[str, Any]:
        """Take an invite.

        Args:
            state: the `invite_room_state` that came with it.

        Returns:
            The event with the signature of this server.

        Raises:
            IncompatibleRoomVersion: the room is of a version that is not known here.
            InvalidParam, BadJson, TooLarge: it is no invite for a user of this server by one of the origin.
            Forbidden: it is not signed as it must be, the room is blocked here, or it shuts the origin out.
            NotFound, InviteBlocked: the user does not exist, or wants no invites.
        """
        version = ROOM_VERSIONS.get(room_version)
        if version is None:
            raise IncompatibleRoomVersion(room_version)
        event = self._parse(origin, room_id, event_id, version, pdu)
        (error,) = await self._signatures.check_many([event.pdu], version)
        if error is not None:
            raise Forbidden(f"The invite is not signed as it must be: {error}")
        if version.room_id_is_create_hash:
            await self._check_state(room_id, version, state)
        signed = sign_event(event.pdu, version, self._server_name, self._key)
        kept = with_stripped_state(parse_pdu(signed, version), "invite_room_state", state)

        await self._on_demand.user(event.state_key or "")

        def step(tx: WriteTransaction) -> None:
            assert event.state_key is not None
            check_not_blocked(tx, room_id)
            self._check_user(tx, event.state_key)
            room = rooms.find(tx, room_id)
            if room is None or not is_resident(tx, room):
                set_out_of_band(tx, kept, self._followers)
            elif not allows(tx, room, origin):  # else it comes the way of all events
                raise Forbidden(f"{origin} is shut out of the room {room_id} by its access control list")

        await self._db.write(step)
        return signed

    def _parse(self, origin: str, room_id: str, event_id: str, version: RoomVersion, pdu: Mapping[str, Any]) -> Event:
        event = parse_pdu({key: value for key, value in pdu.items() if key != "unsigned"}, version)
        if event.room_id != room_id or event.event_id != event_id:
            raise InvalidParam("The event is not the one that the path names")
        if event.membership != "invite" or event.state_key is None:
            raise InvalidParam("The event is no invite")
        if not is_valid_user_id(event.state_key) or domain_of(event.state_key) != self._server_name:
            raise InvalidParam("The invite is for no user of this server")
        if domain_of(event.sender) != origin and "third_party_invite" not in event.content:
            raise InvalidParam("The sender of the invite is not on the server that sends it")
        if not check_content_hash(event.pdu):
            raise InvalidParam("The hash of the event does not match its content")
        return event

    async def _check_state(self, room_id: str, version: RoomVersion, state: object) -> None:
        """The state that says what room it is must be proven: it holds the create event that the room ID names."""
        listed = state if isinstance(state, list) else []
        found = await checked_events(self._signatures, room_id, version, listed[:_MAX_STATE_CHECKED])
        if len(found) < len(listed) or not any(event.event_id[1:] == room_id[1:] for event in found):
            raise InvalidParam("invite_room_state must consist of signed events of the room, with its create event")

    def _check_user(self, tx: ReadTransaction, user_id: str) -> None:
        account = accounts.find(tx, user_id)
        if account is None:
            raise NotFound(f"There is no user {user_id}")
        if account.is_deactivated:
            raise UserDeactivated(f"The account of {user_id} is closed")
        check_wants_invites(tx, user_id)


class OutboundInvites:
    """Has invites of users of other servers signed by these (the `RemoteInvites` of rooms).

    Args:
        db: where rooms are stored.
        client: requests to other servers.
        signatures: checks what comes back.
    """

    def __init__(self, db: Database, client: FederationClient, signatures: ManySignatures) -> None:
        self._db = db
        self._client = client
        self._signatures = signatures

    async def offer(self, invite: Event) -> Event:
        """Offer an invite to the server of the user. Returns the event with that server's signature.

        Raises:
            Forbidden, InviteBlocked, ...: the server's words.
            Unknown: it cannot be reached (502).
        """
        assert invite.state_key is not None
        server = domain_of(invite.state_key)
        state = self._db.glance(lambda tx: _state_for_invite(tx, invite))
        try:
            answered = await self._send(server, invite, state)
        except OutgoingError as error:
            raise error_for_user(error, server) from error
        try:
            event = parse_pdu(answered, invite.version)
        except (BadJson, TooLarge, CanonicalJsonError, InvalidIdentifier) as error:
            raise Unknown(f"{server} answered with something that is no event", status=502) from error
        if event.event_id != invite.event_id:
            raise Unknown(f"{server} changed the invite", status=502)
        # Only signatures are taken over; everything else is as it was made here.
        signatures = {**event.pdu["signatures"], **invite.pdu["signatures"]}
        return Event.from_trusted({**invite.pdu, "signatures": signatures}, invite.version, invite.event_id)

    async def _send(self, server: str, invite: Event, state: list[dict[str, Any]]) -> Any:
        content = {"room_version": invite.version.identifier, "event": invite.pdu, "invite_room_state": state}
        path = path_of("_matrix", "federation", "v2", "invite", invite.room_id, invite.event_id)
        try:
            answer = await self._client.put(server, path, content, timeout=INVITE_TIMEOUT, ignore_backoff=True)
        except HttpError as error:
            unknown = error.status in (400, 404, 405) and error.errcode in (None, "M_UNRECOGNIZED")
            if not unknown or not invite.version.event_id_in_pdu:
                raise
        else:
            return answer.get("event")
        path = path_of("_matrix", "federation", "v1", "invite", invite.room_id, invite.event_id)
        pdu = {**invite.pdu, "unsigned": {"invite_room_state": state}}
        answered = await self._client.send("PUT", server, path, content=pdu, timeout=INVITE_TIMEOUT)
        found = answered.content
        return (
            found[1].get("event")
            if isinstance(found, list) and len(found) == 2 and isinstance(found[1], dict)
            else None
        )


def _state_for_invite(tx: ReadTransaction, invite: Event) -> list[dict[str, Any]]:
    """The events that help the invited user to identify the room, as PDUs."""
    room = rooms.find(tx, invite.room_id)
    return [] if room is None else [stored.event.pdu for stored in stripped_events(tx, room.state, invite.sender)]
