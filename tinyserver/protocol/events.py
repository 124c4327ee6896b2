"""Events: reading, checking and building PDUs in the format of each room version.

:func:`parse_pdu` is the door for everything from outside, :meth:`Event.from_trusted` the fast way in for what the
server has stored itself, :func:`build_pdu` makes a new PDU which is then hashed and signed (``event_hashes``).

spec: rooms/v1#event-format ... rooms/v12#event-format, client-server-api#size-limits
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tinyserver.protocol import canonical_json, event_hashes
from tinyserver.protocol.errors import BadJson, TooLarge
from tinyserver.protocol.identifiers import is_hash_room_id, is_valid_server_name, is_valid_user_id, parse_room_id
from tinyserver.protocol.room_versions import RoomVersion

MAX_EVENT_BYTES = 65536
MAX_FIELD_LENGTH = 255
MAX_PREV_EVENTS = 20
MAX_AUTH_EVENTS = 10

_NO_HASHES: Mapping[str, str] = {}
_INT64 = 2**63

_EventIdField = Annotated[str, Meta(max_length=MAX_FIELD_LENGTH)]


class _Hashes(msgspec.Struct):
    sha256: str


class _ReferenceHashes(msgspec.Struct):
    """Real events of room versions 1 and 2 also refer to others without any hash."""

    sha256: str = ""


class _PduFields(msgspec.Struct):
    """The types of a PDU's fields, as far as they are the same in all room versions."""

    type: str
    sender: str
    content: dict[str, Any]
    origin_server_ts: int
    depth: int
    hashes: _Hashes
    signatures: dict[str, dict[str, str]]
    room_id: str | UnsetType = UNSET
    state_key: str | UnsetType = UNSET
    unsigned: dict[str, Any] | UnsetType = UNSET


class _PduWithIds(_PduFields, kw_only=True):
    """Room versions 3 and later."""

    prev_events: Annotated[list[_EventIdField], Meta(max_length=MAX_PREV_EVENTS)]
    auth_events: Annotated[list[_EventIdField], Meta(max_length=MAX_AUTH_EVENTS)]


class _PduWithHashes(_PduFields, kw_only=True):
    """Room versions 1 and 2."""

    event_id: _EventIdField
    prev_events: Annotated[list[tuple[_EventIdField, _ReferenceHashes]], Meta(max_length=MAX_PREV_EVENTS)]
    auth_events: Annotated[list[tuple[_EventIdField, _ReferenceHashes]], Meta(max_length=MAX_AUTH_EVENTS)]


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


def parse_pdu(pdu: Any, version: RoomVersion) -> Event:
    """The event in a PDU from outside, after all checks of its format and size. Hashes and signatures are not checked.

    :param pdu: any parsed JSON value; the event keeps it, so it must not be changed afterwards.
    :raises TooLarge: more than 65,536 bytes as canonical JSON, or a ``type`` or ``state_key`` of more than 255.
    :raises BadJson: anything else that the room version's event format forbids.

    spec: server-server-api#checks-performed-on-receipt-of-a-pdu (step 1), client-server-api#size-limits
    """
    if type(pdu) is not dict:
        raise BadJson("An event must be a JSON object.")
    _check_json(pdu, version)
    _check_fields(pdu, version)
    _check_identifiers(pdu, version)
    return Event.from_trusted(pdu, version, event_hashes.event_id_of(pdu, version))


def _check_json(pdu: dict[str, Any], version: RoomVersion) -> None:
    """Check the size of the whole event, its nesting, and its numbers where the room version is strict."""
    encode = canonical_json.encode if version.strict_canonical_json else canonical_json.encode_lenient
    try:
        encoded = encode(pdu)
    except canonical_json.CanonicalJsonError as error:
        raise BadJson(f"The event holds a value that is not allowed in its room version: {error}") from error
    if len(encoded) > MAX_EVENT_BYTES:
        raise TooLarge(f"An event cannot be larger than {MAX_EVENT_BYTES} bytes; this one has {len(encoded)}.")
    if canonical_json.is_nested_deeper(pdu, encoded, canonical_json.MAX_NESTING):
        raise BadJson(f"An event cannot be nested more than {canonical_json.MAX_NESTING} levels deep.")


def _check_fields(pdu: dict[str, Any], version: RoomVersion) -> None:
    """Check that every field of the event format is there and has the right type, length and range."""
    try:
        msgspec.convert(pdu, _PduWithHashes if version.references_with_hashes else _PduWithIds)
    except msgspec.ValidationError as error:
        raise BadJson(f"The event does not have the format of its room version: {error}") from error
    if not 0 <= pdu["depth"] <= version.max_depth:
        raise BadJson("The depth of the event is out of range.")
    if not -_INT64 <= pdu["origin_server_ts"] < _INT64:
        raise BadJson("The origin_server_ts of the event is out of range.")
    if not version.redacts_in_content and "redacts" in pdu and not isinstance(pdu["redacts"], str):
        raise BadJson("The redacts of the event must be a string.")
    for name in ("type", "state_key"):
        value = pdu.get(name, "")
        in_bytes = version.field_limits_in_bytes and not value.isascii()
        if (len(value.encode()) if in_bytes else len(value)) > MAX_FIELD_LENGTH:
            raise TooLarge(f"The {name} of an event cannot be longer than {MAX_FIELD_LENGTH} bytes.")


def _check_identifiers(pdu: dict[str, Any], version: RoomVersion) -> None:
    """Check the users, the room and the event's own ID that the event names."""
    if not is_valid_user_id(pdu["sender"]):
        raise BadJson("The sender of the event is not a user ID.")
    if version.room_id_is_create_hash and pdu["type"] == "m.room.create":
        if "room_id" in pdu:
            raise BadJson("In this room version a create event has no room_id.")
    elif not _is_room_id(pdu.get("room_id"), version.room_id_is_create_hash):
        raise BadJson("The room_id of the event is not a room ID of its room version.")
    for references in (pdu["prev_events"], pdu["auth_events"]):
        for reference in references:
            if (reference[0] if version.references_with_hashes else reference)[:1] != "$":
                raise BadJson("The prev_events and auth_events of an event must be event IDs.")
    if version.event_id_in_pdu and not _is_event_id_with_domain(pdu["event_id"]):
        raise BadJson("The event_id of the event is not an event ID of its room version.")
    if version.restricted and pdu["type"] == "m.room.member":
        content = pdu["content"]
        key = "join_authorised_via_users_server"
        if key in content and not is_valid_user_id(content[key]):
            raise BadJson(f"The {key} of the event is not a user ID.")


def _is_event_id_with_domain(text: str) -> bool:
    _, _, domain = text.partition(":")
    return text[:1] == "$" and is_valid_server_name(domain)


@lru_cache(maxsize=256)
def _is_room_id(text: str | None, is_hash: bool) -> bool:
    if text is None:
        return False
    if is_hash:
        return is_hash_room_id(text)
    try:
        return parse_room_id(text).server_name is not None
    except ValueError:
        return False


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
