"""Templates of member events, by which users of other servers come and go through this one.

spec: server-server-api#joining-rooms, #knocking-upon-a-room, #leaving-rooms-rejecting-invites
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tinyserver.clock import Clock
from tinyserver.federation.serving.rooms import whole_room
from tinyserver.protocol.auth_rules import auth_keys_for
from tinyserver.protocol.errors import Forbidden, IncompatibleRoomVersion, InvalidParam, UnableToAuthoriseJoin
from tinyserver.protocol.events import Event
from tinyserver.protocol.identifiers import domain_of, is_valid_user_id
from tinyserver.rooms.access import membership_of
from tinyserver.rooms.drafts import EventDraft, draft_pdu
from tinyserver.rooms.parents import parents_for
from tinyserver.rooms.restricted import allowed_rooms, authorising_user
from tinyserver.storage import memberships, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

_AUTHORISER = "join_authorised_via_users_server"


@dataclass(frozen=True, slots=True)
class Template:
    """An unsigned member event for another server to complete, in the format of the room version."""

    room_version: str
    event: dict[str, Any]


class Templates:
    """Makes templates.

    Args:
        db: where rooms are stored.
        clock: the time for the events.
        server_name: this server.
    """

    def __init__(self, db: Database, clock: Clock, server_name: str) -> None:
        self._db = db
        self._clock = clock
        self._server_name = server_name

    async def make(
        self, origin: str, room_id: str, user_id: str, membership: str, versions: Collection[str] | None
    ) -> Template:
        """A member event by which a user of another server may get a membership.

        Args:
            origin: that server.
            membership: `join`, `knock` or `leave`.
            versions: the room versions that it knows; None: not asked.

        Raises:
            InvalidParam: that is no user ID.
            Forbidden: not a user of that server, or the room's rules do not allow it.
            NotFound: this server is not in the room.
            IncompatibleRoomVersion, UnableToAuthoriseJoin, UnableToGrantJoin.
        """
        if not is_valid_user_id(user_id):
            raise InvalidParam(f"{user_id[:100]!r} is not a user ID")
        if domain_of(user_id) != origin:
            raise Forbidden(f"{origin} cannot speak for {user_id}")
        now_ms = self._clock.now_ms()

        def step(tx: ReadTransaction) -> Template:
            room = whole_room(tx, room_id, origin)
            if versions is not None and room.version.identifier not in versions:
                raise IncompatibleRoomVersion(room.version.identifier)
            content: dict[str, Any] = {"membership": membership}
            if membership == "join":
                authoriser = vouching_user(tx, room, user_id, self._server_name)
                if authoriser is not None:
                    content[_AUTHORISER] = authoriser
            draft = EventDraft("m.room.member", user_id, content, state_key=user_id)
            return self._template(tx, room, draft, now_ms)

        return await self._db.read(step)

    def _template(self, tx: ReadTransaction, room: RoomRow, draft: EventDraft, now_ms: int) -> Template:
        keys = auth_keys_for(room.version, draft.type, draft.sender, draft.state_key, draft.content)
        parents = parents_for(tx, room, keys)
        pdu = draft_pdu(
            draft,
            room.version,
            self._server_name,
            room_id=room.room_id,
            parents=parents.stored,
            auth_events=parents.auth_events,
            now_ms=now_ms,
        )
        event = Event.from_trusted(pdu, room.version, pdu.get("event_id", "$template"))
        parents.check(event)
        return Template(room.version.identifier, {**pdu, "origin": self._server_name})


def vouching_user(tx: ReadTransaction, room: RoomRow, user_id: str, server_name: str) -> str | None:
    """The user of this server in whose name a user of another one may join a restricted room.

    Returns:
        None where nobody has to vouch: the room is not restricted, or the user is invited or in it, or is banned.

    Raises:
        Forbidden: the user is in none of the rooms that the join rule names.
        UnableToAuthoriseJoin: the user may be in one of them that this server is not in.
        UnableToGrantJoin: nobody here has the power to let people in.

    spec: server-server-api#restricted-rooms
    """
    if membership_of(tx, room, user_id) in (Membership.JOIN, Membership.INVITE, Membership.BAN):
        return None
    try:
        return authorising_user(tx, room, user_id, server_name)
    except Forbidden:
        for room_id in allowed_rooms(tx, room.state):
            other = rooms.find(tx, room_id)
            if other is None or other.is_partial or not memberships.any_local_member(tx, other.nid):
                raise UnableToAuthoriseJoin from None
        raise
