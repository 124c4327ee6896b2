"""The directory of published rooms: listing it, searching it, and who may put a room there.

spec: client-server-api#published-room-directory
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from tinyserver.accounts.requester import Requester
from tinyserver.directory.descriptions import RoomDescription, describe
from tinyserver.directory.permission import check_may_publish
from tinyserver.protocol.errors import InvalidParam, NotFound
from tinyserver.protocol.identifiers import is_valid_server_name
from tinyserver.rooms.access import known_room
from tinyserver.storage import room_directory, rooms
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.database import Database
from tinyserver.storage.room_directory import ListedRoom, Listing, Network, Own, Place
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_ROOMS = 500
"""How many rooms a page holds at most."""
MAX_EXAMINED = 10_000
"""How many rooms one search looks at; then the page ends, with a token to go on."""
_CACHE_BYTES = 2 * 1024 * 1024
"""For the descriptions of about 2,000 rooms: to search so many takes 15 ms with them and 250 ms without."""

_TOKEN = re.compile(r"([np])(\d{1,15})_(\d{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class DirectoryQuery:
    """What somebody asks of the directory: `since` is a token, `room_types` the wanted types (None in it: rooms
    without a type), `network` a third-party network."""

    limit: int | None = None
    since: str | None = None
    search: str | None = None
    room_types: Sequence[str | None] | None = None
    network: str | None = None
    all_networks: bool = False


@dataclass(frozen=True, slots=True)
class DirectoryPage:
    """Some published rooms, tokens for what is after and before them (None: nothing), and how many rooms are published
    altogether."""

    rooms: Sequence[RoomDescription]
    next: str | None
    previous: str | None
    total: int


class RemoteDirectories(Protocol):
    """Directories of other servers (implemented by federation)."""

    async def query(self, server_name: str, query: DirectoryQuery) -> dict[str, Any]:
        """A page of another server's directory, as that server gave it (its shape checked)."""


class NetworkLists(Protocol):
    """The lists of rooms that are kept for other networks (implemented by application services)."""

    def instance(self, instance_id: str) -> Network | None:
        """The list of an instance of a network; None: there is none."""


