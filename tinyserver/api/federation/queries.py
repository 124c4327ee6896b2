"""What other servers ask about this server's aliases, users and published rooms.

spec: server-server-api#querying-for-information, server-server-api#published-room-directory
"""

from __future__ import annotations

import msgspec

from tinyserver.accounts.profiles import Profiles
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.client.public_rooms import SearchBody, directory_answer, directory_query
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.directory.aliases import Aliases
from tinyserver.directory.public_rooms import DirectoryQuery, PublicRooms
from tinyserver.protocol.errors import InvalidParam, NotFound
from tinyserver.protocol.identifiers import domain_of, is_valid_room_alias, is_valid_user_id

_V1 = "/_matrix/federation/v1"


class AliasQuery(msgspec.Struct):
    """The alias asked about."""

    room_alias: str


class ProfileQuery(msgspec.Struct):
    """The user asked about, and the field (None: all of them)."""

    user_id: str
    field: str | None = None


class PublicRoomsQuery(msgspec.Struct):
    """Which page of the directory."""

    limit: int | None = None
    since: str | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None


class QueriesApi:
    """Answers for other servers.

    :param aliases: this server's aliases.
    :param profiles: this server's users.
    :param public_rooms: this server's directory.
    :param server_name: this server: it answers for nobody else.
    """

    surface = Surface.FEDERATION

    def __init__(self, aliases: Aliases, profiles: Profiles, public_rooms: PublicRooms, server_name: str) -> None:
        self._aliases = aliases
        self._profiles = profiles
        self._public_rooms = public_rooms
        self._server_name = server_name

    @endpoint(
        "GET",
        _V1 + "/query/directory",
        spec="server-server-api#get_matrixfederationv1querydirectory",
        auth=Auth.SERVER,
        query=AliasQuery,
    )
    async def query_directory(self, call: Call[NoBody, AliasQuery]) -> Answer:
        """The room of an alias, and servers that are in it."""
        alias = call.query.room_alias
        if not is_valid_room_alias(alias):
            raise InvalidParam(f"{alias[:100]!r} is not a room alias")
        if domain_of(alias) != self._server_name:
            raise NotFound(f"{alias} is not an alias of {self._server_name}")
        found = await self._aliases.resolve(alias)
        return {"room_id": found.room_id, "servers": found.servers}

    @endpoint(
        "GET",
        _V1 + "/query/profile",
        spec="server-server-api#get_matrixfederationv1queryprofile",
        auth=Auth.SERVER,
        query=ProfileQuery,
    )
    async def query_profile(self, call: Call[NoBody, ProfileQuery]) -> Answer:
        """The profile of a user, or one field of it."""
        user_id, field = call.query.user_id, call.query.field
        if not is_valid_user_id(user_id):
            raise InvalidParam(f"{user_id[:100]!r} is not a user ID")
        if domain_of(user_id) != self._server_name:
            raise NotFound(f"{user_id} is not a user of {self._server_name}")
        if field is None:
            return await self._profiles.get(user_id)
        return await self._profiles.get_field(user_id, field)

    @endpoint(
        "GET",
        _V1 + "/publicRooms",
        spec="server-server-api#get_matrixfederationv1publicrooms",
        auth=Auth.SERVER,
        query=PublicRoomsQuery,
    )
    async def get_public_rooms(self, call: Call[NoBody, PublicRoomsQuery]) -> Answer:
        """A page of the directory."""
        asked = call.query
        query = DirectoryQuery(
            asked.limit,
            asked.since,
            network=asked.third_party_instance_id,
            all_networks=asked.include_all_networks,
        )
        return directory_answer(await self._public_rooms.query(query))

    @endpoint(
        "POST",
        _V1 + "/publicRooms",
        spec="server-server-api#post_matrixfederationv1publicrooms",
        auth=Auth.SERVER,
        body=SearchBody,
    )
    async def post_public_rooms(self, call: Call[SearchBody, NoQuery]) -> Answer:
        """A page of what the directory has that fits a filter."""
        return directory_answer(await self._public_rooms.query(directory_query(call.body)))
