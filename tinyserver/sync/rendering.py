"""Events of the timeline and of the state in JSON, as one reader gets them.

The text of an event without its `unsigned` part is made once and kept with the event for all readers.

spec: client-server-api#room-event-format
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from tinyserver.protocol.client_events import (
    client_event,
    client_event_bytes,
    federation_event,
    unsigned_data,
    with_unsigned,
)
from tinyserver.storage import events
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync.requests import FilterSet
from tinyserver.sync.sight import Sight


def event_text(stored: StoredEvent) -> bytes:
    """The JSON of an event without `unsigned` and `room_id`, shared by all readers."""
    text = stored.client_bytes
    if text is None:
        text = stored.client_bytes = client_event_bytes(stored.event, room_id=False)
    return text


class EventRenderer:
    """Renders events for one reader, within one transaction.

    Args:
        now_ms: the time, for `age`.
        device: nid of the reader's device, which gets its transaction IDs back.
        filters: the format that the reader wants.
    """

    __slots__ = ("_device", "_filters", "_now_ms", "_tx")

    def __init__(self, tx: ReadTransaction, now_ms: int, device: int | None, filters: FilterSet) -> None:
        self._tx = tx
        self._now_ms = now_ms
        self._device = device
        self._filters = filters

    def timeline_event(self, stored: StoredEvent, membership: str, sight: Sight | None) -> bytes:
        """An event of the timeline.

        Args:
            membership: the reader's at the event.
            sight: what the reader sees, where that is not everything.
        """
        if stored.replaces is None and stored.redacted_by is None and self._filters.whole_events:
            age = self._now_ms - stored.event.origin_server_ts
            text = b'%b,"unsigned":{"age":%d,"membership":"%b"' % (event_text(stored)[:-1], age, membership.encode())
            if self._is_own(stored):
                text += b',"transaction_id":' + orjson.dumps(stored.txn_id)
            return text + b"}}"
        return self._finish(stored, self._unsigned(stored, membership, sight))

    def state_event(self, stored: StoredEvent) -> bytes:
        """An event of the state."""
        age = self._now_ms - stored.event.origin_server_ts
        if stored.redacted_by is None and self._filters.whole_events:
            return b'%b,"unsigned":{"age":%d}}' % (event_text(stored)[:-1], age)
        return self._finish(stored, unsigned_data(age=age, redacted_because=self._redaction(stored)))

    def _is_own(self, stored: StoredEvent) -> bool:
        return stored.txn_id is not None and stored.device is not None and stored.device == self._device

    def _unsigned(self, stored: StoredEvent, membership: str, sight: Sight | None) -> dict[str, Any]:
        data = unsigned_data(
            age=self._now_ms - stored.event.origin_server_ts,
            membership=membership,
            transaction_id=stored.txn_id if self._is_own(stored) else None,
            redacted_because=self._redaction(stored),
        )
        if stored.replaces is not None:
            replaced = events.get(self._tx, stored.replaces)
            data["replaces_state"] = replaced.event_id
            if sight is None or sight.sees(replaced):
                data["prev_content"] = replaced.event.content
                data["prev_sender"] = replaced.event.sender
        return data

    def _redaction(self, stored: StoredEvent) -> dict[str, Any] | None:
        if stored.redacted_by is None:
            return None
        return client_event(events.get(self._tx, stored.redacted_by).event, room_id=False)

    def _finish(self, stored: StoredEvent, unsigned: dict[str, Any]) -> bytes:
        filters = self._filters
        if filters.whole_events:
            return with_unsigned(event_text(stored), unsigned)
        if filters.federation_format:
            rendered = federation_event(stored.event, unsigned=unsigned)
        else:
            rendered = client_event(stored.event, room_id=False, unsigned=unsigned)
        if filters.projection is not None:
            rendered = filters.projection.apply(rendered)
        return json_text(rendered)


def json_text(value: Any) -> bytes:
    """JSON in UTF-8. Old room versions have integers of more than 64 bits, which need the slower way."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
