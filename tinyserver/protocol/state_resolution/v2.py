"""State resolution algorithms 2 (room versions 2 to 11) and 2.1 (room version 12).

What 2.1 changes: the iterative auth checks start from an empty state, and the full conflicted set has the conflicted
state subgraph too.

spec: rooms/v2#state-resolution, rooms/v12#state-resolution
"""

from tinyserver.protocol.auth_state import CREATE, JOIN_RULES, POWER_LEVELS, StateMapKey
from tinyserver.protocol.power_levels import PowerLevels, room_creators
from tinyserver.protocol.room_versions import RoomVersion, StateResolution
from tinyserver.protocol.state_resolution.auth_checks import PartialState
from tinyserver.protocol.state_resolution.auth_difference import (
    auth_difference,
    conflicted_events,
    conflicted_subgraph,
)
from tinyserver.protocol.state_resolution.model import (
    AuthGraph,
    EventCache,
    EventHeader,
    EventSource,
    StateSets,
    batches,
)
from tinyserver.protocol.state_resolution.ordering import mainline_ordering, reverse_topological_power_ordering


def resolve_v2(version: RoomVersion, state_sets: StateSets, source: EventSource) -> dict[StateMapKey, int | None]:
    """Resolve the states; see :func:`tinyserver.protocol.state_resolution.resolve`."""
    return _Resolution(version, state_sets, source).run()


class _Resolution:
    """One run of the algorithm: its steps in order, over the same caches."""

    def __init__(self, version: RoomVersion, state_sets: StateSets, source: EventSource) -> None:
        self.version = version
        self.state_sets = state_sets
        self.source = source
        self.graph = AuthGraph(source)
        self.events = EventCache(source)
        self.from_empty = version.state_resolution is StateResolution.V2_1
        self.headers: dict[int, EventHeader] = {}
        self._create_nid = _create_nid(state_sets)
        self._levels: dict[tuple[int | None, int | None], PowerLevels] = {}

    def run(self) -> dict[StateMapKey, int | None]:
        full = self.full_conflicted_set()
        chosen = self.with_auth_chains(self.read(full), full)
        state = PartialState(self.starting_event, self.graph, self.events, self.source)
        state.apply(reverse_topological_power_ordering(chosen, self.graph, self.sender_level, self.headers))
        power_levels = state.resolved.get(POWER_LEVELS) if self.from_empty else state.nid(POWER_LEVELS)
        state.apply(mainline_ordering(full - chosen, power_levels, self.graph, self.headers))
        return self.without_unconflicted(state.resolved)

    def full_conflicted_set(self) -> set[int]:
        """The conflicted events, the auth difference, and in 2.1 the conflicted state subgraph."""
        conflicted = conflicted_events(self.state_sets)
        full = conflicted | auth_difference(self.graph, self.state_sets)
        if self.from_empty:
            full |= conflicted_subgraph(self.graph, conflicted)
        return full

    def read(self, full: set[int]) -> list[int]:
        """Note what sorting needs of every event of the full conflicted set; returns its power events."""
        power_events = []
        for batch in batches(sorted(full)):
            self.headers.update(self.source.headers(batch))
            self.graph.fetch_edges(batch)
            self.graph.fetch_keys({*batch, *(auth for nid in batch for auth in self.graph.edges(nid))})
            power_events += self.power_events(batch)
        return power_events

    def power_events(self, nids: list[int]) -> list[int]:
        """The *power events* among these: state events that might take away somebody's ability to do something.

        Power levels and join rules count with the empty state key, the only one that has a meaning. Of member events,
        only those about somebody else than their sender have to be parsed.
        """
        found, about_others = [], []
        for nid in nids:
            key = self.graph.key(nid)
            if key in (POWER_LEVELS, JOIN_RULES):
                found.append(nid)
            elif key[0] == "m.room.member" and key[1] != self.headers[nid].sender:
                about_others.append(nid)
        self.events.fetch(about_others)
        return found + [nid for nid in about_others if self.events.get(nid).membership in ("leave", "ban")]

    def with_auth_chains(self, power_events: list[int], full: set[int]) -> set[int]:
        """Step 1: the power events, and what of their auth chains is in the full conflicted set."""
        chosen = set(power_events)
        todo = list(power_events)
        while todo:
            for auth in self.graph.edges(todo.pop()):
                if auth in full and auth not in chosen:
                    chosen.add(auth)
                    todo.append(auth)
        return chosen

    def sender_level(self, nid: int) -> int:
        """The power level of an event's sender, by the event's own auth events."""
        cited = self.graph.cited(nid, POWER_LEVELS)
        create = self.graph.cited(nid, CREATE) if self.version.create_in_auth_events else self._create_nid
        levels = self._levels.get((cited, create))
        if levels is None:
            content = None if cited is None else self.events.get(cited).content
            creators = frozenset[str]() if create is None else room_creators(self.events.get(create))
            levels = self._levels[cited, create] = PowerLevels(content, creators, self.version)
        return levels.user_level(self.headers[nid].sender)

    def starting_event(self, key: StateMapKey) -> int | None:
        """The state that the iterative auth checks start from: the unconflicted state map, or in 2.1 nothing but the
        create event, which the room ID implies."""
        if not self.from_empty:
            return self.state_sets.unconflicted(key)
        return self._create_nid if key == CREATE else None

    def without_unconflicted(self, resolved: dict[StateMapKey, int]) -> dict[StateMapKey, int | None]:
        """Step 5: unconflicted events stay what they are."""
        answer: dict[StateMapKey, int | None] = dict.fromkeys(self.state_sets.conflicted)
        for key, nid in resolved.items():
            if key in answer or self.state_sets.unconflicted(key) is None:
                answer[key] = nid
        return answer


def _create_nid(state_sets: StateSets) -> int | None:
    """The room's create event."""
    found = state_sets.unconflicted(CREATE)
    if found is not None:
        return found
    return next((nid for nid in state_sets.conflicted.get(CREATE, ()) if nid is not None), None)
