"""Local events: from what somebody here wants to say to a hashed and signed PDU."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tinyserver.protocol import base64
from tinyserver.protocol.event_hashes import add_content_hash, reference_hash, sign_event
from tinyserver.protocol.events import Event, build_pdu, parse_pdu
from tinyserver.protocol.room_versions import EventIdFormat, RoomVersion
from tinyserver.protocol.signing import SigningKey
from tinyserver.protocol.sticky import STICKY
from tinyserver.storage.stored_event import StoredEvent


@dataclass(frozen=True, slots=True)
class EventDraft:
    """What a local user or service wants to send.

    `device` and `txn_id` make it idempotent; `origin_server_ts` (ms) overrides the clock for those who may; `sticky` is
    for how many milliseconds it is sticky.
    """

    type: str
    sender: str
    content: Mapping[str, Any] = field(default_factory=dict)
    state_key: str | None = None
    redacts: str | None = None
    device: int | None = None
    txn_id: str | None = None
    origin_server_ts: int | None = None
    sticky: int | None = None


class EventSigner:
    """Makes PDUs in the name of this server.

    Args:
        server_name: this server.
        key: the key that signs.
    """

    def __init__(self, server_name: str, key: SigningKey) -> None:
        self.server_name = server_name
        self._key = key

    def make(
        self,
        draft: EventDraft,
        version: RoomVersion,
        *,
        room_id: str | None,
        parents: Iterable[StoredEvent],
        auth_events: Iterable[StoredEvent],
        now_ms: int,
    ) -> Event:
        """Build, hash and sign the event of a draft.

        Args:
            parents: the forward extremities that it follows, at most 20 of them (`rooms.parents`).
            room_id: None for the create event of a room version whose room ID comes from it.
            now_ms: the time for `origin_server_ts` unless the draft has its own.

        Raises:
            BadJson: the content cannot be an event of this room version (numbers, types).
            TooLarge: the event is larger than the specification allows.

        spec: server-server-api#pdus
        """
        pdu = draft_pdu(
            draft,
            version,
            self.server_name,
            room_id=room_id,
            parents=parents,
            auth_events=auth_events,
            now_ms=now_ms,
        )
        return parse_pdu(sign_event(add_content_hash(pdu), version, self.server_name, self._key), version)


def draft_pdu(
    draft: EventDraft,
    version: RoomVersion,
    server_name: str,
    *,
    room_id: str | None,
    parents: Iterable[StoredEvent],
    auth_events: Iterable[StoredEvent],
    now_ms: int,
) -> dict[str, Any]:
    """The PDU of a draft before it is hashed and signed; for the arguments see `EventSigner.make`."""
    followed = sorted(parents, key=lambda parent: parent.nid)
    auth = list(auth_events)
    pdu = build_pdu(
        version,
        room_id=room_id,
        type=draft.type,
        sender=draft.sender,
        state_key=draft.state_key,
        content=draft.content,
        prev_events=[parent.event_id for parent in followed],
        auth_events=[event.event_id for event in auth],
        depth=1 + max((parent.event.depth for parent in followed), default=0),
        origin_server_ts=now_ms if draft.origin_server_ts is None else draft.origin_server_ts,
        redacts=draft.redacts,
        event_id=_chosen_id(version, server_name),
        reference_hashes=_reference_hashes(version, [*followed, *auth]),
    )
    return pdu if draft.sticky is None else {**pdu, STICKY: {"duration_ms": draft.sticky}}


def _chosen_id(version: RoomVersion, server_name: str) -> str | None:
    if version.event_id_format is not EventIdFormat.OPAQUE:
        return None
    return f"${base64.encode_urlsafe(secrets.token_bytes(18))}:{server_name}"


def _reference_hashes(version: RoomVersion, events: Iterable[StoredEvent]) -> dict[str, str]:
    if not version.references_with_hashes:
        return {}
    return {stored.event_id: base64.encode(reference_hash(stored.event.pdu, version)) for stored in events}
