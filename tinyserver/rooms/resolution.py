"""State resolution over the store: the pure algorithm of `protocol.state_resolution` fed from tries and event rows.

Only the keys on which the states differ are ever looked at; a room with one forward extremity never comes here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.protocol.state_resolution import EventHeader, resolve
from tinyserver.storage import auth_graph, events, names, room_state, state_trie
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def resolve_roots(tx: WriteTransaction, version: RoomVersion, roots: Sequence[int]) -> int:
    """The root of the state that several states resolve to.

    Args:
        roots: the states after the events that a new event follows, in any order; at least one.
    """
    distinct = sorted(set(roots))
    if len(distinct) == 1:
        return distinct[0]
    if tx.changed_events:  # what others resolved may no longer hold, nor what comes out now if this step fails
        return state_trie.update(tx, distinct[0], resolve_changes(tx, version, distinct))
    # Messages do not change a state: in a room that has come apart the same states meet again and again.
    key = tuple(distinct)
    changes = tx.caches.resolutions.get(key)
    if changes is None:
        changes = resolve_changes(tx, version, distinct)
        tx.caches.resolutions.put(key, changes)
    return state_trie.update(tx, distinct[0], changes)


def resolve_changes(
    tx: ReadTransaction, version: RoomVersion, distinct: Sequence[int]
) -> dict[tuple[int, int], int | None]:
    """What must change in the first of several different states to make it the resolved one.

    Works on a reader too, so that a long resolution need not keep the writer busy.
    """
    states = _ConflictingStates(tx, distinct)
    resolved = resolve(version, states, _StoredEvents(tx, version))
    return {states.interned.get(key) or _interned(tx, key): nid for key, nid in resolved.items()}


def resolved_events_at(
    tx: ReadTransaction, version: RoomVersion, roots: Iterable[int], keys: Collection[tuple[str, str]]
) -> dict[tuple[str, str], StoredEvent]:
    """The events that hold some keys in the state that several states (at least one) resolve to."""
    distinct = sorted(set(roots))
    state = room_state.events_at(tx, distinct[0], keys)
    if len(distinct) == 1:
        return state
    changes = resolve_changes(tx, version, distinct)
    for key in keys:
        interned = (names.find(tx, key[0]), names.find(tx, key[1]))
        if interned in changes:
            state.pop(key, None)
            nid = changes[interned]
            if nid is not None:
                state[key] = events.get(tx, nid)
    return state


def _interned(tx: ReadTransaction, key: tuple[str, str]) -> tuple[int, int]:
    """The numbers of a state key that none of the states has, but an event by which they differ."""
    type_nid, key_nid = names.find(tx, key[0]), names.find(tx, key[1])
    assert type_nid is not None
    assert key_nid is not None
    return type_nid, key_nid


class _ConflictingStates:
    """Several states as the resolver sees them (`StateSets`)."""

    def __init__(self, tx: ReadTransaction, roots: Sequence[int]) -> None:
        self._tx = tx
        self._root = roots[0]
        self.interned: dict[tuple[str, str], tuple[int, int]] = {}
        conflicted: dict[tuple[str, str], Sequence[int | None]] = {}
        differences = state_trie.conflicts(tx, roots)
        text = names.texts(tx, {name for interned in differences for name in interned})
        for (type_nid, key_nid), values in differences.items():
            key = (text[type_nid], text[key_nid])
            self.interned[key] = (type_nid, key_nid)
            conflicted[key] = values
        self._conflicted = conflicted

    @property
    def conflicted(self) -> Mapping[tuple[str, str], Sequence[int | None]]:
        return self._conflicted

    def unconflicted(self, key: tuple[str, str], /) -> int | None:
        if key in self._conflicted:
            return None
        type_nid, key_nid = names.find(self._tx, key[0]), names.find(self._tx, key[1])
        if type_nid is None or key_nid is None:
            return None
        return state_trie.get(self._tx, self._root, (type_nid, key_nid))

    def unconflicted_newer_than(self, nid: int, /) -> Iterable[int]:
        in_conflict = {values[0] for values in self._conflicted.values()}
        newer = (value for value in state_trie.values_newer_than(self._tx, self._root, nid) if value not in in_conflict)
        return sorted(newer, reverse=True)


class _StoredEvents:
    """The stored events as the resolver sees them (`EventSource`)."""

    def __init__(self, tx: ReadTransaction, version: RoomVersion) -> None:
        self._tx = tx
        self._version = version

    def auth_nids(self, nids: Collection[int], /) -> Mapping[int, Sequence[int]]:
        return auth_graph.auth_nids(self._tx, nids)

    def keys(self, nids: Collection[int], /) -> Mapping[int, tuple[str, str]]:
        return auth_graph.keys(self._tx, nids)

    def headers(self, nids: Collection[int], /) -> Mapping[int, EventHeader]:
        return auth_graph.headers(self._tx, self._version, nids)

    def events(self, nids: Collection[int], /) -> Mapping[int, Event]:
        return auth_graph.parsed(self._tx, self._version, nids)

    def rejected(self, nids: Collection[int], /) -> set[int]:
        return auth_graph.rejected(self._tx, nids)