class PublicRooms:
    """The directory of this server.

    Args:
        db: where rooms are stored.
        server_name: this server.
        remote: other servers' directories, or None without federation.
        networks: the lists of networks, or None where there are none.
    """

    def __init__(
        self,
        db: Database,
        server_name: str,
        remote: RemoteDirectories | None = None,
        networks: NetworkLists | None = None,
    ) -> None:
        self._networks = networks
        self._db = db
        self._server_name = server_name
        self._remote = remote
        self._described: BoundedCache[tuple[int, int], RoomDescription] = BoundedCache(_CACHE_BYTES, _weight)

    async def query(self, query: DirectoryQuery) -> DirectoryPage:
        """A page of this server's directory: the largest rooms first.

        Raises:
            InvalidParam: the token or the limit is wrong.
        """
        backwards, place = _parse_token(query.since)
        if query.limit is not None and query.limit < 0:
            raise InvalidParam("The limit must not be negative.")
        limit = min(query.limit or MAX_ROOMS, MAX_ROOMS)

        def step(tx: ReadTransaction) -> DirectoryPage:
            listing = self._listing(query)
            if listing is None:
                return DirectoryPage((), None, None, 0)
            total = room_directory.count(tx, listing)
            if backwards and place is not None:
                return self._page_before(tx, query, listing, place, limit, total)
            return self._page_after(tx, query, listing, place, limit, total)

        return await self._db.read(step)

    async def query_server(self, server_name: str | None, query: DirectoryQuery) -> DirectoryPage | dict[str, Any]:
        """A page of this server's directory, or of another's: the latter as that server gave it.

        Raises:
            InvalidParam: the server name, the token or the limit is wrong.
            NotFound: the other server cannot be asked.
        """
        if server_name is None or server_name == self._server_name:
            return await self.query(query)
        if not is_valid_server_name(server_name):
            raise InvalidParam(f"{server_name[:100]!r} is not a server name")
        if self._remote is None:
            raise NotFound(f"This server does not talk to others, so it cannot list the rooms of {server_name}")
        return await self._remote.query(server_name, query)

    async def is_published(self, room_id: str) -> bool:
        """Whether a room is in the directory.

        Raises:
            NotFound: this server does not know the room.
        """
        return self._db.glance(lambda tx: known_room(tx, room_id)).is_public

    async def publish(self, requester: Requester, room_id: str, published: bool) -> None:
        """Put a room into the directory, or take it out.

        Raises:
            NotFound: this server does not know the room.
            Forbidden: the user may not.
        """

        def step(tx: WriteTransaction) -> None:
            room = known_room(tx, room_id)
            check_may_publish(tx, room, requester)
            if room.is_public != published:
                rooms.set_public(tx, room.nid, published)

        await self._db.write(step)

    def _listing(self, query: DirectoryQuery) -> Listing | None:
        """Which list is asked for; None: one that is not known."""
        if query.all_networks:
            return Own.EVERYTHING
        if not query.network:
            return Own.PUBLIC
        return None if self._networks is None else self._networks.instance(query.network)

    # -- pages -----------------------------------------------------------------------------------

    def _page_after(
        self,
        tx: ReadTransaction,
        query: DirectoryQuery,
        listing: Listing,
        place: Place | None,
        limit: int,
        total: int,
    ) -> DirectoryPage:
        candidates = room_directory.after(tx, place, listing)
        found, last, more = self._select(tx, candidates, query, limit)
        first = (found[0].joined, found[0].nid) if found else place
        previous = None
        if place is not None and first is not None and any(room_directory.before(tx, first, listing)):
            previous = _token("p", first)
        return DirectoryPage(found, _token("n", last) if more and last is not None else None, previous, total)

    def _page_before(
        self, tx: ReadTransaction, query: DirectoryQuery, listing: Listing, place: Place, limit: int, total: int
    ) -> DirectoryPage:
        found, first, more = self._select(tx, room_directory.before(tx, place, listing), query, limit)
        found.reverse()
        last = (found[-1].joined, found[-1].nid) if found else None
        following = _token("n", last) if last is not None else _token("n", (2**40, 0))
        return DirectoryPage(found, following, _token("p", first) if more and first is not None else None, total)

    def _select(
        self, tx: ReadTransaction, candidates: Iterator[ListedRoom], query: DirectoryQuery, limit: int
    ) -> tuple[list[RoomDescription], Place | None, bool]:
        """The first rooms that are asked for, the place of the last room looked at, whether there are more."""
        found: list[RoomDescription] = []
        last: Place | None = None
        for room in islice(candidates, MAX_EXAMINED):
            if len(found) == limit:
                return found, last, True
            last = (room.joined, room.nid)
            description = self._describe(tx, room)
            if description.matches(query.search) and description.is_of_type(query.room_types):
                found.append(description)
        return found, last, next(candidates, None) is not None

    def _describe(self, tx: ReadTransaction, room: ListedRoom) -> RoomDescription:
        """A room's description; it follows from the state, so it is remembered by the state's root."""
        key = (room.nid, room.state)
        description = self._described.get(key)
        if description is None:
            description = describe(tx, rooms.get(tx, room.nid))
            self._described.put(key, description)
        return description


def _weight(description: RoomDescription) -> int:
    return 600 + 2 * (len(description.name or "") + len(description.topic or ""))


def _token(direction: str, place: Place) -> str:
    return f"{direction}{place[0]}_{place[1]}"


def _parse_token(token: str | None) -> tuple[bool, Place | None]:
    if not token:
        return False, None
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise InvalidParam("The value of 'since' is not a token that this server gave out.")
    return found[1] == "p", (int(found[2]), int(found[3]))
