"""The iterative auth checks: apply events one after the other, if the state reached so far allows them.

spec: rooms/v12#state-resolution (iterative auth checks)
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

from tinyserver.protocol.auth_rules import check_auth
from tinyserver.protocol.auth_state import AuthError, StateMapKey
from tinyserver.protocol.events import Event
from tinyserver.protocol.state_resolution.model import AuthGraph, EventCache, EventSource, batches


class PartialState:
    """The state as far as it is resolved.

    As a lookup for the authorisation rules it answers with the resolved event of a key, else with that of the state
    which the resolution starts from, else with the auth event that the event under check cites for it.

    :param starting_state: where the algorithm starts from, as a lookup.
    """

    __slots__ = ("_cited", "_events", "_graph", "_rejected", "_source", "_start", "_starting_state", "resolved")

    def __init__(
        self,
        starting_state: Callable[[StateMapKey], int | None],
        graph: AuthGraph,
        events: EventCache,
        source: EventSource,
    ) -> None:
        self.resolved: dict[StateMapKey, int] = {}
        self._starting_state = starting_state
        self._start: dict[StateMapKey, int | None] = {}
        self._graph = graph
        self._events = events
        self._source = source
        self._cited: Sequence[int] = ()
        self._rejected: AbstractSet[int] = frozenset()

    def nid(self, key: StateMapKey) -> int | None:
        """The event under this key in the state reached so far."""
        found = self.resolved.get(key)
        if found is not None:
            return found
        if key not in self._start:
            self._start[key] = self._starting_state(key)
        return self._start[key]

    def get(self, key: StateMapKey, /) -> Event | None:
        """What the authorisation rules see under this key."""
        nid = self.resolved.get(key)
        if nid is None:
            nid = self.nid(key)
            if nid is None:
                nid = self._cited_under(key)
                if nid is None:
                    return None
        return self._events.get(nid)

    def _cited_under(self, key: StateMapKey) -> int | None:
        for auth in self._cited:
            if self._graph.key(auth) == key and auth not in self._rejected:
                return auth
        return None

    def _now_for(self, auth: int) -> int:
        """What holds the key of an auth event in the state reached so far, else the auth event itself."""
        nid = self.nid(self._graph.key(auth))
        return auth if nid is None else nid

    def apply(self, ordered: Iterable[int]) -> None:
        """Run the iterative auth checks over these events."""
        graph, events, resolved = self._graph, self._events, self.resolved
        for batch in batches(ordered):
            cited = {auth for nid in batch for auth in graph.edges(nid)}
            graph.fetch_keys(cited)
            self._rejected = self._source.rejected(cited)
            events.fetch({*batch, *(self._now_for(auth) for auth in cited)})
            for nid in batch:
                event = events.get(nid)
                self._cited = graph.edges(nid)
                try:
                    check_auth(event, self)
                except AuthError:
                    continue
                resolved[event.key] = nid
