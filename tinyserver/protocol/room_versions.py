"""Room versions as data: one table of everything that differs between versions 1 to 12.

The rest of the program asks the flags of a :class:`RoomVersion`, never its identifier. A new room version is one new
entry in the table at the end of this file, made from the one before with ``dataclasses.replace``.

spec: rooms/v1 ... rooms/v12
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from types import MappingProxyType

from tinyserver.protocol.errors import UnsupportedRoomVersion


class EventIdFormat(Enum):
    """How an event gets its ID."""

    OPAQUE = "$opaque:domain"
    """Chosen by the sending server, in the PDU's own ``event_id`` field."""
    HASH = "$hash"
    """The reference hash in standard unpadded Base64."""
    HASH_URLSAFE = "$hash-urlsafe"
    """The reference hash in URL-safe unpadded Base64."""


class StateResolution(Enum):
    """Which state resolution algorithm a room uses."""

    V1 = "1"
    V2 = "2"
    V2_1 = "2.1"


@dataclass(frozen=True, slots=True)
class ContentRule:
    """What redaction keeps of the ``content`` of one event type.

    ``keys``: the keys that stay, ``None`` meaning all. ``nested``: keys whose value, where it is an object, stays
    with only the named keys of its own.
    """

    keys: frozenset[str] | None
    nested: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RedactionRules:
    """What redaction keeps: the top-level keys, and of ``content`` what the event's type allows (else nothing)."""

    top_level: frozenset[str]
    content: Mapping[str, ContentRule]

    def with_content(self, **rules: ContentRule) -> "RedactionRules":
        """These rules with those of the ``m.room.*`` event types replaced which are named (without the prefix)."""
        changed = {f"m.room.{name}": rule for name, rule in rules.items()}
        return replace(self, content=MappingProxyType({**self.content, **changed}))


@dataclass(frozen=True, eq=False)
class RoomVersion:
    """Everything in which one room version differs from another. Two are equal if they are the same object."""

    identifier: str

    # The event format
    event_id_format: EventIdFormat
    references_with_hashes: bool
    """``prev_events`` and ``auth_events`` are lists of ``[event_id, {"sha256": hash}]``, else of event IDs."""
    strict_canonical_json: bool
    """Numbers are integers from -(2**53)+1 to 2**53-1; anything else makes the event invalid."""
    max_depth: int
    field_limits_in_bytes: bool
    """The limit of 255 for single fields counts bytes of UTF-8. Servers used to count code points, so that longer
    ones exist in rooms of old versions."""
    redacts_in_content: bool
    """``m.room.redaction`` names its target in ``content.redacts``, else in the top-level ``redacts``."""
    room_id_is_create_hash: bool
    """The room ID is the create event's ID with ``!`` for ``$``; the create event itself has no ``room_id``."""

    # Signatures
    enforce_key_validity: bool
    """A signature counts only if its key was valid at the event's ``origin_server_ts``."""

    # Redaction
    redaction_rules: RedactionRules
    redactions_authorised_by_rules: bool
    """The authorisation rules judge redactions (rule 11 of version 1), else the server does when it applies them."""

    # State resolution
    state_resolution: StateResolution

    # Authorisation rules
    creator_in_content: bool
    """``m.room.create`` must name its ``creator`` in ``content``, else the creator is its ``sender``."""
    privileged_creators: bool
    """The create event's sender and ``additional_creators`` have infinite power, and none in ``users``."""
    create_in_auth_events: bool
    """``auth_events`` must hold the create event, else they must not: the room ID implies it."""
    special_case_aliases: bool
    """``m.room.aliases`` has an authorisation rule of its own."""
    knock: bool
    """Join rule and membership ``knock``."""
    restricted: bool
    """Join rule ``restricted``, and ``join_authorised_via_users_server``."""
    knock_restricted: bool
    """Join rule ``knock_restricted``."""
    power_levels_cover_notifications: bool
    """A change of ``notifications`` in the power levels is checked like one of ``events``."""
    power_levels_accept_strings: bool
    """Power levels may be integers written as strings."""
    power_levels_accept_floats: bool
    """Power levels may be floats; they are cut at the decimal point."""
    integer_power_levels: bool
    """Every power level which is present must be an integer, else the event is rejected (rule 9.1 of version 10)."""

    @cached_property
    def event_id_in_pdu(self) -> bool:
        """Whether a PDU carries its own ``event_id``, else the ID is computed from the event."""
        return self.event_id_format is EventIdFormat.OPAQUE

    @cached_property
    def hashed_keys(self) -> frozenset[str]:
        """The top-level keys that the reference hash and the signatures of an event cover."""
        uncovered = {"signatures", "unsigned"} if self.event_id_in_pdu else {"signatures", "unsigned", "event_id"}
        return self.redaction_rules.top_level - uncovered

    @cached_property
    def restricted_join_rules(self) -> frozenset[str]:
        """The join rules which let members of other rooms in."""
        rules = {"restricted"} if self.restricted else set()
        return frozenset(rules | ({"knock_restricted"} if self.knock_restricted else set()))

    @cached_property
    def knock_join_rules(self) -> frozenset[str]:
        """The join rules which allow knocking."""
        rules = {"knock"} if self.knock else set()
        return frozenset(rules | ({"knock_restricted"} if self.knock_restricted else set()))


