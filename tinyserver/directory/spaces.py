"""Walking through a space, and summing up one room, for a user: rooms of this server and, through others, theirs.

A token of a walk says how many rooms were shown before: the walk begins anew with every page and passes over them. So
nothing is kept for it, and other servers' answers come from what is remembered of them for a while.

spec: client-server-api#spaces, client-server-api#get_matrixclientv1room_summaryroomidoralias
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tinyserver.accounts.requester import Requester
from tinyserver.directory.aliases import Aliases
from tinyserver.directory.descriptions import describe
from tinyserver.directory.space_children import (
    MAX_CHILDREN,
    child_state,
    children,
    resident_room,
    servers_of,
    summary,
)
from tinyserver.protocol.errors import Forbidden, InvalidParam, NotFound
from tinyserver.protocol.identifiers import domain_of, is_valid_room_id, is_valid_server_name
from tinyserver.rooms.access import membership_of
from tinyserver.rooms.out_of_band import member_event_of
from tinyserver.rooms.restricted import allowed_rooms, is_restricted
from tinyserver.storage import rooms
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

MAX_ROOMS = 50
"""How many rooms a page has at most, and unless the client wants fewer."""
MAX_DEPTH = 10
"""How deep a walk goes at most, and unless the client wants less."""
MAX_WALKED = 2000
"""How many rooms one walk looks at."""
REMOTE_SECONDS = 20.0
"""How long the other servers of one request are waited for altogether; what they know is left out then."""
SERVERS_ASKED = 3
"""How many servers are asked for one room."""
_TOKEN = re.compile(r"h(\d{1,6})-(\d{1,3})-([01])", re.ASCII)
_KNOCKABLE = ("knock", "knock_restricted")
_OPEN = ("public", *_KNOCKABLE)
_INSIDE = (Membership.JOIN, Membership.INVITE)


@dataclass(frozen=True, slots=True)
class RemoteSpace:
    """What another server tells of a room and of its children, its shape checked."""

    room: dict[str, Any]
    children: Sequence[dict[str, Any]]
    inaccessible: frozenset[str]


class RemoteSpaces(Protocol):
    """Spaces of other servers (implemented by federation)."""

    async def ask(self, server: str, room_id: str, *, suggested_only: bool) -> RemoteSpace | None:
        """What a server tells of a room; None when it does not tell, or cannot be asked."""


@dataclass(frozen=True, slots=True)
class SpacePage:
    """Rooms of a space as `SpaceHierarchyRoomsChunk`s, and the token for those after them, if any."""

    rooms: list[dict[str, Any]]
    next: str | None


@dataclass(frozen=True, slots=True)
class HierarchyRequest:
    """What a client asks of a space."""

    suggested_only: bool = False
    limit: int | None = None
    max_depth: int | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class _Stop:
    """A room that is still to be visited: how to get there, and what is known of it from its parent's server."""

    room_id: str
    via: tuple[str, ...]
    depth: int
    told: dict[str, Any] | None = None


@dataclass(slots=True)
class _Walk:
    """One walk: for whom, which children, and how long it may wait for others (monotonic seconds)."""

    user_id: str
    suggested_only: bool
    deadline: float
    unknown: set[str] = field(default_factory=set)
    """Rooms of which a server has said that this one may not see them."""


