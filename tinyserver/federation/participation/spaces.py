"""Asking other servers about spaces and rooms that this one is not in.

spec: server-server-api#get_matrixfederationv1hierarchyroomid
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from tinyserver.directory.spaces import RemoteSpace
from tinyserver.federation.client import FederationClient
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.protocol.identifiers import is_valid_room_id, is_valid_server_name
from tinyserver.protocol.request_auth import path_of
from tinyserver.storage.caches import BoundedCache

TIMEOUT = 8.0
MAX_BYTES = 2 * 1024 * 1024
FRESH = 120.0
"""Seconds for which an answer counts: so long paging through a space asks nobody again."""
_CACHE_BYTES = 1024 * 1024
_MAX_TEXT = 4096
_TEXTS = ("name", "topic", "avatar_url", "canonical_alias", "join_rule", "room_type", "room_version", "encryption")
_UNSTABLE_TEXTS = {"im.nheko.summary.room_version": "room_version", "im.nheko.summary.encryption": "encryption"}
_MAX_ALLOWED = 100
_Remembered = tuple[float, RemoteSpace, int]


class SpaceQueries:
    """Asks other servers (`RemoteSpaces`), and remembers what they said for a short while.

    Args:
        client: requests to other servers.
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, client: FederationClient, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._monotonic = monotonic
        self._known: BoundedCache[tuple[str, str, bool], _Remembered] = BoundedCache(_CACHE_BYTES, lambda each: each[2])

    async def ask(self, server: str, room_id: str, *, suggested_only: bool) -> RemoteSpace | None:
        """What a server tells of a room; None when it does not tell, cannot be asked, or answers nonsense."""
        if not is_valid_server_name(server):
            return None
        key = (server, room_id, suggested_only)
        known = self._known.get(key)
        if known is not None and self._monotonic() < known[0] + FRESH:
            return known[1]
        path = path_of("_matrix", "federation", "v1", "hierarchy", room_id)
        try:
            answer = await self._client.get(
                server, path, query={"suggested_only": suggested_only}, timeout=TIMEOUT, max_bytes=MAX_BYTES
            )
        except OutgoingError:
            return None
        space = _checked(answer, room_id)
        if space is not None:
            weight = 500 + 2 * len(orjson.dumps([space.room, space.children]))
            self._known.put(key, (self._monotonic(), space, weight))
        return space


def _checked(answer: dict[str, Any], room_id: str) -> RemoteSpace | None:
    """The parts of an answer that are as they should be."""
    told = answer.get("room")
    room = _summary(told)
    if room is None or room["room_id"] != room_id or not isinstance(told, dict):
        return None
    named = told.get("children_state")
    states = named if isinstance(named, list) else []
    room["children_state"] = [_child_state(child) for child in states if _is_child(child)]
    children, inaccessible = answer.get("children"), answer.get("inaccessible_children")
    return RemoteSpace(
        room,
        [child for each in children if (child := _summary(each))] if isinstance(children, list) else [],
        frozenset(each for each in inaccessible if isinstance(each, str))
        if isinstance(inaccessible, list)
        else frozenset(),
    )


def _summary(told: object) -> dict[str, Any] | None:
    """What clients rely on of a room's summary; None where it lacks what it must have."""
    if not isinstance(told, dict):
        return None
    room_id, joined = told.get("room_id"), told.get("num_joined_members")
    if not isinstance(room_id, str) or not is_valid_room_id(room_id) or type(joined) is not int or joined < 0:
        return None
    room: dict[str, Any] = {
        "room_id": room_id,
        "num_joined_members": joined,
        "world_readable": told.get("world_readable") is True,
        "guest_can_join": told.get("guest_can_join") is True,
    }
    for name, key in [*((text, text) for text in _TEXTS), *_UNSTABLE_TEXTS.items()]:
        text = told.get(name)
        if isinstance(text, str) and len(text) <= _MAX_TEXT:
            room.setdefault(key, text)
    allowed = told.get("allowed_room_ids")
    if isinstance(allowed, list) and allowed:
        room["allowed_room_ids"] = [each for each in allowed[:_MAX_ALLOWED] if isinstance(each, str)]
    return room


def _is_child(event: object) -> bool:
    return (
        isinstance(event, dict)
        and event.get("type") == "m.space.child"
        and isinstance(event.get("state_key"), str)
        and isinstance(event.get("sender"), str)
        and isinstance(event.get("content"), dict)
        and isinstance(event["content"].get("via"), list)
        and type(event.get("origin_server_ts")) is int
    )


def _child_state(event: dict[str, Any]) -> dict[str, Any]:
    return {key: event[key] for key in ("type", "state_key", "content", "sender", "origin_server_ts")}
