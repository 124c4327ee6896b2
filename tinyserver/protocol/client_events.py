"""Events as clients see them: a stored PDU rendered in the client-server format.

The body of an event is the same for everyone who receives it; only ``unsigned`` differs (the reader's membership, the
sender's transaction ID, the age). So it is encoded once (:func:`client_event_bytes`, worth caching) and each receiver's
``unsigned`` is spliced in (:func:`with_unsigned`); the result goes into a response as ``orjson.Fragment``.

spec: client-server-api#room-event-format (ClientEvent, ClientEventWithoutRoomID), client-server-api#stripped-state
"""

import json
from typing import Any, Final

import orjson

from tinyserver.protocol.events import Event
from tinyserver.protocol.sticky import STICKY, sticky_duration

_ORJSON_LIMITS_EXCEEDED: Final = (orjson.JSONEncodeError, RecursionError)


def client_event(event: Event, *, room_id: bool, unsigned: dict[str, Any] | None = None) -> dict[str, Any]:
    """Render ``event`` for clients as a new object (which shares the content with the event; do not change it).

    ``room_id``: whether to include it; in ``/sync`` the place in the response implies it. ``unsigned``: what
    :func:`unsigned_data` made for the reader; left out if None or empty.

    Redactions carry ``redacts`` at the top level *and* in their content, whatever the room version: old clients look
    for it at one place, new ones at the other. spec: rooms/v11#event-format
    """
    content = event.content
    rendered: dict[str, Any] = {
        "content": content,
        "event_id": event.event_id,
        "origin_server_ts": event.origin_server_ts,
        "sender": event.sender,
        "type": event.type,
    }
    if room_id:
        rendered["room_id"] = event.room_id
    if event.state_key is not None:
        rendered["state_key"] = event.state_key
    duration = sticky_duration(event.pdu)
    if duration is not None:
        rendered[STICKY] = {"duration_ms": duration}
    redacted = event.redacts
    if redacted is not None:
        rendered["redacts"] = redacted
        if content.get("redacts") != redacted:
            rendered["content"] = {**content, "redacts": redacted}
    if unsigned:
        rendered["unsigned"] = unsigned
    return rendered


def federation_event(event: Event, *, unsigned: dict[str, Any] | None = None) -> dict[str, Any]:
    """Render ``event`` as it came over federation, for filters with ``event_format: federation``.

    The PDU's own ``unsigned``, which any server may have filled as it liked, is replaced by the reader's.
    """
    rendered = {key: value for key, value in event.pdu.items() if key != "unsigned"}
    if unsigned:
        rendered["unsigned"] = unsigned
    return rendered


def unsigned_data(
    *,
    age: int | None = None,
    membership: str | None = None,
    transaction_id: str | None = None,
    prev_content: dict[str, Any] | None = None,
    replaces_state: str | None = None,
    redacted_because: dict[str, Any] | None = None,
    relations: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The ``unsigned`` object of an event for one reader; parts that are None are left out.

    ``age``: milliseconds since the event was sent. ``membership``: the reader's at the event. ``transaction_id``: only
    for the device that sent it. ``prev_content``: only if the reader may see the replaced state event.
    ``redacted_because``: the redaction, rendered like the event. ``relations``: the bundled aggregations.
    """
    data = {
        "age": age,
        "membership": membership,
        "transaction_id": transaction_id,
        "prev_content": prev_content,
        "replaces_state": replaces_state,
        "redacted_because": redacted_because,
        "m.relations": relations,
    }
    return {key: value for key, value in data.items() if value is not None}


def client_event_bytes(event: Event, *, room_id: bool) -> bytes:
    """The JSON text of :func:`client_event` without ``unsigned``: the same for all receivers, hence worth caching."""
    return _encode(client_event(event, room_id=room_id))


def with_unsigned(body: bytes, unsigned: dict[str, Any] | bytes | None) -> bytes:
    """Splice a receiver's ``unsigned`` (an object or its JSON text) into a body of :func:`client_event_bytes`.

    Returns JSON text, for use as ``orjson.Fragment(...)``; ``body`` itself if there is nothing to add.
    """
    if not unsigned:
        return body
    return b'%b,"unsigned":%b}' % (body[:-1], unsigned if isinstance(unsigned, bytes) else _encode(unsigned))


def stripped_state(event: Event) -> dict[str, Any]:
    """Render a state event in the short form of invites and knocks: type, state key, sender and content.

    spec: client-server-api#stripped-state
    """
    return {
        "type": event.type,
        "state_key": event.state_key if event.state_key is not None else "",
        "sender": event.sender,
        "content": event.content,
    }


def prune_stripped_state(value: Any) -> list[dict[str, Any]]:
    """Prune what another server sent as ``invite_room_state`` or ``knock_room_state`` to the stripped form.

    It may hold anything: whole PDUs, junk. Entries that are no state events are left out, a list that is no list is
    empty. Nothing of what is left is proven: it is not signed, or its signatures have not been checked.
    """
    if not isinstance(value, list):
        return []
    pruned = []
    for entry in value:
        if not isinstance(entry, dict):
            continue
        event_type, state_key, sender = entry.get("type"), entry.get("state_key"), entry.get("sender")
        texts = (event_type, state_key, sender)
        if all(isinstance(text, str) for text in texts) and isinstance(entry.get("content"), dict):
            stripped = {"type": event_type, "state_key": state_key, "sender": sender, "content": entry["content"]}
            pruned.append(stripped)
    return pruned


def _encode(value: Any) -> bytes:
    """Encode JSON; events of room versions 1 to 5 may hold integers too large, and text too odd, for orjson."""
    try:
        return orjson.dumps(value)
    except _ORJSON_LIMITS_EXCEEDED:
        return json.dumps(value, separators=(",", ":")).encode()
