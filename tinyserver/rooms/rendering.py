"""Events of the timeline and of the state in JSON, as one reader gets them.

The text of an event without its `unsigned` part is made once and kept with the event for all readers.

spec: client-server-api#room-event-format
"""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

import orjson

from tinyserver.protocol.client_events import (
    client_event,
    client_event_bytes,
    federation_event,
    unsigned_data,
    with_unsigned,
)
from tinyserver.protocol.events import Event
from tinyserver.protocol.filters import Projection
from tinyserver.protocol.redaction import redact
from tinyserver.protocol.sticky import STICKY, TTL, sticky_until
from tinyserver.rooms.aggregations import Aggregations
from tinyserver.rooms.delay_ids import delay_of
from tinyserver.rooms.visibility import Sight
from tinyserver.storage import events
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction


class EventFormat(Protocol):
    """In which form a reader wants events (a part of filters)."""

    @property
    def federation_format(self) -> bool:
        """Whether as they came over federation."""

    @property
    def projection(self) -> Projection | None:
        """The parts of events that are wanted, or None: all."""

    @property
    def whole_events(self) -> bool:
        """Whether neither applies, so that the cached text will do."""


class _ClientFormat:
    """Whole events in the client format."""

    federation_format = False
    projection = None
    whole_events = True


