"""Making rooms: all events of a new room in one step, hence one commit."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tinyserver.protocol.auth_rules import AuthError
from tinyserver.protocol.errors import (
    BadJson,
    Forbidden,
    InvalidParam,
    InvalidRoomState,
    MatrixError,
    RoomInUse,
    TooLarge,
)
from tinyserver.protocol.identifiers import is_valid_room_alias
from tinyserver.protocol.room_versions import RoomVersion, get_room_version
from tinyserver.rooms.access import check_user_id
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.member_events import member_draft
from tinyserver.rooms.membership import RoomMembership
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.rooms.third_party_invitees import Invitee, ThirdPartyInviter
from tinyserver.storage import names, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import WriteTransaction

_ROOM_ID_BYTES = 18
log = logging.getLogger(__name__)

_MAX_INVITES, _MAX_BY_ADDRESS = 500, 50
_MAX_INITIAL_STATE = 200

_PRESETS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "private_chat": {
        "m.room.join_rules": {"join_rule": "invite"},
        "m.room.history_visibility": {"history_visibility": "shared"},
        "m.room.guest_access": {"guest_access": "can_join"},
    },
    "trusted_private_chat": {
        "m.room.join_rules": {"join_rule": "invite"},
        "m.room.history_visibility": {"history_visibility": "shared"},
        "m.room.guest_access": {"guest_access": "can_join"},
    },
    "public_chat": {
        "m.room.join_rules": {"join_rule": "public"},
        "m.room.history_visibility": {"history_visibility": "shared"},
        "m.room.guest_access": {"guest_access": "forbidden"},
    },
}


@dataclass(frozen=True, slots=True)
class InitialState:
    """A state event that the creator wants in the room from the start."""

    type: str
    content: dict[str, Any]
    state_key: str = ""


@dataclass(frozen=True, slots=True)
class RoomRequest:
    """What the creator of a room asks for; the fields are those of `POST /createRoom`."""

    creator: str
    preset: str
    is_public: bool = False
    room_version: str | None = None
    alias_localpart: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: list[str] = field(default_factory=list)
    third_party_invites: list[Invitee] = field(default_factory=list)
    creation_content: dict[str, Any] = field(default_factory=dict)
    initial_state: list[InitialState] = field(default_factory=list)
    is_direct: bool = False
    power_level_content_override: dict[str, Any] = field(default_factory=dict)
    appservice: str | None = None
    """The application service that makes the room, if one does."""


class AliasReservations(Protocol):
    """Who lays claim to aliases (implemented by application services)."""

    def check_alias(self, alias: str, service_id: str | None) -> None:
        """See that an alias may be made or removed by an application service, or (None) by anybody else.

        Raises:
            Exclusive.
        """


class RoomCreation:
    """Creates rooms.

    Args:
        db: where rooms are stored.
        pipeline: makes their events.
        membership: invites people.
        reservations: who lays claim to aliases.
        server_name: this server.
        default_version: the room version for those who do not ask for one.
        by_address: invites people by mail address.
    """

    def __init__(
        self,
        db: Database,
        pipeline: EventPipeline,
        membership: RoomMembership,
        reservations: AliasReservations,
        server_name: str,
        default_version: str,
        by_address: ThirdPartyInviter,
    ) -> None:
        self._db = db
        self._pipeline = pipeline
        self._membership = membership
        self._reservations = reservations
        self._server_name = server_name
        self._default_version = default_version
        self._by_address = by_address

    async def create(
        self, request: RoomRequest, then: Callable[[WriteTransaction, RoomRow], None] | None = None
    ) -> str:
        """Make a room and invite people to it.

        Args:
            then: what else is to be stored with the room, in the same commit.

        Returns:
            The room ID.

        Raises:
            UnsupportedRoomVersion: there is no such room version.
            RoomInUse: the alias is taken.
            Exclusive: the alias is an application service's.
            InvalidRoomState: the events asked for cannot be sent in their order.
            Forbidden, InviteBlocked: somebody cannot be invited; nothing is made then.
            InvalidParam, BadJson, TooLarge: something asked for is malformed.

        spec: client-server-api#creation
        """
        version = get_room_version(self._default_version if request.room_version is None else request.room_version)
        alias = self._alias(request)
        invitees = _invitees(request)
        for invitee in request.third_party_invites:
            self._by_address.check(invitee)
        if len(request.initial_state) > _MAX_INITIAL_STATE:
            raise InvalidParam(f"At most {_MAX_INITIAL_STATE} events are possible in initial_state")

        await self._membership.look_for(invitees)

        def step(tx: WriteTransaction) -> str:
            room = self._begin(tx, version, request, invitees)
            if alias is not None:
                if rooms.of_alias(tx, alias) is not None:
                    raise RoomInUse(f"The alias {alias} is taken")
                rooms.set_alias(tx, alias, room.nid, names.intern(tx, request.creator))
            for draft in self._drafts(request, alias):
                if draft.type == "m.room.member":
                    if self._membership.is_elsewhere(draft.state_key or ""):
                        raise Forbidden("Users of other servers are invited by `invite`, not by initial_state")
                    draft = self._membership.checks.checked(tx, rooms.get(tx, room.nid), draft)
                self._send(tx, room, draft)
            for user_id in invitees:
                self._membership.checks.check_invite(tx, room, user_id)
                if self._membership.is_elsewhere(user_id):
                    continue  # invited as soon as there is a room
                invite = member_draft(
                    tx,
                    sender=request.creator,
                    target=user_id,
                    membership="invite",
                    with_profile=True,
                    is_direct=request.is_direct or None,
                )
                self._send(tx, room, invite)
            if request.is_public:
                rooms.set_public(tx, room.nid, True)
            if then is not None:
                then(tx, rooms.get(tx, room.nid))
            return room.room_id

        room_id = await self._db.write(step)
        await self._invite_elsewhere(room_id, request, invitees)
        return room_id

    async def _invite_elsewhere(self, room_id: str, request: RoomRequest, invitees: list[str]) -> None:
        """Invite those for whom other servers have to be asked. The room is there, whatever these say."""
        elsewhere = filter(self._membership.is_elsewhere, invitees)
        results = await asyncio.gather(
            *(
                self._membership.invite(request.creator, room_id, user_id, is_direct=request.is_direct)
                for user_id in elsewhere
            ),
            *(
                self._by_address.invite(request.creator, room_id, invitee, is_direct=request.is_direct)
                for invitee in request.third_party_invites
            ),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, MatrixError):
                log.info("somebody could not be invited to a new room: %s", result.message)
            elif isinstance(result, BaseException):
                raise result

    def new_room_id(self, version: RoomVersion) -> str | None:
        """An ID for a new room, or None where the room version takes it from the create event."""
        if version.room_id_is_create_hash:
            return None
        return f"!{secrets.token_urlsafe(_ROOM_ID_BYTES)}:{self._server_name}"

    def begin(
        self,
        tx: WriteTransaction,
        version: RoomVersion,
        creator: str,
        content: Mapping[str, Any],
        room_id: str | None,
        created_ts: int | None = None,
    ) -> RoomRow:
        """Make a room of two events: the create event and its creator's join.

        Args:
            content: of the create event; the keys that belong to the server are set here.
            room_id: from `new_room_id`.
            created_ts: the time of the create event, ms since 1970; None: now.

        Raises:
            InvalidRoomState, BadJson, TooLarge: the content is refused.
        """
        content = {**content, "room_version": version.identifier}
        content.pop("creator", None)
        if version.creator_in_content:
            content["creator"] = creator
        draft = EventDraft("m.room.create", creator, content, state_key="", origin_server_ts=created_ts)
        try:
            room = self._pipeline.create_room(tx, version, draft, room_id)
        except AuthError as error:
            raise InvalidRoomState(f"The room cannot be made like this: {error.message}") from error
        join = member_draft(tx, sender=creator, target=creator, membership="join", with_profile=True)
        self._send(tx, room, join)
        return room

    def _begin(self, tx: WriteTransaction, version: RoomVersion, request: RoomRequest, invitees: list[str]) -> RoomRow:
        content = dict(request.creation_content)
        trusted = request.preset == "trusted_private_chat"
        if version.privileged_creators and trusted and invitees:
            named = content.get("additional_creators", [])
            if not isinstance(named, list):
                raise BadJson("additional_creators must be a list of user IDs")
            content["additional_creators"] = [*named, *(user for user in invitees if user not in named)]
        room = self.begin(tx, version, request.creator, content, self.new_room_id(version))
        levels = default_power_levels(version, request.creator, invitees if trusted else [])
        levels.update(request.power_level_content_override)
        self._send(tx, room, EventDraft("m.room.power_levels", request.creator, levels, state_key=""))
        return room

    def _drafts(self, request: RoomRequest, alias: str | None) -> list[EventDraft]:
        """The state events after the power levels, in the order of the specification."""
        creator = request.creator
        given = {(state.type, state.state_key) for state in request.initial_state}
        implied: dict[str, dict[str, Any]] = {}
        if request.name is not None:
            implied["m.room.name"] = {"name": request.name}
        if request.topic is not None:
            implied["m.room.topic"] = {"topic": request.topic, "m.topic": {"m.text": [{"body": request.topic}]}}
        drafts = []
        if alias is not None:
            drafts.append(EventDraft("m.room.canonical_alias", creator, {"alias": alias}, state_key=""))
        for event_type, content in _PRESETS[request.preset].items():
            if (event_type, "") not in given:
                drafts.append(EventDraft(event_type, creator, content, state_key=""))
        for state in request.initial_state:
            if not (state.type in implied and state.state_key == ""):
                drafts.append(EventDraft(state.type, creator, state.content, state_key=state.state_key))
        drafts += [EventDraft(event_type, creator, content, state_key="") for event_type, content in implied.items()]
        return drafts

    def _send(self, tx: WriteTransaction, room: RoomRow, draft: EventDraft) -> None:
        try:
            self._pipeline.send(tx, room.nid, draft)
        except AuthError as error:
            raise InvalidRoomState(f"The {draft.type} event cannot be sent: {error.message}") from error

    def _alias(self, request: RoomRequest) -> str | None:
        localpart = request.alias_localpart
        if localpart is None:
            return None
        alias = f"#{localpart}:{self._server_name}"
        if not localpart or ":" in localpart or not is_valid_room_alias(alias):
            raise InvalidParam(f"{localpart[:100]!r} cannot be the local part of a room alias on this server")
        self._reservations.check_alias(alias, request.appservice)
        return alias


def default_power_levels(version: RoomVersion, creator: str, trusted: list[str]) -> dict[str, Any]:
    """The power levels of a new room.

    Args:
        trusted: those who get the same power as the creator (in versions that name creators in the create event,
            they stand there).

    spec: client-server-api#creation (step 3)
    """
    users = {} if version.privileged_creators else dict.fromkeys((creator, *trusted), 100)
    return {
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.tombstone": 150 if version.privileged_creators else 100,
            "m.room.server_acl": 100,
            "m.room.encryption": 100,
            # Everybody may take part in calls: MatrixRTC members announce themselves by state.
            "org.matrix.msc3401.call.member": 0,
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 0,
        "historical": 100,
    }


def _invitees(request: RoomRequest) -> list[str]:
    if len(request.invite) > _MAX_INVITES or len(request.third_party_invites) > _MAX_BY_ADDRESS:
        raise TooLarge(f"At most {_MAX_INVITES} people can be invited at once; invite the others afterwards")
    unique = dict.fromkeys(check_user_id(user_id) for user_id in request.invite)
    unique.pop(request.creator, None)
    return list(unique)
