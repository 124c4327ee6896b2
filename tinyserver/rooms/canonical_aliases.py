"""Checking the aliases that an `m.room.canonical_alias` event names.

spec: client-server-api#mroomcanonical_alias
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyserver.protocol.errors import BadAlias, InvalidParam
from tinyserver.protocol.identifiers import is_valid_room_alias
from tinyserver.storage import rooms
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction


def check_aliases(
    tx: ReadTransaction, room: RoomRow, before: Mapping[str, Any], content: Mapping[str, Any], server_name: str
) -> None:
    """New aliases must be aliases, and point to the room; those that stood there before are left alone.

    Raises:
        InvalidParam: one of them is none.
        BadAlias: one does not point to the room.
    """
    known = _aliases_in(before, strict=False)
    for alias in _aliases_in(content, strict=True) - known:
        if not is_valid_room_alias(alias):
            raise InvalidParam(f"{alias[:255]!r} is not a room alias; one looks like #name:{server_name}")
        found = rooms.of_alias(tx, alias)
        if found is None or found[0] != room.nid:
            raise BadAlias(f"The alias {alias} does not point to this room; add it to the room first")


def _aliases_in(content: Mapping[str, Any], *, strict: bool) -> set[str]:
    alternatives = content.get("alt_aliases", [])
    canonical = content.get("alias")
    named = [*(alternatives if isinstance(alternatives, list) else [alternatives])]
    if canonical not in (None, ""):
        named.append(canonical)
    if strict and not (isinstance(alternatives, list) and all(isinstance(alias, str) for alias in named)):
        raise InvalidParam("alias must be a text and alt_aliases a list of texts")
    return {alias for alias in named if isinstance(alias, str)}
