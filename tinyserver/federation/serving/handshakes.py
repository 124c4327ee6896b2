"""Member events that other servers hand in: their users join, knock and leave through this server.

The event is checked, signed by this server where it has to vouch, accepted into the room like any other, and
owed to the room's other servers, which get it from here.

spec: server-server-api#joining-rooms, #knocking-upon-a-room, #leaving-rooms-rejecting-invites
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyserver.federation.serving.pdus import pdu_text
from tinyserver.federation.serving.rooms import whole_room
from tinyserver.federation.serving.state import JoinAnswer, RoomStates
from tinyserver.federation.serving.templates import vouching_user
from tinyserver.protocol.errors import Forbidden, InvalidParam
from tinyserver.protocol.event_hashes import check_content_hash, sign_event
from tinyserver.protocol.events import Event, parse_pdu
from tinyserver.protocol.identifiers import domain_of
from tinyserver.protocol.signing import SignatureError, SigningKey
from tinyserver.rooms.ancestors import MissingAncestors
from tinyserver.rooms.asked_elsewhere import Signatures
from tinyserver.rooms.pipeline import EventPipeline, Outcome
from tinyserver.storage import outgoing, room_state
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import WriteTransaction

_AUTHORISER = "join_authorised_via_users_server"
_NOT_IN_THE_ROOM = Flag.REJECTED | Flag.SOFT_FAILED | Flag.OUTLIER
_KNOCK_STATE = (
    "m.room.create",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    "m.room.encryption",
)


class Handshakes:
    """Accepts the member events of other servers' users.

    Args:
        db: where rooms are stored.
        pipeline: accepts the events.
        signatures: checks those of other servers.
        states: what a server gets that has joined.
        server_name: this server.
        key: signs joins that this server vouches for.
    """

    def __init__(
        self,
        db: Database,
        pipeline: EventPipeline,
        signatures: Signatures,
        states: RoomStates,
        server_name: str,
        key: SigningKey,
    ) -> None:
        self._db = db
        self._pipeline = pipeline
        self._signatures = signatures
        self._states = states
        self._server_name = server_name
        self._key = key

    async def join(
        self, origin: str, room_id: str, event_id: str, pdu: Mapping[str, Any], *, omit_members: bool
    ) -> JoinAnswer:
        """Let a user of another server into a room.

        Args:
            event_id: of the event, as the request names it.
            omit_members: the server is content with a state without members.

        Raises:
            NotFound: this server is not in the room.
            Forbidden: the room's rules do not let the user in.
            InvalidParam, BadJson, TooLarge: it is no such event, or not signed as it must be.
            UnableToAuthoriseJoin, UnableToGrantJoin.
        """
        room = self._db.glance(lambda tx: whole_room(tx, room_id, origin))
        servers = [self._server_name, *await self._states.servers(room.nid)] if omit_members else None
        joined = await self._accept(origin, room, event_id, pdu, "join")
        return await self._states.join_answer(joined, servers)

    async def knock(self, origin: str, room_id: str, event_id: str, pdu: Mapping[str, Any]) -> list[bytes]:
        """Let a user of another server knock.

        Returns:
            What the knocking user may know of the room: PDUs of its state as JSON.

        Raises: as `join` does.
        """
        room = self._db.glance(lambda tx: whole_room(tx, room_id, origin))
        await self._accept(origin, room, event_id, pdu, "knock")
        keys = [(kind, "") for kind in _KNOCK_STATE]
        state = self._db.glance(lambda tx: room_state.events_at(tx, room.state, keys))
        return [pdu_text(state[key].event) for key in keys if key in state]

    async def leave(self, origin: str, room_id: str, event_id: str, pdu: Mapping[str, Any]) -> None:
        """Let a user of another server leave, refuse an invite or take back a knock. Raises as `join` does."""
        room = self._db.glance(lambda tx: whole_room(tx, room_id, origin))
        await self._accept(origin, room, event_id, pdu, "leave")

    async def _accept(
        self, origin: str, room: RoomRow, event_id: str, pdu: Mapping[str, Any], membership: str
    ) -> StoredEvent:
        event = parse_pdu({key: value for key, value in pdu.items() if key != "unsigned"}, room.version)
        _check_member_event(event, origin, room, event_id, membership)
        event = self._countersigned(room, event, origin)
        try:
            await self._signatures.check(event.pdu, room.version)
        except SignatureError as error:
            raise InvalidParam(f"The event is not signed as it must be: {error}") from error
        if not check_content_hash(event.pdu):
            raise InvalidParam("The hash of the event does not fit its content.")

        def step(tx: WriteTransaction) -> StoredEvent:
            whole_room(tx, room.room_id, origin)  # meanwhile everybody may have left, or the other been shut out
            received = self._pipeline.admit(tx, room.nid, event)
            if received.outcome is Outcome.ACCEPTED:
                outgoing.owe(tx, received.stored)
            return received.stored

        try:
            stored = await self._db.write(step)
        except MissingAncestors as error:
            raise InvalidParam("The event refers to events that this server does not know.") from error
        if stored.flags & _NOT_IN_THE_ROOM:
            raise Forbidden("The rules of the room do not allow this.")
        return stored

    def _countersigned(self, room: RoomRow, event: Event, origin: str) -> Event:
        """A join that names a user of this server as the one who lets the user in, with this server's signature.

        Raises:
            Forbidden, UnableToAuthoriseJoin, UnableToGrantJoin: this server does not vouch for the user.
        """
        authoriser = event.content.get(_AUTHORISER)
        if (
            event.membership != "join"
            or not room.version.restricted
            or not isinstance(authoriser, str)
            or domain_of(authoriser) != self._server_name
        ):
            return event
        # As the room is now: who may join is a matter of its state at this moment, and of other rooms.
        self._db.glance(
            lambda tx: vouching_user(tx, whole_room(tx, room.room_id, origin), event.sender, self._server_name)
        )
        return parse_pdu(sign_event(event.pdu, room.version, self._server_name, self._key), room.version)


def _check_member_event(event: Event, origin: str, room: RoomRow, event_id: str, membership: str) -> None:
    """Raises InvalidParam for what is not the event that the request says it is."""
    if event.room_id != room.room_id:
        raise InvalidParam("The event belongs to another room.")
    if event.event_id != event_id:
        raise InvalidParam("The ID of the event is not the one in the path.")
    if event.membership != membership:
        raise InvalidParam(f"The event is no m.room.member event with the membership '{membership}'.")
    if domain_of(event.sender) != origin:
        raise InvalidParam(f"{origin} cannot send events of {event.sender}.")
    if event.state_key != event.sender:
        raise InvalidParam("The state_key of the event must be its sender.")
