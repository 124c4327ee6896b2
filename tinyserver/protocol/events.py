"""Events: reading, checking and building PDUs in the format of each room version.

:func:`parse_pdu` is the door for everything from outside, :meth:`Event.from_trusted` the fast way in for what the
server has stored itself, :func:`build_pdu` makes a new PDU which is then hashed and signed (``event_hashes``).

spec: rooms/v1#event-format ... rooms/v12#event-format, client-server-api#size-limits
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tinyserver.protocol.room_versions import RoomVersion

MAX_PREV_EVENTS = 20
MAX_AUTH_EVENTS = 10

_NO_HASHES: Mapping[str, str] = {}


class Event:
    """One event of a room, immutable by convention.

    ``pdu`` is the event in the federation format of its room version, as it came or was built (``unsigned`` included
    only if it came with it). The other attributes are read from it once:

    - ``event_id``: from the PDU in versions 1 and 2, else computed;
    - ``room_id``: also for a create event of version 12, which has none of its own;
    - ``state_key``: ``None`` if it is not a state event.
    """

    __slots__ = ("content", "event_id", "pdu", "room_id", "sender", "state_key", "type", "version")

    pdu: dict[str, Any]
    event_id: str
    version: RoomVersion
    room_id: str
    type: str
    sender: str
    state_key: str | None
    content: dict[str, Any]

    @classmethod
    def from_trusted(cls, pdu: dict[str, Any], version: RoomVersion, event_id: str) -> "Event":
        """An event that has been through :func:`parse_pdu` before; nothing is checked."""
        event = cls.__new__(cls)
        event.pdu = pdu
        event.event_id = event_id
        event.version = version
        event.type = pdu["type"]
        event.sender = pdu["sender"]
        event.state_key = pdu.get("state_key")
        event.content = pdu["content"]
        room_id = pdu.get("room_id")
        event.room_id = "!" + event_id[1:] if room_id is None else room_id
        return event

    @property
    def depth(self) -> int:
        """One more than the greatest depth of the previous events."""
        return self.pdu["depth"]  # type: ignore[no-any-return]

    @property
    def origin_server_ts(self) -> int:
        """When the sending server made the event, in milliseconds since 1970 by its own clock."""
        return self.pdu["origin_server_ts"]  # type: ignore[no-any-return]

    @property
    def prev_event_ids(self) -> list[str]:
        """The IDs of the event's parents in the room's graph."""
        if self.version.references_with_hashes:
            return [reference[0] for reference in self.pdu["prev_events"]]
        return self.pdu["prev_events"]  # type: ignore[no-any-return]

    @property
    def auth_event_ids(self) -> list[str]:
        """The IDs of the state events which the sender says allow this one."""
        if self.version.references_with_hashes:
            return [reference[0] for reference in self.pdu["auth_events"]]
        return self.pdu["auth_events"]  # type: ignore[no-any-return]

    @property
    def redacts(self) -> str | None:
        """The ID of the event that this redaction event redacts; ``None`` for other types or if it names none."""
        if self.type != "m.room.redaction":
            return None
        target = (self.content if self.version.redacts_in_content else self.pdu).get("redacts")
        return target if isinstance(target, str) else None

    @property
    def is_state(self) -> bool:
        """Whether this is a state event."""
        return self.state_key is not None

    @property
    def key(self) -> tuple[str, str]:
        """The (type, state_key) pair of a state event.

        :raises ValueError: this is not a state event.
        """
        if self.state_key is None:
            raise ValueError(f"{self.event_id} is not a state event")
        return (self.type, self.state_key)

    @property
    def membership(self) -> str | None:
        """``content.membership`` of an ``m.room.member`` event, if it is a string; else ``None``."""
        if self.type != "m.room.member":
            return None
        membership = self.content.get("membership")
        return membership if isinstance(membership, str) else None

    def __repr__(self) -> str:
        return f"<Event {self.event_id} {self.type!r} {self.state_key!r} from {self.sender!r}>"


def build_pdu(
    version: RoomVersion,
    *,
    room_id: str | None,
    type: str,
    sender: str,
    state_key: str | None,
    content: Mapping[str, Any],
    prev_events: Iterable[str],
    auth_events: Iterable[str],
    depth: int,
    origin_server_ts: int,
    redacts: str | None = None,
    event_id: str | None = None,
    reference_hashes: Mapping[str, str] = _NO_HASHES,
) -> dict[str, Any]:
    """A new PDU in the format of the room version, without hashes and signatures.

    :param room_id: left out of the create event of a version whose room ID comes from it; ``None`` there.
    :param prev_events: event IDs, as are ``auth_events``.
    :param depth: cut to the greatest depth that the version allows.
    :param redacts: the target of a redaction event; put where the version wants it.
    :param event_id: the new event's ID, only in versions where the sending server chooses it (1 and 2).
    :param reference_hashes: the reference hash (unpadded Base64) of each previous and auth event by its ID, only in
        versions where references carry them (1 and 2).
    :raises ValueError: ``event_id``, a reference hash or ``room_id`` is missing where the version needs it.
    """
    pdu: dict[str, Any] = {
        "type": type,
        "sender": sender,
        "content": dict(content),
        "depth": min(depth, version.max_depth),
        "origin_server_ts": origin_server_ts,
        "prev_events": _references(version, prev_events, reference_hashes),
        "auth_events": _references(version, auth_events, reference_hashes),
    }
    if not (version.room_id_is_create_hash and type == "m.room.create"):
        if room_id is None:
            raise ValueError("only a create event whose ID becomes the room ID has no room ID")
        pdu["room_id"] = room_id
    if state_key is not None:
        pdu["state_key"] = state_key
    if redacts is not None:
        (pdu["content"] if version.redacts_in_content else pdu)["redacts"] = redacts
    if version.event_id_in_pdu:
        if event_id is None:
            raise ValueError("in this room version the sending server chooses the event ID")
        pdu["event_id"] = event_id
    return pdu


def _references(version: RoomVersion, event_ids: Iterable[str], hashes: Mapping[str, str]) -> list[Any]:
    """The value of ``prev_events`` or ``auth_events``."""
    if not version.references_with_hashes:
        return list(event_ids)
    references = []
    for event_id in event_ids:
        if event_id not in hashes:
            raise ValueError(f"no reference hash for {event_id}")
        references.append([event_id, {"sha256": hashes[event_id]}])
    return references
