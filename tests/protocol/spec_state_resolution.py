"""State resolution as the specification words it, over whole states and whole auth chains: slow, plain, an oracle.

Only the authorisation rules are shared with the program. Algorithms 2 and 2.1.

spec: rooms/v2#state-resolution, rooms/v12#state-resolution
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from tinyserver.protocol.auth_rules import auth_keys_for, check_auth
from tinyserver.protocol.auth_state import AuthError, StateMapKey
from tinyserver.protocol.events import Event
from tinyserver.protocol.power_levels import PowerLevels, room_creators
from tinyserver.protocol.room_versions import StateResolution

CREATE = ("m.room.create", "")
POWER_LEVELS = ("m.room.power_levels", "")
State = Mapping[StateMapKey, str]


class SpecResolver:
    """The definitions of the specification, over events by ID."""

    def __init__(self, events: Mapping[str, Event], rejected: Collection[str] = ()) -> None:
        self.events = events
        self.rejected = rejected
        self.version = next(iter(events.values())).version
        self.create = next(event for event in events.values() if event.type == "m.room.create")

    def resolve(self, states: Sequence[State]) -> dict[StateMapKey, str]:
        unconflicted = {
            key: event_id for key, event_id in states[0].items() if all(state.get(key) == event_id for state in states)
        }
        conflicted = {e for state in states for key, e in state.items() if key not in unconflicted}
        full = conflicted | self.auth_difference(states)
        from_empty = self.version.state_resolution is StateResolution.V2_1
        if from_empty:
            full |= self.subgraph(conflicted)
        chosen = self.power_events_with_chains(full)
        partial = self.iterative_auth_checks({} if from_empty else unconflicted, self.power_ordering(chosen))
        rest = self.mainline_ordering(full - chosen, partial.get(POWER_LEVELS))
        return {**self.iterative_auth_checks(partial, rest), **unconflicted}

    def chain(self, start: Iterable[str]) -> set[str]:
        """The events and their auth chains."""
        seen, todo = set(), list(start)
        while todo:
            event_id = todo.pop()
            if event_id not in seen:
                seen.add(event_id)
                todo.extend(self.events[event_id].auth_event_ids)
        return seen

    def auth_difference(self, states: Sequence[State]) -> set[str]:
        chains = [self.chain(state.values()) for state in states]
        return set.union(*chains) - set.intersection(*chains)

    def subgraph(self, conflicted: set[str]) -> set[str]:
        return {e for e in self.chain(conflicted) if self.chain([e]) & conflicted}

    def power_events_with_chains(self, full: set[str]) -> set[str]:
        chosen = set()
        todo = [event_id for event_id in full if self.is_power_event(self.events[event_id])]
        while todo:
            event_id = todo.pop()
            chosen.add(event_id)
            todo.extend(a for a in self.events[event_id].auth_event_ids if a in full and a not in chosen)
        return chosen

    def is_power_event(self, event: Event) -> bool:
        if event.type == "m.room.member":
            return event.membership in ("leave", "ban") and event.sender != event.state_key
        return event.key in (POWER_LEVELS, ("m.room.join_rules", ""))

    def cited(self, event: Event, key: StateMapKey) -> Event | None:
        return next((self.events[a] for a in event.auth_event_ids if self.events[a].key == key), None)

    def sender_level(self, event: Event) -> int:
        levels = self.cited(event, POWER_LEVELS)
        creators = room_creators(self.create)
        return PowerLevels(None if levels is None else levels.content, creators, self.version).user_level(event.sender)

    def power_ordering(self, chosen: set[str]) -> list[str]:
        ordered: list[str] = []
        left = {event_id: self.events[event_id] for event_id in chosen}
        while left:
            ready = [e for e in left.values() if not any(a in left for a in e.auth_event_ids)]
            smallest = min(ready, key=lambda e: (-self.sender_level(e), e.origin_server_ts, e.event_id))
            ordered.append(smallest.event_id)
            del left[smallest.event_id]
        return ordered

    def mainline(self, event: Event) -> list[str]:
        """The power levels events behind this event."""
        found = []
        current = self.cited(event, POWER_LEVELS)
        while current is not None:
            found.append(current.event_id)
            current = self.cited(current, POWER_LEVELS)
        return found

    def mainline_ordering(self, event_ids: set[str], power_levels: str | None) -> list[str]:
        mainline = [] if power_levels is None else [power_levels, *self.mainline(self.events[power_levels])]

        def order(event_id: str) -> tuple[float, int, str]:
            event = self.events[event_id]
            on_it = [mainline.index(p) for p in self.mainline(event) if p in mainline]
            return -(on_it[0] if on_it else float("inf")), event.origin_server_ts, event_id

        return sorted(event_ids, key=order)

    def iterative_auth_checks(self, start: State, ordered: Iterable[str]) -> dict[StateMapKey, str]:
        state = dict(start)
        for event_id in ordered:
            event = self.events[event_id]
            seen = {self.events[a].key: self.events[a] for a in event.auth_event_ids if a not in self.rejected}
            wanted = auth_keys_for(self.version, event.type, event.sender, event.state_key, event.content)
            seen.update({key: self.events[state[key]] for key in wanted if key in state})
            if self.version.room_id_is_create_hash:
                seen[CREATE] = self.create
            try:
                check_auth(event, seen)
            except AuthError:
                continue
            state[event.key] = event_id
        return state