class Spaces:
    """Looks at spaces and rooms for the users of this server.

    Args:
        db: where rooms are stored.
        aliases: find rooms by their aliases.
        server_name: this server.
        monotonic: seconds of a clock that only runs forward.
        remote: other servers' spaces, or None without federation.
    """

    def __init__(
        self,
        db: Database,
        aliases: Aliases,
        server_name: str,
        monotonic: Callable[[], float],
        remote: RemoteSpaces | None = None,
    ) -> None:
        self._db = db
        self._aliases = aliases
        self._server_name = server_name
        self._monotonic = monotonic
        self._remote = remote

    async def hierarchy(self, requester: Requester, room_id: str, request: HierarchyRequest) -> SpacePage:
        """A page of the rooms under a space, parents before their children, each room once.

        Raises:
            InvalidParam: that is no room ID, or the limit, the depth or the token is wrong.
            Forbidden: the user may not see the space (whether or not it exists is nobody's business).
        """
        if not is_valid_room_id(room_id):
            raise InvalidParam(f"{room_id[:100]!r} is not a room ID")
        if request.limit is not None and request.limit < 1:
            raise InvalidParam("The limit must be greater than zero.")
        if request.max_depth is not None and request.max_depth < 0:
            raise InvalidParam("The depth must not be negative.")
        limit = min(request.limit or MAX_ROOMS, MAX_ROOMS)
        depth = MAX_DEPTH if request.max_depth is None else min(request.max_depth, MAX_DEPTH)
        passed = _passed(request, depth)
        walk = _Walk(requester.user_id, request.suggested_only, self._monotonic() + REMOTE_SECONDS)
        stops = [_Stop(room_id, self._first_servers(room_id, requester.user_id), 0)]
        seen: set[str] = set()
        found: list[dict[str, Any]] = []
        shown = 0
        while stops and len(seen) < MAX_WALKED:
            stop = stops.pop()
            if stop.room_id in seen:
                continue
            seen.add(stop.room_id)
            visited = await self._visit(walk, stop, depth)
            if visited is None:
                if stop.depth == 0:
                    raise Forbidden(f"You may not see the room {room_id}, or nobody knows it")
                continue
            if len(found) == limit:
                return SpacePage(found, f"h{shown}-{depth}-{int(request.suggested_only)}")
            entry, following = visited
            shown += 1
            if shown > passed:
                found.append(entry)
            stops.extend(reversed(following))
        return SpacePage(found, None)

    async def summary(self, requester: Requester | None, name: str, via: Sequence[str]) -> dict[str, Any]:
        """What one may know of a room before being in it.

        Args:
            requester: None: somebody who is not signed in, and gets nothing that others would have to be asked for.
            name: the room's ID or alias.
            via: servers to ask.

        Raises:
            InvalidParam: that is neither, or one of the servers is none.
            NotFound: nobody knows the room, or it is none of the user's business.

        spec: client-server-api#get_matrixclientv1room_summaryroomidoralias
        """
        for server in via:
            if not is_valid_server_name(server):
                raise InvalidParam(f"{server[:100]!r} is not a server name")
        room_id, servers = name, [*via]
        if name.startswith("#"):
            if requester is None and domain_of(name) != self._server_name:
                raise _no_room(name)
            resolved = await self._aliases.resolve(name)
            room_id, servers = resolved.room_id, [*via, *resolved.servers]
        elif not is_valid_room_id(name):
            raise InvalidParam(f"{name[:100]!r} is neither a room ID nor a room alias")
        user_id = None if requester is None else requester.user_id

        def step(tx: ReadTransaction) -> tuple[dict[str, Any] | None, Membership | None]:
            row = rooms.find(tx, room_id)
            membership = None if row is None or user_id is None else membership_of(tx, row, user_id)
            room = resident_room(tx, room_id)
            if room is None:
                return None, membership
            if not _may_see(tx, room, user_id):
                raise _no_room(name)
            return summary(tx, room), membership

        told, membership = await self._db.read(step)
        if told is None and user_id is not None:
            walk = _Walk(user_id, True, self._monotonic() + REMOTE_SECONDS)
            space = await self._ask(walk, room_id, (*servers, *self._first_servers(room_id, user_id)))
            if space is not None and await self._may_see_told(space.room, user_id):
                told = {key: value for key, value in space.room.items() if key != "children_state"}
        if told is None:
            raise _no_room(name)
        return told if membership is None else {**told, "membership": membership.name.lower()}

    # -- one room of a walk ----------------------------------------------------------------------

    async def _visit(self, walk: _Walk, stop: _Stop, max_depth: int) -> tuple[dict[str, Any], list[_Stop]] | None:
        """A room as the user gets it, and what is to be visited after it; None: it is not to be shown."""
        goes_on = stop.depth < max_depth

        def step(tx: ReadTransaction) -> tuple[bool, tuple[dict[str, Any], list[_Stop]] | None]:
            room = resident_room(tx, stop.room_id)
            if room is None:
                return False, None
            if not _may_see(tx, room, walk.user_id):
                return True, None
            named = children(tx, room, suggested_only=walk.suggested_only)
            entry = {**summary(tx, room), "children_state": [child_state(child) for child in named]}
            following = [_stop(child.event.state_key or "", child.event.content, stop.depth + 1) for child in named]
            return True, (entry, following if goes_on else [])

        is_here, visited = await self._db.read(step)
        return visited if is_here else await self._visit_elsewhere(walk, stop, goes_on=goes_on)

    async def _visit_elsewhere(
        self, walk: _Walk, stop: _Stop, *, goes_on: bool
    ) -> tuple[dict[str, Any], list[_Stop]] | None:
        if stop.room_id in walk.unknown:
            return None
        told = stop.told
        if told is not None and told.get("room_type") != "m.space":
            visited: tuple[dict[str, Any], list[_Stop]] = ({**told, "children_state": []}, [])
        else:
            space = await self._ask(walk, stop.room_id, stop.via)
            if space is None:
                return None
            walk.unknown |= space.inaccessible
            visited = (space.room, _following(space, stop.depth + 1) if goes_on else [])
        return visited if await self._may_see_told(visited[0], walk.user_id) else None

    async def _ask(self, walk: _Walk, room_id: str, via: Sequence[str]) -> RemoteSpace | None:
        """What one of the servers tells of a room, within the time that is left."""
        others = [server for server in dict.fromkeys(via) if server != self._server_name]
        if self._remote is None:
            return None
        for server in others[:SERVERS_ASKED]:
            left = walk.deadline - self._monotonic()
            if left <= 0:
                return None
            try:
                async with asyncio.timeout(left):
                    space = await self._remote.ask(server, room_id, suggested_only=walk.suggested_only)
            except TimeoutError:
                return None
            if space is not None:
                return space
        return None

    async def _may_see_told(self, room: dict[str, Any], user_id: str) -> bool:
        """Whether what another server tells this one is for a certain user of it."""
        if room["world_readable"] or room.get("join_rule", "public") in _OPEN:
            return True

        def step(tx: ReadTransaction) -> bool:
            row = rooms.find(tx, room["room_id"])
            if row is not None and membership_of(tx, row, user_id) in _INSIDE:
                return True
            return any(_is_in(tx, allowed, user_id) for allowed in room.get("allowed_room_ids", ()))

        return await self._db.read(step)

    def _first_servers(self, room_id: str, user_id: str) -> tuple[str, ...]:
        """Who may know a room that nobody has named a server for: the one in its ID, and who has invited the user."""

        def step(tx: ReadTransaction) -> str:
            room = rooms.find(tx, room_id)
            member = None if room is None else member_event_of(tx, room, user_id)
            return "" if member is None else domain_of(member.sender)

        servers = (room_id.partition(":")[2], self._db.glance(step))
        return tuple(server for server in servers if is_valid_server_name(server))


