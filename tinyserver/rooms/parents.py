"""Which of a room's forward extremities a new event follows, and what that says of the state before it.

An event names a few parents at most. A room that has come apart can have more ends than that; then the state before
the event is what its parents resolve to, not the room's current state.

spec: server-server-api#pdus, server-server-api#definitions
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tinyserver.protocol.auth_rules import check_auth
from tinyserver.protocol.auth_state import CREATE
from tinyserver.protocol.events import MAX_PREV_EVENTS, Event
from tinyserver.rooms.resolution import resolve_roots, resolved_events_at
from tinyserver.storage import events, room_state, state_trie
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

StateKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Parents:
    """The parents of a new event.

    Attributes:
        stored: the events.
        before: what the authorization rules want to see of the state before it.
        current: the same of the room's current state.
        auth_events: those of `before` that the event has to name.
    """

    stored: Collection[StoredEvent]
    before: Mapping[StateKey, StoredEvent]
    current: Mapping[StateKey, StoredEvent]
    auth_events: Collection[StoredEvent]

    def check(self, event: Event) -> None:
        """Raise AuthError unless both states allow the event: by the current one other servers would hold it back."""
        for state in (self.current,) if self.before is self.current else (self.current, self.before):
            check_auth(event, {key: stored.event for key, stored in state.items()})

    def state_before(self, tx: WriteTransaction, room: RoomRow) -> int:
        """The root of the state before the event."""
        if self.before is self.current:
            return room.state
        return resolve_roots(tx, room.version, [parent.state for parent in self.stored if parent.state is not None])


def parents_for(tx: ReadTransaction, room: RoomRow, keys: Collection[StateKey]) -> Parents:
    """The parents of an event that is about to be made.

    Args:
        keys: under which state keys the events are that have to allow it.
    """
    wanted = {*keys, CREATE}
    current = before = room_state.events_at(tx, room.state, wanted)
    chosen: Collection[int] = room.extremities
    if len(chosen) > MAX_PREV_EVENTS:
        roots = events.states_after(tx, room.extremities)
        chosen = _choose(tx, roots, current.values())
        before = resolved_events_at(tx, room.version, [roots[nid] for nid in chosen], wanted)
    auth_events = [stored for key, stored in before.items() if key in keys]
    return Parents(events.get_many(tx, chosen).values(), before, current, auth_events)


def _choose(tx: ReadTransaction, roots: Mapping[int, int], current: Collection[StoredEvent]) -> list[int]:
    """As many extremities as an event can name: the newest, those that know what allows the event in the current
    state, and for the rest the oldest, so that each is followed by something before long.

    Args:
        roots: the states after all of them.
        current: what allows the event.
    """
    oldest_first = sorted(roots)
    chosen = [oldest_first[-1]]

    def knows(end: int, stored: StoredEvent) -> bool:
        return stored.state_key is not None and state_trie.get(tx, roots[end], stored.state_key) == stored.nid

    for stored in current:
        if not any(knows(end, stored) for end in chosen):
            chosen += [end for end in reversed(oldest_first) if knows(end, stored)][:1]
    chosen += [end for end in oldest_first if end not in chosen][: MAX_PREV_EVENTS - len(chosen)]
    return chosen
