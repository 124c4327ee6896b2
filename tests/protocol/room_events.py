"""Short ways to make events for tests that do not care about hashes, signatures or the graph; hostile content."""

from typing import Any

from hypothesis import strategies as st

from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import get_room_version

ROOM = "!room:example.org"
ALICE = "@alice:example.org"
BOB = "@bob:example.org"


def make_event(
    event_type: str = "m.room.message",
    content: dict[str, Any] | None = None,
    *,
    sender: str = ALICE,
    state_key: str | None = None,
    room_id: str | None = ROOM,
    event_id: str = "$event",
    version: str = "11",
    **more: Any,
) -> Event:
    """An event with the given parts; ``room_id`` None leaves it out of the PDU, ``more`` are further PDU keys."""
    pdu: dict[str, Any] = {
        "type": event_type,
        "sender": sender,
        "content": {} if content is None else content,
        "depth": 5,
        "origin_server_ts": 1_700_000_000_000,
        "prev_events": [],
        "auth_events": [],
        **more,
    }
    if room_id is not None:
        pdu["room_id"] = room_id
    if state_key is not None:
        pdu["state_key"] = state_key
    return Event.from_trusted(pdu, get_room_version(version), event_id)


def message(body: Any = "hello", **content: Any) -> Event:
    """An ordinary message from Alice; ``content`` are further keys of its content."""
    return make_event("m.room.message", {"msgtype": "m.text", "body": body, **content})


_ODD_TEXT = (
    st.text(max_size=8) | st.text(st.characters(codec=None), max_size=4) | st.sampled_from(["*", "?", "$", "@a:b"])
)

HOSTILE_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _ODD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_ODD_TEXT, inner, max_size=4),
    max_leaves=10,
)
"""What a lenient JSON parser might return: NaN, huge integers, lone surrogates, any nesting of them."""
