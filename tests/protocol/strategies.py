"""Hypothesis strategies for JSON values and PDUs."""

from typing import Any

from hypothesis import strategies as st

from tinyserver.protocol.event_hashes import add_content_hash, sign_event
from tinyserver.protocol.events import build_pdu
from tinyserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from tinyserver.protocol.signing import SigningKey

SAFE_INTEGERS = st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1)
TEXT = st.text(max_size=20)
"""Hypothesis never puts lone surrogates into ``st.text()`` unless asked to, but all control characters."""
FINITE_FLOATS = st.floats(allow_nan=False, allow_infinity=False)

KEY = SigningKey("a_1", bytes(range(32)))
SERVER = "example.org"

_PARENTS = ["$prev:example.org", "$create:example.org", "$member:example.org"]


def json_values(numbers: st.SearchStrategy[Any] = SAFE_INTEGERS, text: st.SearchStrategy[str] = TEXT) -> Any:
    """JSON values nested a few levels deep."""
    leaves = st.none() | st.booleans() | numbers | text
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | json_objects(inner, text), max_leaves=15)


def json_objects(values: Any = None, text: st.SearchStrategy[str] = TEXT) -> Any:
    """JSON objects with the given kind of values."""
    return st.dictionaries(text, json_values() if values is None else values, max_size=5)


JUNK: Any = json_values(
    SAFE_INTEGERS | st.integers() | st.floats() | st.sampled_from([2**53, 2**63, 2**64, 10**4000, -1]),
    TEXT | st.text(st.characters(codec=None), max_size=5),
)
"""Whatever any JSON parser might return: NaN, huge integers, lone surrogates."""

VERSIONS = st.sampled_from(list(ROOM_VERSIONS.values()))

EVENT_TYPES = st.sampled_from(
    [
        "m.room.message",
        "m.room.member",
        "m.room.create",
        "m.room.join_rules",
        "m.room.power_levels",
        "m.room.aliases",
        "m.room.history_visibility",
        "m.room.redaction",
        "org.example.custom",
    ]
)

CONTENT_KEYS = st.sampled_from(
    [
        "membership",
        "join_authorised_via_users_server",
        "third_party_invite",
        "creator",
        "room_version",
        "join_rule",
        "allow",
        "users",
        "invite",
        "ban",
        "aliases",
        "history_visibility",
        "redacts",
        "body",
    ]
)


def make_pdu(version: RoomVersion, **changes: Any) -> dict[str, Any]:
    """A valid hashed and signed PDU of the room version; ``changes`` replace parts of it before it is hashed."""
    fields: dict[str, Any] = {
        "room_id": "!" + "r" * 43 if version.room_id_is_create_hash else "!room:example.org",
        "type": "m.room.message",
        "sender": "@alice:example.org",
        "state_key": None,
        "content": {"body": "hello", "msgtype": "m.text"},
        "prev_events": _PARENTS[:1],
        "auth_events": _PARENTS[1:],
        "depth": 12,
        "origin_server_ts": 1_700_000_000_000,
        "event_id": "$event:example.org" if version.event_id_in_pdu else None,
        "reference_hashes": dict.fromkeys(_PARENTS, "x" * 43),
        **changes,
    }
    return sign_event(add_content_hash(build_pdu(version, **fields)), version, SERVER, KEY)


@st.composite
def pdus(draw: st.DrawFn) -> tuple[RoomVersion, dict[str, Any]]:
    """A room version and a hashed and signed PDU of it, of any type and content."""
    version = draw(VERSIONS)
    content = draw(st.dictionaries(CONTENT_KEYS | TEXT, json_values(), max_size=6))
    if "join_authorised_via_users_server" in content:
        content["join_authorised_via_users_server"] = "@bob:example.net"
    event_type = draw(EVENT_TYPES)
    pdu = make_pdu(
        version,
        type=event_type,
        state_key=draw(st.none() | TEXT),
        content=content,
        redacts=draw(st.none() | st.just("$target:example.org")),
        sender=draw(st.sampled_from(["@alice:example.org", "@Old User:example.org:8448", "@:1.2.3.4"])),
    )
    return version, pdu
