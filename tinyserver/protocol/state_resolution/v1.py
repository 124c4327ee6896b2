"""State resolution of room version 1.

Two states conflict under a key only if they hold different events there: what just one of them has is part of the
result. Within one pass every key is resolved against the state that the pass before has reached, so the order of the
keys does not matter.

spec: rooms/v1#state-resolution
"""

from collections.abc import Callable, Iterable
from hashlib import sha1

from tinyserver.protocol.auth_rules import check_auth
from tinyserver.protocol.auth_state import JOIN_RULES, POWER_LEVELS, AuthError, StateMapKey
from tinyserver.protocol.events import Event
from tinyserver.protocol.state_resolution.model import EventCache, EventSource, StateSets, batches


def resolve_v1(state_sets: StateSets, source: EventSource) -> dict[StateMapKey, int | None]:
    """Resolve the states; see :func:`tinyserver.protocol.state_resolution.resolve`."""
    resolved: dict[StateMapKey, int | None] = {}
    conflicts: dict[StateMapKey, list[int]] = {}
    for key, values in state_sets.conflicted.items():
        nids = sorted({nid for nid in values if nid is not None})
        if len(nids) > 1:
            conflicts[key] = nids
        elif nids:
            resolved[key] = nids[0]
    events = EventCache(source)
    state = _ResolvedSoFar(resolved, state_sets, events)
    for in_pass in (_is_power_levels, _is_join_rules, _is_member):
        keys = [key for key in conflicts if in_pass(key)]
        resolved.update(_resolve_pass(keys, conflicts, state, events, _last_allowed_in_a_row))
    others = [key for key in conflicts if key not in resolved]
    resolved.update(_resolve_pass(others, conflicts, state, events, _deepest_allowed))
    return resolved


class _ResolvedSoFar:
    """*R* of the specification, as the lookup that the authorisation rules want, with one candidate on top."""

    def __init__(self, resolved: dict[StateMapKey, int | None], state_sets: StateSets, events: EventCache) -> None:
        self._resolved = resolved
        self._state_sets = state_sets
        self._events = events
        self.candidate: Event | None = None

    def get(self, key: StateMapKey, /) -> Event | None:
        candidate = self.candidate
        if candidate is not None and candidate.key == key:
            return candidate
        nid = self._resolved.get(key)
        if nid is None:
            nid = self._state_sets.unconflicted(key)
        return None if nid is None else self._events.get(nid)


Choice = Callable[[list[Event], _ResolvedSoFar], Event]
"""Picks one of the conflicting events of a key, which come sorted by ascending depth, then descending SHA-1."""


def _resolve_pass(
    keys: Iterable[StateMapKey],
    conflicts: dict[StateMapKey, list[int]],
    state: _ResolvedSoFar,
    events: EventCache,
    choose: Choice,
) -> dict[StateMapKey, int]:
    """Resolve these keys, each against the same state."""
    chosen: dict[StateMapKey, int] = {}
    for batch in batches(keys, 64):
        events.fetch([nid for key in batch for nid in conflicts[key]])
        for key in batch:
            candidates = {nid: events.get(nid) for nid in conflicts[key]}
            by_id = {event.event_id: nid for nid, event in candidates.items()}
            winner = choose(sorted(candidates.values(), key=_depth_and_sha1), state)
            chosen[key] = by_id[winner.event_id]
            state.candidate = None
    return chosen


def _depth_and_sha1(event: Event) -> tuple[int, int]:
    digest = sha1(event.event_id.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return event.depth, -int.from_bytes(digest, "big")


def _last_allowed_in_a_row(candidates: list[Event], state: _ResolvedSoFar) -> Event:
    """For events that affect authorisation: the first is taken as it is, then each that the one before allows."""
    state.candidate = candidates[0]
    for event in candidates[1:]:
        if not _is_allowed(event, state):
            break
        state.candidate = event
    return state.candidate


def _deepest_allowed(candidates: list[Event], state: _ResolvedSoFar) -> Event:
    """For all other events: the last that is allowed. If none is, because all their senders have left for example, the
    first: the room must not lose a name or a topic over that."""
    for event in reversed(candidates):
        if _is_allowed(event, state):
            return event
    return candidates[0]


def _is_allowed(event: Event, state: _ResolvedSoFar) -> bool:
    try:
        check_auth(event, state)
    except AuthError:
        return False
    return True


def _is_power_levels(key: StateMapKey) -> bool:
    return key == POWER_LEVELS


def _is_join_rules(key: StateMapKey) -> bool:
    return key == JOIN_RULES


def _is_member(key: StateMapKey) -> bool:
    return key[0] == "m.room.member"