def _passed(request: HierarchyRequest, depth: int) -> int:
    """How many rooms were shown on the pages before."""
    if request.token is None:
        return 0
    found = _TOKEN.fullmatch(request.token)
    if found is None:
        raise InvalidParam("The value of 'from' is not a token that this server gave out.")
    if (int(found[2]), found[3] == "1") != (depth, request.suggested_only):
        raise InvalidParam("'max_depth' and 'suggested_only' must stay what they were for the first page.")
    return int(found[1])


def _stop(room_id: str, content: dict[str, Any], depth: int, told: dict[str, Any] | None = None) -> _Stop:
    return _Stop(room_id, tuple(servers_of(content)[:SERVERS_ASKED]), depth, told)


def _following(space: RemoteSpace, depth: int) -> list[_Stop]:
    """The children that another server names, with what it tells of them."""
    told = {child["room_id"]: child for child in space.children}
    return [
        _stop(child["state_key"], child["content"], depth, told.get(child["state_key"]))
        for child in space.room["children_state"][:MAX_CHILDREN]
    ]


def _may_see(tx: ReadTransaction, room: RoomRow, user_id: str | None) -> bool:
    """Whether somebody (None: who is not signed in) is in a room, or could read it, join it or knock."""
    seen = describe(tx, room)
    if seen.world_readable or seen.join_rule == "public":
        return True
    if seen.join_rule in room.version.knock_join_rules:
        return True
    if user_id is None:
        return False
    if membership_of(tx, room, user_id) in _INSIDE:
        return True
    return is_restricted(tx, room) and any(_is_in(tx, other, user_id) for other in allowed_rooms(tx, room.state))


def _is_in(tx: ReadTransaction, room_id: str, user_id: str) -> bool:
    room = rooms.find(tx, room_id)
    return room is not None and membership_of(tx, room, user_id) is Membership.JOIN


def _no_room(name: str) -> NotFound:
    return NotFound(f"There is no room {name[:255]} that you may see")