CLIENT_FORMAT: Final[EventFormat] = _ClientFormat()


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
        event_format: the form that the reader wants.
        room_id: the room of all the events, if it is to be in them.
    """

    __slots__ = ("_device", "_format", "_now_ms", "_room_id", "_room_part", "_tx")

    def __init__(
        self,
        tx: ReadTransaction,
        now_ms: int,
        device: int | None,
        event_format: EventFormat = CLIENT_FORMAT,
        room_id: str | None = None,
    ) -> None:
        self._tx = tx
        self._now_ms = now_ms
        self._device = device
        self._format = event_format
        self._room_id = room_id
        self._room_part = b"" if room_id is None else b',"room_id":' + orjson.dumps(room_id)

    def timeline_event(
        self, stored: StoredEvent, membership: str | None, sight: Sight | None, aggregations: Aggregations | None = None
    ) -> bytes:
        """An event of the timeline.

        Args:
            membership: the reader's at the event (None: the reader is no single user).
            sight: what the reader sees, where that is not everything.
            aggregations: what its children amount to, if that is to be bundled with it.
        """
        event = stored.event if sight is None else sight.event_for(stored)
        relations = None if aggregations is None else self._relations(stored, aggregations)
        if stored.replaces is None and stored.redacted_by is None and self._format.whole_events:
            text = event_text(stored) if event is stored.event else client_event_bytes(event, room_id=False)
            age = self._now_ms - stored.event.origin_server_ts
            text = b'%b%b,"unsigned":{"age":%d' % (text[:-1], self._room_part, age)
            if membership is not None:
                text += b',"membership":"%b"' % membership.encode()
            if self._is_own(stored):
                delay_id = delay_of(stored.txn_id or "")
                if delay_id is None:
                    text += b',"transaction_id":' + orjson.dumps(stored.txn_id)
                else:
                    text += b',"org.matrix.msc4140.delay_id":' + orjson.dumps(delay_id)
            if relations is not None:
                text += b',"m.relations":' + relations
            if STICKY in event.pdu and (left := self._sticky_for(event)) > 0:
                text += b',"%b":%d' % (TTL.encode(), left)
            return text + b"}}"
        return self._finish(stored, event, self._unsigned(stored, membership, sight, relations))

    def event_with(self, stored: StoredEvent, more: dict[str, Any]) -> bytes:
        """An event of the timeline for somebody who sees everything, with more in its `unsigned`."""
        return self._finish(stored, stored.event, {**self._unsigned(stored, None, None, None), **more})

    def bundled_event(self, stored: StoredEvent, aggregations: Aggregations) -> bytes:
        """An event of the timeline with what is bundled with it, for a reader with the sight of the aggregations."""
        sight = aggregations.sight
        return self.timeline_event(stored, sight.membership_in(stored.state), sight, aggregations)

    def redacted_event(self, stored: StoredEvent, aggregations: Aggregations) -> bytes:
        """An event as if it had been redacted, with what is bundled with it: the sender is ignored by the reader."""
        sight, event = aggregations.sight, stored.event
        reduced = Event.from_trusted(redact(event.pdu, event.version), event.version, event.event_id)
        relations = self._relations(stored, aggregations)
        return self._finish(
            stored, reduced, self._unsigned(stored, sight.membership_in(stored.state), sight, relations)
        )

    def _relations(self, stored: StoredEvent, aggregations: Aggregations) -> bytes | None:
        """The JSON of `m.relations`. What is bundled is an event itself, with what is bundled with that: the newest
        event of a thread has edits, but cannot root a thread, and an edit has nothing."""
        found = aggregations.of(stored)
        if found is None:
            return None
        parts = []
        if found.edit is not None:
            sight = aggregations.sight
            edit = self.timeline_event(found.edit, sight.membership_in(found.edit.state), sight)
            parts.append(b'"m.replace":' + edit)
        if found.references:
            parts.append(b'"m.reference":' + json_text({"chunk": [{"event_id": each} for each in found.references]}))
        if found.thread is not None:
            parts.append(
                b'"m.thread":{"latest_event":%b,"count":%d,"current_user_participated":%b}'
                % (
                    self.bundled_event(found.thread.latest, aggregations),
                    found.thread.count,
                    b"true" if found.thread.participated else b"false",
                )
            )
        return b"{%b}" % b",".join(parts)

    def state_event(self, stored: StoredEvent) -> bytes:
        """An event of the state."""
        age = self._now_ms - stored.event.origin_server_ts
        if stored.redacted_by is None and self._format.whole_events:
            return b'%b%b,"unsigned":{"age":%d}}' % (event_text(stored)[:-1], self._room_part, age)
        unsigned = unsigned_data(age=age, redacted_because=self._redaction(stored))
        return self._finish(stored, stored.event, unsigned)

    def _is_own(self, stored: StoredEvent) -> bool:
        return stored.txn_id is not None and stored.device is not None and stored.device == self._device

    def _unsigned(
        self, stored: StoredEvent, membership: str | None, sight: Sight | None, relations: bytes | None
    ) -> dict[str, Any]:
        txn_id = stored.txn_id if self._is_own(stored) else None
        delay_id = None if txn_id is None else delay_of(txn_id)
        data = unsigned_data(
            age=self._now_ms - stored.event.origin_server_ts,
            membership=membership,
            transaction_id=txn_id if delay_id is None else None,
            redacted_because=self._redaction(stored),
            relations=None if relations is None else json.loads(relations),
        )
        if delay_id is not None:
            data["org.matrix.msc4140.delay_id"] = delay_id
        if (left := self._sticky_for(stored.event)) > 0:
            data[TTL] = left
        if stored.replaces is not None:
            replaced = events.get(self._tx, stored.replaces)
            data["replaces_state"] = replaced.event_id
            if sight is None or sight.sees(replaced):
                shown = replaced.event if sight is None else sight.event_for(replaced)
                data["prev_content"] = shown.content
                data["prev_sender"] = shown.sender
        return data

    def _sticky_for(self, event: Event) -> int:
        """For how many milliseconds an event is still sticky, as far as it tells by itself; not positive: it is not."""
        until = sticky_until(event.pdu, self._now_ms)
        return 0 if until is None else until - self._now_ms

    def _redaction(self, stored: StoredEvent) -> dict[str, Any] | None:
        if stored.redacted_by is None:
            return None
        redaction = events.get(self._tx, stored.redacted_by)
        return client_event(redaction.event, room_id=self._room_id is not None)

    def _finish(self, stored: StoredEvent, event: Event, unsigned: dict[str, Any]) -> bytes:
        wanted = self._format
        if wanted.whole_events:
            text = event_text(stored) if event is stored.event else client_event_bytes(event, room_id=False)
            return with_unsigned(text[:-1] + self._room_part + b"}" if self._room_part else text, unsigned)
        if wanted.federation_format:
            rendered = federation_event(event, unsigned=unsigned)
        else:
            rendered = client_event(event, room_id=self._room_id is not None, unsigned=unsigned)
        if wanted.projection is not None:
            rendered = wanted.projection.apply(rendered)
        return json_text(rendered)


def json_text(value: Any) -> bytes:
    """JSON in UTF-8. Old room versions have integers of more than 64 bits, which need the slower way."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
