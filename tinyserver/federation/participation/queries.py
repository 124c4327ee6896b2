"""Questions to other servers in a user's name: aliases, profiles, public rooms. All of them are answered soon, or not.

spec: server-server-api#querying-for-information, server-server-api#published-room-directory
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from tinyserver.directory.public_rooms import DirectoryQuery
from tinyserver.federation.client import FederationClient
from tinyserver.federation.participation.errors import error_for_user
from tinyserver.outgoing.errors import HttpError, OutgoingError
from tinyserver.protocol.errors import NotFound, Unknown
from tinyserver.protocol.identifiers import domain_of, is_valid_room_id, is_valid_server_name
from tinyserver.protocol.request_auth import path_of
from tinyserver.storage.caches import BoundedCache

ALIAS_TIMEOUT = 10.0
PROFILE_TIMEOUT = 5.0
DIRECTORY_TIMEOUT = 15.0
MAX_DIRECTORY_BYTES = 8 * 1024 * 1024
MAX_PROFILE_BYTES = 128 * 1024
PROFILE_FRESH = 60.0
"""Seconds for which a profile is not asked for again."""
PATIENCE = 1.0
"""Seconds for which a newer profile is waited for while something else is known."""
_PROFILE_CACHE_BYTES = 512 * 1024
_MAX_SERVERS = 20
_PROFILE_TEXTS = ("displayname", "avatar_url", "m.tz")
_ROOM_TEXTS = ("name", "topic", "canonical_alias", "avatar_url", "join_rule", "room_type")


_ProfileKey = tuple[str, str | None]
_Profile = tuple[float, dict[str, Any], int]
"""When it was told, what, and about how many bytes it takes."""


class RemoteQueries:
    """Asks other servers (`RemoteAliases`, `RemoteProfiles`, `RemoteDirectories`).

    Args:
        client: requests to other servers.
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, client: FederationClient, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._monotonic = monotonic
        self._profiles: BoundedCache[_ProfileKey, _Profile] = BoundedCache(_PROFILE_CACHE_BYTES, lambda each: each[2])
        self._asking: dict[_ProfileKey, asyncio.Task[dict[str, Any]]] = {}

    async def resolve_alias(self, alias: str) -> tuple[str, list[str]]:
        """(room ID, servers in the room) of another server's alias.

        Raises:
            NotFound: there is no such alias, or its server cannot be asked.
            Unknown: its server answers nonsense (502).

        spec: server-server-api#get_matrixfederationv1querydirectory
        """
        server = domain_of(alias)
        path = path_of("_matrix", "federation", "v1", "query", "directory")
        try:
            answer = await self._client.get(
                server, path, query={"room_alias": alias}, timeout=ALIAS_TIMEOUT, ignore_backoff=True
            )
        except OutgoingError as error:
            if isinstance(error, HttpError) and error.errcode == "M_NOT_FOUND":
                raise NotFound(f"There is no room alias {alias}") from error
            raise NotFound(f"{server} does not say where {alias} leads to: {error}") from error
        room_id, servers = answer.get("room_id"), answer.get("servers")
        if not isinstance(room_id, str) or not is_valid_room_id(room_id):
            raise Unknown(f"{server} does not say where {alias} leads to", status=502)
        known = servers if isinstance(servers, list) else []
        valid = [name for name in known if isinstance(name, str) and is_valid_server_name(name)]
        return room_id, list(dict.fromkeys([*valid[:_MAX_SERVERS], server]))

    async def fetch(self, user_id: str, field: str | None, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
        """The profile of a user of another server, or one field of it. What was told before, or is known otherwise, has
        to do where the server does not answer soon; its answer is then there for the next time.

        Args:
            otherwise: what is known if the server has told nothing yet.

        Raises:
            NotFound: there is no such user or field, or the server cannot be asked at the moment.

        spec: server-server-api#get_matrixfederationv1queryprofile
        """
        key = (user_id, field)
        told = self._profiles.get(key)
        if told is not None and self._monotonic() < told[0] + PROFILE_FRESH:
            return told[1]
        known = otherwise if told is None else told[1]
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(self._ask_profile(key))
            asking.add_done_callback(partial(self._asked, key))
        try:
            async with asyncio.timeout(None if known is None else PATIENCE):
                return await asyncio.shield(asking)
        except (OutgoingError, TimeoutError) as error:
            if known is not None and not isinstance(error, HttpError):
                return known  # better what it was than nothing
            raise NotFound("There is no profile of this user, or its server cannot be reached.") from error

    async def _ask_profile(self, key: _ProfileKey) -> dict[str, Any]:
        user_id, field = key
        query: dict[str, str | int | bool | list[str]] = {"user_id": user_id}
        if field is not None:
            query["field"] = field
        path = path_of("_matrix", "federation", "v1", "query", "profile")
        answer = await self._client.get(
            domain_of(user_id), path, query=query, timeout=PROFILE_TIMEOUT, max_bytes=MAX_PROFILE_BYTES
        )
        answer = {name: value for name, value in answer.items() if name not in _PROFILE_TEXTS or isinstance(value, str)}
        weight = 500 + 4 * len(orjson.dumps(answer))
        self._profiles.put(key, (self._monotonic(), answer, weight))
        return answer

    def _asked(self, key: _ProfileKey, task: asyncio.Task[dict[str, Any]]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waits for it is told

    async def query(self, server_name: str, query: DirectoryQuery) -> dict[str, Any]:
        """A page of another server's directory of published rooms.

        Raises:
            NotFound: the server cannot be asked.
            MatrixError: it refuses, or answers nonsense (502).

        spec: server-server-api#post_matrixfederationv1publicrooms
        """
        path = path_of("_matrix", "federation", "v1", "publicRooms")
        content: dict[str, Any] = {"include_all_networks": query.all_networks}
        searched: dict[str, Any] = {}
        if query.search is not None:
            searched["generic_search_term"] = query.search
        if query.room_types is not None:
            searched["room_types"] = list(query.room_types)
        given = {"limit": query.limit, "since": query.since, "third_party_instance_id": query.network}
        content |= {name: value for name, value in given.items() if value is not None}
        if searched:
            content["filter"] = searched
        try:
            answer = await self._client.post(
                server_name,
                path,
                content,
                timeout=DIRECTORY_TIMEOUT,
                max_bytes=MAX_DIRECTORY_BYTES,
                ignore_backoff=True,
            )
        except HttpError as error:
            raise error_for_user(error, server_name) from error
        except OutgoingError as error:
            raise NotFound(f"{server_name} cannot be asked for its rooms: {error}") from error
        chunk = answer.get("chunk")
        if not isinstance(chunk, list):
            raise Unknown(f"{server_name} gave no list of rooms", status=502)
        page: dict[str, Any] = {"chunk": [_well_formed(room) for room in chunk if _is_room(room)]}
        for name in ("next_batch", "prev_batch"):
            if isinstance(answer.get(name), str):
                page[name] = answer[name]
        total = answer.get("total_room_count_estimate")
        if type(total) is int:
            page["total_room_count_estimate"] = total
        return page


def _is_room(room: Any) -> bool:
    """Whether an entry has what clients rely on."""
    if not isinstance(room, dict) or not isinstance(room.get("room_id"), str):
        return False
    flags = ("world_readable", "guest_can_join")
    return type(room.get("num_joined_members")) is int and all(isinstance(room.get(flag), bool) for flag in flags)


def _well_formed(room: dict[str, Any]) -> dict[str, Any]:
    """An entry without what is not as it must be and can be left out."""
    return {name: value for name, value in room.items() if name not in _ROOM_TEXTS or isinstance(value, str)}
