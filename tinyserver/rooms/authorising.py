"""Whether an event is allowed by the events that it names, and by the state before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinyserver.protocol.auth_rules import AuthError, auth_keys_for, check_auth, check_auth_events
from tinyserver.protocol.auth_state import CREATE
from tinyserver.protocol.events import Event
from tinyserver.storage import room_state
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction


def authorise(
    room: RoomRow, event: Event, auth: Sequence[StoredEvent], before: Mapping[tuple[str, str], Event]
) -> None:
    """Authorise an event against the auth events that it names.

    Args:
        before: what the authorization rules want to see of the state before the event. Where the auth events are the
            same, the rules give the same answer for both, and the caller asks for that one.

    Raises:
        AuthError: they do not allow it, or are not what they should be.

    spec: server-server-api#checks-performed-on-receipt-of-a-pdu (4)
    """
    rejected = {stored.event_id for stored in auth if stored.rejected}
    create = before.get(CREATE) if room.version.room_id_is_create_hash else None
    check_auth_events(event, [stored.event for stored in auth], lambda cited: cited.event_id in rejected, create)
    state = {stored.event.key: stored.event for stored in auth}
    if create is not None:
        state[CREATE] = create
    if state.keys() != before.keys() or any(state[key].event_id != before[key].event_id for key in state):
        check_auth(event, state)


def is_allowed_by_auth_events(
    room: RoomRow, event: Event, auth: Sequence[StoredEvent], create: Event | None = None
) -> bool:
    """Whether the events that an outlier names, which are all that is known of the state before it, allow it.

    Args:
        create: the room's create event, where the room version leaves it out of the auth events.
    """
    if any(stored.room != room.nid for stored in auth):
        return False
    before = {stored.event.key: stored.event for stored in auth if stored.event.is_state}
    if create is not None and room.version.room_id_is_create_hash:
        before[CREATE] = create
    try:
        authorise(room, event, auth, before)
        check_auth(event, before)
    except AuthError:
        return False
    return True


def auth_state(tx: ReadTransaction, root: int, event: Event) -> dict[tuple[str, str], Event]:
    """What the authorization rules want to see of a state to judge this event."""
    keys = auth_keys_for(event.version, event.type, event.sender, event.state_key, event.content)
    return room_state.auth_state(tx, root, keys)
