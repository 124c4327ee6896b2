"""What a room tells about itself to those who are not in it.

spec: client-server-api#get_matrixclientv3publicrooms (PublishedRoomsChunk)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyserver.protocol.history_visibility import WORLD_READABLE, visibility_in
from tinyserver.storage import room_state
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

_KEYS = (
    ("m.room.create", ""),
    ("m.room.name", ""),
    ("m.room.topic", ""),
    ("m.room.avatar", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.join_rules", ""),
    ("m.room.guest_access", ""),
    ("m.room.history_visibility", ""),
)


@dataclass(frozen=True, slots=True)
class RoomDescription:
    """A room from outside; what is None is not set."""

    nid: int
    room_id: str
    joined: int
    name: str | None
    topic: str | None
    avatar_url: str | None
    canonical_alias: str | None
    join_rule: str
    room_type: str | None
    world_readable: bool
    guest_can_join: bool

    def chunk(self) -> dict[str, Any]:
        """As `PublishedRoomsChunk`."""
        chunk: dict[str, Any] = {
            "room_id": self.room_id,
            "num_joined_members": self.joined,
            "world_readable": self.world_readable,
            "guest_can_join": self.guest_can_join,
            "join_rule": self.join_rule,
        }
        texts = {
            "name": self.name,
            "topic": self.topic,
            "avatar_url": self.avatar_url,
            "canonical_alias": self.canonical_alias,
            "room_type": self.room_type,
        }
        chunk.update((key, text) for key, text in texts.items() if text is not None)
        return chunk

    def matches(self, search: str | None) -> bool:
        """Whether a search term is in the name, the topic or the alias, upper and lower case being the same."""
        if not search:
            return True
        term = search.casefold()
        return any(
            text is not None and term in text.casefold() for text in (self.name, self.topic, self.canonical_alias)
        )

    def is_of_type(self, room_types: Sequence[str | None] | None) -> bool:
        """Whether the room's type is one of these (None among them: no type); None: any."""
        return room_types is None or self.room_type in room_types


def describe(tx: ReadTransaction, room: RoomRow) -> RoomDescription:
    """The description of a room as it is now."""
    state = room_state.events_at(tx, room.state, _KEYS, keep=False)
    contents = {key[0]: stored.event.content for key, stored in state.items()}
    return RoomDescription(
        nid=room.nid,
        room_id=room.room_id,
        joined=room.joined,
        name=_text(contents, "m.room.name", "name"),
        topic=plain_topic(contents.get("m.room.topic", {})),
        avatar_url=_text(contents, "m.room.avatar", "url"),
        canonical_alias=_text(contents, "m.room.canonical_alias", "alias"),
        join_rule=_text(contents, "m.room.join_rules", "join_rule") or "invite",
        room_type=_text(contents, "m.room.create", "type"),
        world_readable=visibility_in(contents.get("m.room.history_visibility")) == WORLD_READABLE,
        guest_can_join=_text(contents, "m.room.guest_access", "guest_access") == "can_join",
    )


def plain_topic(content: Mapping[str, Any]) -> str | None:
    """The plain text of a topic: that of its text blocks, or of the older key.

    spec: client-server-api#mroomtopic
    """
    block = content.get("m.topic")
    texts = block.get("m.text") if isinstance(block, dict) else None
    for text in texts if isinstance(texts, list) else ():
        if isinstance(text, dict) and text.get("mimetype", "text/plain") == "text/plain":
            body = text.get("body")
            if isinstance(body, str):
                return body
    topic = content.get("topic")
    return topic if isinstance(topic, str) and topic else None


def _text(contents: Mapping[str, Mapping[str, Any]], event_type: str, key: str) -> str | None:
    value = contents.get(event_type, {}).get(key)
    return value if isinstance(value, str) and value else None
