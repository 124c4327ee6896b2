"""What the resolver asks of the outside: events, their auth edges, and the states to resolve."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from tinyserver.protocol.auth_state import StateMapKey
from tinyserver.protocol.events import Event

Item = TypeVar("Item")

BATCH = 128
"""How many events are asked of an :class:`EventSource` at once."""


class EventHeader(NamedTuple):
    """What sorting needs of an event. Of events that are otherwise equal, the one with the smaller header goes first:
    the older one, else the one with the smaller ID."""

    origin_server_ts: int
    event_id: str
    sender: str


class EventSource(Protocol):
    """The stored events of a room. Every method takes a batch and answers for every ``nid`` in it."""

    def auth_nids(self, nids: Collection[int], /) -> Mapping[int, Sequence[int]]:
        """The auth events of each event, each a smaller number than the event's own."""

    def keys(self, nids: Collection[int], /) -> Mapping[int, StateMapKey]:
        """Type and state key of each event (all of them are state events)."""

    def headers(self, nids: Collection[int], /) -> Mapping[int, EventHeader]:
        """The headers of the events, for which no event should have to be parsed."""

    def events(self, nids: Collection[int], /) -> Mapping[int, Event]:
        """The events, parsed, as far as the authorisation rules need them."""

    def rejected(self, nids: Collection[int], /) -> AbstractSet[int]:
        """Those of the events which were rejected."""


class StateSets(Protocol):
    """Two or more states of a room, divided into what they agree on and what they do not."""

    @property
    def conflicted(self) -> Mapping[StateMapKey, Sequence[int | None]]:
        """The keys on which the states differ: per key one value for each state, ``None`` where it has no such key."""

    def unconflicted(self, key: StateMapKey, /) -> int | None:
        """The event which all states hold under this key; ``None`` if they differ, or if none has the key."""

    def unconflicted_newer_than(self, nid: int, /) -> Iterable[int]:
        """The events on which all states agree and whose number is greater than ``nid``, greatest number first.

        The resolver may stop reading anywhere: the more lazily they are found, the better.
        """


class AuthGraph:
    """The auth edges and keys of events, fetched in batches and remembered during one resolution."""

    __slots__ = ("_edges", "_keys", "_source")

    def __init__(self, source: EventSource) -> None:
        self._source = source
        self._edges: dict[int, Sequence[int]] = {}
        self._keys: dict[int, StateMapKey] = {}

    def fetch_edges(self, nids: Iterable[int]) -> None:
        """Load the auth edges of these events, unless they are known."""
        missing = [nid for nid in nids if nid not in self._edges]
        if missing:
            self._edges.update(self._source.auth_nids(missing))

    def fetch_keys(self, nids: Iterable[int]) -> None:
        """Load type and state key of these events, unless they are known."""
        missing = [nid for nid in nids if nid not in self._keys]
        if missing:
            self._keys.update(self._source.keys(missing))

    def edges(self, nid: int) -> Sequence[int]:
        """The auth events of an event."""
        found = self._edges.get(nid)
        if found is None:
            self.fetch_edges((nid,))
            found = self._edges[nid]
        return found

    def edges_of(self, nids: Collection[int]) -> Mapping[int, Sequence[int]]:
        """The auth events of these events, not remembered."""
        return self._source.auth_nids(nids)

    def key(self, nid: int) -> StateMapKey:
        """Type and state key of an event."""
        found = self._keys.get(nid)
        if found is None:
            self.fetch_keys((nid,))
            found = self._keys[nid]
        return found

    def has_edges(self, nid: int) -> bool:
        """Whether the auth edges of this event have been fetched."""
        return nid in self._edges

    def cited(self, nid: int, key: StateMapKey) -> int | None:
        """The event with this key among the auth events of an event."""
        for auth in self.edges(nid):
            if self.key(auth) == key:
                return auth
        return None


class EventCache:
    """Parsed events, at most ``capacity`` at a time: a resolution of any size keeps to a megabyte or two."""

    __slots__ = ("_capacity", "_events", "_source")

    def __init__(self, source: EventSource, capacity: int = 512) -> None:
        self._source = source
        self._capacity = capacity
        self._events: dict[int, Event] = {}

    def fetch(self, nids: Iterable[int]) -> None:
        """Load these events (no more than a few batches); those that were asked for longest ago make room."""
        events = self._events
        missing = []
        for nid in nids:
            known = events.pop(nid, None)
            if known is None:
                missing.append(nid)
            else:
                events[nid] = known  # moves to the end
        if missing:
            events.update(self._source.events(missing))
            excess = len(events) - self._capacity
            if excess > 0:
                for nid in list(islice(events, excess)):
                    del events[nid]

    def get(self, nid: int) -> Event:
        """One event."""
        found = self._events.get(nid)
        if found is None:
            self.fetch((nid,))
            found = self._events[nid]
        return found


def batches(items: Iterable[Item], size: int = BATCH) -> Iterator[list[Item]]:
    """The items in lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