def _keep(*keys: str) -> ContentRule:
    return ContentRule(frozenset(keys))


_POWER_LEVEL_KEYS = ("ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default")

_REDACTION_V1 = RedactionRules(
    top_level=frozenset(
        {
            "event_id",
            "type",
            "room_id",
            "sender",
            "state_key",
            "content",
            "hashes",
            "signatures",
            "depth",
            "prev_events",
            "prev_state",
            "auth_events",
            "origin",
            "origin_server_ts",
            "membership",
        }
    ),
    content=MappingProxyType(
        {
            "m.room.member": _keep("membership"),
            "m.room.create": _keep("creator"),
            "m.room.join_rules": _keep("join_rule"),
            "m.room.power_levels": _keep(*_POWER_LEVEL_KEYS),
            "m.room.aliases": _keep("aliases"),
            "m.room.history_visibility": _keep("history_visibility"),
        }
    ),
)
_REDACTION_V6 = _REDACTION_V1.with_content(aliases=_keep())
_REDACTION_V8 = _REDACTION_V6.with_content(join_rules=_keep("join_rule", "allow"))
_REDACTION_V9 = _REDACTION_V8.with_content(member=_keep("membership", "join_authorised_via_users_server"))
_REDACTION_V11 = replace(
    _REDACTION_V9, top_level=_REDACTION_V9.top_level - {"prev_state", "origin", "membership"}
).with_content(
    create=ContentRule(keys=None),
    redaction=_keep("redacts"),
    power_levels=_keep(*_POWER_LEVEL_KEYS, "invite"),
    member=ContentRule(
        keys=frozenset({"membership", "join_authorised_via_users_server"}),
        nested=MappingProxyType({"third_party_invite": frozenset({"signed"})}),
    ),
)

_V1 = RoomVersion(
    identifier="1",
    event_id_format=EventIdFormat.OPAQUE,
    references_with_hashes=True,
    strict_canonical_json=False,
    max_depth=2**63 - 1,
    field_limits_in_bytes=False,
    redacts_in_content=False,
    room_id_is_create_hash=False,
    enforce_key_validity=False,
    redaction_rules=_REDACTION_V1,
    redactions_authorised_by_rules=True,
    state_resolution=StateResolution.V1,
    creator_in_content=True,
    privileged_creators=False,
    create_in_auth_events=True,
    special_case_aliases=True,
    knock=False,
    restricted=False,
    knock_restricted=False,
    power_levels_cover_notifications=False,
    power_levels_accept_strings=True,
    power_levels_accept_floats=True,
    integer_power_levels=False,
)
_V2 = replace(_V1, identifier="2", state_resolution=StateResolution.V2)
_V3 = replace(
    _V2,
    identifier="3",
    event_id_format=EventIdFormat.HASH,
    references_with_hashes=False,
    redactions_authorised_by_rules=False,
)
_V4 = replace(_V3, identifier="4", event_id_format=EventIdFormat.HASH_URLSAFE)
_V5 = replace(_V4, identifier="5", enforce_key_validity=True)
_V6 = replace(
    _V5,
    identifier="6",
    strict_canonical_json=True,
    max_depth=2**53 - 1,
    redaction_rules=_REDACTION_V6,
    special_case_aliases=False,
    power_levels_cover_notifications=True,
    power_levels_accept_floats=False,
)
_V7 = replace(_V6, identifier="7", knock=True)
_V8 = replace(_V7, identifier="8", restricted=True, redaction_rules=_REDACTION_V8)
_V9 = replace(_V8, identifier="9", redaction_rules=_REDACTION_V9)
_V10 = replace(
    _V9, identifier="10", knock_restricted=True, power_levels_accept_strings=False, integer_power_levels=True
)
_V11 = replace(
    _V10,
    identifier="11",
    field_limits_in_bytes=True,
    redaction_rules=_REDACTION_V11,
    redacts_in_content=True,
    creator_in_content=False,
)
_V12 = replace(
    _V11,
    identifier="12",
    state_resolution=StateResolution.V2_1,
    room_id_is_create_hash=True,
    create_in_auth_events=False,
    privileged_creators=True,
)

ROOM_VERSIONS: Mapping[str, RoomVersion] = MappingProxyType(
    {v.identifier: v for v in (_V1, _V2, _V3, _V4, _V5, _V6, _V7, _V8, _V9, _V10, _V11, _V12)}
)
"""All room versions that the server supports, by identifier."""

DEFAULT_ROOM_VERSION = "12"
"""The version of new rooms, unless the configuration says otherwise. spec: rooms/index"""


def get_room_version(identifier: str) -> RoomVersion:
    """The room version with this identifier.

    :raises UnsupportedRoomVersion: the server does not know it (also if it is no string at all).
    """
    version = ROOM_VERSIONS.get(identifier) if isinstance(identifier, str) else None
    if version is None:
        raise UnsupportedRoomVersion
    return version
