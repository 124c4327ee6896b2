"""An event together with what the server decided about it."""

from __future__ import annotations

from enum import IntFlag

from tinyserver.protocol.events import Event


class Flag(IntFlag):
    """What became of an event."""

    NONE = 0
    """It is part of the room."""
    REJECTED = 1
    """It failed authorisation: kept, never shown, never part of any state."""
    SOFT_FAILED = 2
    """Authorised where it was sent, but not by the current state: not shown, not referred to."""
    OUTLIER = 4
    """Known for its content only (auth events, state of a joined room): no state around it is known."""
    REDACTED = 8
    """Its body has been reduced by a redaction."""
    DATED = 32
    """An application service chose its time."""
    PARENT = 16
    """Events relate to it (or did) in a way that is aggregated."""


class StoredEvent:
    """An event as it stands in the database. Never changed in place; shared between threads.

    `nid` is the event's place in the one order, `room`, `type_nid`, `sender_nid`, `state_key_nid` are interned
    numbers, `place` its order within the room's timeline (None: not in it), `state` the root of the room's state
    after it, `replaces` the nid of the event that held its state key before, `thread` the nid of the thread's
    root, `device`/`txn_id` who sent it from here, `weight` about how many bytes it occupies in memory.
    """

    __slots__ = (
        "auth",
        "client_bytes",
        "device",
        "event",
        "flags",
        "nid",
        "notify",
        "place",
        "redacted_by",
        "replaces",
        "room",
        "sender_nid",
        "state",
        "state_key_nid",
        "thread",
        "txn_id",
        "type_nid",
        "weight",
    )

    def __init__(
        self,
        *,
        nid: int,
        room: int,
        event: Event,
        type_nid: int,
        sender_nid: int,
        state_key_nid: int | None,
        place: int | None,
        flags: int,
        state: int | None,
        replaces: int | None,
        redacted_by: int | None,
        notify: int,
        thread: int | None,
        device: int | None,
        txn_id: str | None,
        auth: tuple[int, ...],
        weight: int,
    ) -> None:
        self.nid = nid
        self.room = room
        self.event = event
        self.type_nid = type_nid
        self.sender_nid = sender_nid
        self.state_key_nid = state_key_nid
        self.place = place
        self.flags = flags
        self.state = state
        self.replaces = replaces
        self.redacted_by = redacted_by
        self.notify = notify
        self.thread = thread
        self.device = device
        self.txn_id = txn_id
        self.auth = auth
        self.weight = weight
        self.client_bytes: bytes | None = None
        """The client-server rendering without `unsigned`, made when first needed and shared by all receivers."""

    @property
    def event_id(self) -> str:
        return self.event.event_id

    @property
    def rejected(self) -> bool:
        return bool(self.flags & Flag.REJECTED)

    @property
    def state_key(self) -> tuple[int, int] | None:
        """The interned (type, state key) that the event sets, or None for a message event."""
        return None if self.state_key_nid is None else (self.type_nid, self.state_key_nid)
