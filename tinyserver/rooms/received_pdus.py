"""The first step of an event's path: what needs no knowledge of the room but its version."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinyserver.protocol.canonical_json import CanonicalJsonError
from tinyserver.protocol.errors import BadJson, MatrixError, TooLarge, bare
from tinyserver.protocol.event_hashes import check_content_hash
from tinyserver.protocol.events import Event, parse_pdu
from tinyserver.protocol.redaction import redact
from tinyserver.storage.rooms import RoomRow


def parse_all(room: RoomRow, pdus: Iterable[Any]) -> list[Event | MatrixError]:
    """The events of PDUs, redacted where their hash does not fit; or what is wrong with each."""
    return [_parse(room, pdu) for pdu in pdus]


def _parse(room: RoomRow, pdu: Any) -> Event | MatrixError:
    """A PDU's event without what others wrote beside it, redacted if its hash does not fit; or why it is none."""
    try:
        if isinstance(pdu, dict) and "unsigned" in pdu:
            pdu = {name: value for name, value in pdu.items() if name != "unsigned"}
        event = parse_pdu(pdu, room.version)
        if event.room_id != room.room_id:
            return BadJson(f"The event belongs to the room {event.room_id}")
        if not check_content_hash(event.pdu):
            event = parse_pdu(redact(event.pdu, room.version), room.version)
        return event
    except (BadJson, TooLarge) as error:
        return bare(error)
    except CanonicalJsonError as error:
        return BadJson(f"The event holds a value that is not allowed in its room version: {error}")
