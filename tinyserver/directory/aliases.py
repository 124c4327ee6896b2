"""Room aliases: names for rooms that people can type.

spec: client-server-api#room-aliases
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tinyserver.accounts.requester import Requester
from tinyserver.directory.permission import may_set_aliases
from tinyserver.protocol.errors import Forbidden, InvalidParam, NotFound, Unknown
from tinyserver.protocol.identifiers import InvalidIdentifier, domain_of, parse_room_alias
from tinyserver.rooms.access import known_room, membership_of
from tinyserver.rooms.creation import AliasReservations
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.on_demand import NothingOnDemand, OnDemand
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.rooms.visibility import is_world_readable
from tinyserver.storage import memberships, names, room_state, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_MEMBERS_LOOKED_AT = 500
"""Among how many members servers that know a room are looked for."""
_MAX_SERVERS = 20


@dataclass(frozen=True, slots=True)
class ResolvedAlias:
    """Where an alias points to, and servers that know the room."""

    room_id: str
    servers: list[str]


class RemoteAliases(Protocol):
    """Aliases of other servers (implemented by federation)."""

    async def resolve_alias(self, alias: str) -> tuple[str, list[str]]:
        """(room ID, servers in the room) of another server's alias; raises NotFound."""


class Aliases:
    """The aliases of this server.

    Args:
        db: where they are stored.
        pipeline: sends the event by which a room forgets an alias.
        server_name: this server.
        reservations: who lays claim to aliases.
        remote: other servers' aliases, or None without federation.
        on_demand: makes aliases that are asked for.
    """

    def __init__(
        self,
        db: Database,
        pipeline: EventPipeline,
        server_name: str,
        reservations: AliasReservations,
        remote: RemoteAliases | None = None,
        on_demand: OnDemand | None = None,
    ) -> None:
        self._on_demand = on_demand or NothingOnDemand()
        self._db = db
        self._pipeline = pipeline
        self._server_name = server_name
        self._reservations = reservations
        self._remote = remote

    async def resolve(self, alias: str) -> ResolvedAlias:
        """Where an alias points to.

        Raises:
            InvalidParam: that is no alias.
            NotFound: there is no such alias.
        """
        _check(alias)
        if domain_of(alias) != self._server_name:
            if self._remote is None:
                raise _not_found(alias)
            return ResolvedAlias(*await self._remote.resolve_alias(alias))

        def step(tx: ReadTransaction) -> ResolvedAlias | None:
            found = rooms.of_alias(tx, alias)
            if found is None:
                return None
            room = rooms.get(tx, found[0])
            return ResolvedAlias(room.room_id, self._servers(tx, room))

        found = self._db.glance(step)
        if found is None and await self._on_demand.alias(alias):
            found = self._db.glance(step)
        if found is None:
            raise _not_found(alias)
        return found

    async def add(self, requester: Requester, alias: str, room_id: str) -> None:
        """Point a new alias of this server to a room.

        Raises:
            InvalidParam: that is no alias, or not one of this server; or no room ID.
            Forbidden: the user is not in the room.
            NotFound: this server does not know the room.
            Unknown: the alias exists already (status 409).
            Exclusive: it is an application service's.
        """
        _check(alias)
        if domain_of(alias) != self._server_name:
            raise InvalidParam(f"Aliases made here end in :{self._server_name}")
        if alias.startswith("#:"):
            raise InvalidParam("An alias needs something between the # and the colon")
        self._reservations.check_alias(alias, requester.appservice)

        def step(tx: WriteTransaction) -> None:
            room = known_room(tx, room_id)
            if not requester.is_admin and membership_of(tx, room, requester.user_id) is not Membership.JOIN:
                raise Forbidden("You must be in a room to give it an alias")
            if rooms.of_alias(tx, alias) is not None:
                raise Unknown(f"The room alias {alias} already exists", status=409)
            rooms.set_alias(tx, alias, room.nid, requester.user_nid)

        await self._db.write(step)

    async def remove(self, requester: Requester, alias: str) -> None:
        """Take an alias away; the room's main addresses follow if the user has the power to change them.

        Raises:
            InvalidParam: that is no alias.
            NotFound: there is no such alias here.
            Forbidden: the user has neither made it, nor the power to change the room's main address, nor is an
                administrator.
            Exclusive: it is an application service's.
        """
        _check(alias)
        self._reservations.check_alias(alias, requester.appservice)

        def step(tx: WriteTransaction) -> None:
            found = rooms.of_alias(tx, alias)
            if found is None:
                raise _not_found(alias)
            room = rooms.get(tx, found[0])
            powerful = may_set_aliases(tx, room, requester.user_id)
            if found[1] != requester.user_nid and not requester.is_admin and not powerful:
                raise Forbidden("You have not made this alias, and lack the power to change the room's main address")
            rooms.remove_alias(tx, alias)
            if powerful:
                self._forget_main_address(tx, room, requester.user_id, alias)

        await self._db.write(step)

    async def of_room(self, requester: Requester, room_id: str) -> list[str]:
        """This server's aliases of a room.

        Raises:
            InvalidParam: that is no room ID.
            NotFound: this server does not know the room.
            Forbidden: the user is not in the room, and it is not world-readable.
        """

        def step(tx: ReadTransaction) -> list[str]:
            room = known_room(tx, room_id)
            if (
                not requester.is_admin
                and membership_of(tx, room, requester.user_id) is not Membership.JOIN
                and not is_world_readable(tx, room.state)
            ):
                raise Forbidden("You are not in this room")
            return rooms.aliases(tx, room.nid)

        return self._db.glance(step)

    def _forget_main_address(self, tx: WriteTransaction, room: RoomRow, user_id: str, alias: str) -> None:
        content = dict(room_state.content_at(tx, room.state, "m.room.canonical_alias"))
        alternatives = content.get("alt_aliases")
        listed = isinstance(alternatives, list) and alias in alternatives
        if content.get("alias") != alias and not listed:
            return
        if content.get("alias") == alias:
            del content["alias"]
        if isinstance(alternatives, list) and listed:
            content["alt_aliases"] = [other for other in alternatives if other != alias]
        self._pipeline.send(tx, room.nid, EventDraft("m.room.canonical_alias", user_id, content, state_key=""))

    def _servers(self, tx: ReadTransaction, room: RoomRow) -> list[str]:
        servers = {self._server_name: None}
        for user, _ in memberships.members(tx, room.nid, Membership.JOIN, _MEMBERS_LOOKED_AT):
            servers[domain_of(names.text(tx, user))] = None
            if len(servers) == _MAX_SERVERS:
                break
        return list(servers)


def _check(alias: str) -> None:
    try:
        parse_room_alias(alias)
    except InvalidIdentifier as error:
        raise InvalidParam(f"{alias[:100]!r} is not a room alias: {error}") from error


def _not_found(alias: str) -> NotFound:
    return NotFound(f"There is no room alias {alias}")
