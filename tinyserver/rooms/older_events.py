"""Storing a stretch of a room's history that other servers told: events before one that is here, back to some point.

The state before each of them has to be known, for who may see it depends on that. Where the stretch ends it is what
another server tells, or follows backwards from an event that is here: between messages that follow one another the
state is the same. From there on it follows forwards.

spec: server-server-api#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tinyserver.protocol.auth_rules import AuthError, check_auth
from tinyserver.protocol.events import Event
from tinyserver.rooms.ancestors import told_state
from tinyserver.rooms.append import GAP, Admission, Appender
from tinyserver.rooms.authorising import auth_state, authorise
from tinyserver.rooms.resolution import resolve_roots
from tinyserver.storage import events, graph, rooms, state_trie, timeline
from tinyserver.storage.graph import Gap
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_STRETCH = 100
"""How many events are stored at a time."""
Events = Mapping[str, Event]
"""By ID, each after its parents."""


def newest_gaps(tx: ReadTransaction, room: RoomRow, oldest: int, newest: int, limit: int) -> list[Gap]:
    """The newest gap in a part of the timeline, and those others before which the missing events get their places
    together with what is missing before the newest.

    Args:
        oldest, newest: places, both inclusive.
    """
    gaps = graph.gaps(tx, room.nid, room.version, oldest, newest, limit)
    if not gaps:
        return []
    top = timeline.free_below(tx, room.nid, gaps[0].place, MAX_STRETCH)
    return [gap for gap in gaps if timeline.free_below(tx, room.nid, gap.place, MAX_STRETCH) == top]


def unplaced(tx: ReadTransaction, found: Events) -> dict[str, Event]:
    """Those of the events around which no state is known here."""
    return {event_id: event for event_id, event in found.items() if not _has_state(tx, event_id)}


def needs_state(tx: ReadTransaction, gaps: Sequence[Gap], found: Events) -> list[str]:
    """Those of the events before which another server has to tell the state: the IDs."""
    derived = _follow_back(found, {child.event_id: child.event for child in _children(tx, gaps)})
    needed = []
    for event_id, event in found.items():
        known = all(parent in found or _has_state(tx, parent) for parent in event.prev_event_ids)
        if not known and event_id not in derived:
            needed.append(event_id)
    return needed


def store(
    tx: WriteTransaction,
    appender: Appender,
    room: RoomRow,
    gaps: Sequence[Gap],
    found: Events,
    told: Mapping[str, Sequence[int]],
) -> int:
    """Store events that are missing before others.

    Args:
        gaps: where they are missing, the newest first; none: somewhere in the history of which nothing newer is here.
        found: checked events of the room that are not here.
        told: the states (nids of stored events) before some of them, as another server says.

    Returns:
        How many are in the timeline now. Those whose auth events or states are not known are left out.
    """
    befores = _states_back(tx, gaps, found)
    bottom = timeline.bottom(tx, room.nid)
    top = timeline.free_below(tx, room.nid, gaps[0].place, MAX_STRETCH) if gaps else bottom - GAP
    places = dict(zip(found, range(top - len(found) + 1, top + 1), strict=True))
    shown: list[int] = []
    hidden: list[int] = []
    for event_id, event in found.items():
        before = _state_before(tx, room, event, told.get(event_id), befores.get(event_id))
        auth = events.find_many(tx, event.auth_event_ids)
        if before is None or any(auth_id not in auth for auth_id in event.auth_event_ids):
            continue
        known = events.by_id(tx, event_id)
        if known is not None and known.state is not None:
            continue  # it has come meanwhile
        stored = _admit(tx, appender, room, event, before, set(auth.values()), known, places[event_id])
        (hidden if stored.place is None else shown).append(stored.nid)
    for nid in hidden:  # what precedes them is to be found nevertheless
        follower = shown[0] if shown else next((gap.child for gap in gaps), None)
        if follower is not None:
            graph.follow_instead(tx, room.nid, nid, follower)
    return len(shown)


def _admit(
    tx: WriteTransaction,
    appender: Appender,
    room: RoomRow,
    event: Event,
    before: int,
    auth: Collection[int],
    known: StoredEvent | None,
    place: int,
) -> StoredEvent:
    flags = Flag.NONE
    try:
        state = auth_state(tx, before, event)
        authorise(room, event, list(events.get_many(tx, auth).values()), state)
        check_auth(event, state)
    except AuthError:
        flags = Flag.REJECTED
    outlier = None if known is None else known.nid
    admission = Admission(event, before, tuple(sorted(auth)), flags=flags, outlier=outlier)
    return appender.prepend(tx, rooms.get(tx, room.nid), admission, place)


def _state_before(
    tx: WriteTransaction, room: RoomRow, event: Event, told: Sequence[int] | None, derived: int | None
) -> int | None:
    """The root of the state before an event, or None."""
    if not event.prev_event_ids:
        return state_trie.EMPTY
    nids = events.find_many(tx, event.prev_event_ids)
    parents = [events.get(tx, nid) for nid in nids.values()]
    roots = [parent.state for parent in parents if parent.state is not None and parent.room == room.nid]
    if len(roots) == len(set(event.prev_event_ids)):
        return resolve_roots(tx, room.version, roots)
    if told is not None:
        return resolve_roots(tx, room.version, [*roots, told_state(tx, room.nid, told)])
    return derived


def _children(tx: ReadTransaction, gaps: Sequence[Gap]) -> list[StoredEvent]:
    return [child for child in events.get_many(tx, {gap.child for gap in gaps}).values() if child.state is not None]


def _follow_back(found: Events, children: Events) -> dict[str, str]:
    """The events before which the state is the one before an event that is here: the ID of that event by theirs."""
    origins: dict[str, str] = {}
    after: dict[str, str] = {}
    for event_id, event in children.items():
        if len(event.prev_event_ids) == 1:
            after[event.prev_event_ids[0]] = event_id
    for event_id in reversed(list(found)):
        event = found[event_id]
        if event_id in after and not event.is_state:
            origins[event_id] = after[event_id]
            if len(event.prev_event_ids) == 1:
                after[event.prev_event_ids[0]] = after[event_id]
    return origins


def _states_back(tx: WriteTransaction, gaps: Sequence[Gap], found: Events) -> dict[str, int]:
    """The roots of the states before those events for which they follow from an event that is here."""
    children = {child.event_id: child for child in _children(tx, gaps)}
    roots: dict[str, int] = {}
    for event_id, child in children.items():
        assert child.state is not None
        root = child.state
        if child.state_key is not None and not child.rejected:
            root = state_trie.update(tx, root, {child.state_key: child.replaces})
        roots[event_id] = root
    derived = _follow_back(found, {event_id: child.event for event_id, child in children.items()})
    return {event_id: roots[origin] for event_id, origin in derived.items()}


def _has_state(tx: ReadTransaction, event_id: str) -> bool:
    nid = events.find(tx, event_id)
    return nid is not None and events.has_state(tx, nid)
