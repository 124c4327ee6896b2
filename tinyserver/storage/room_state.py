"""Reading a room's state: from the root of a trie to events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tinyserver.protocol.auth_state import AuthState
from tinyserver.protocol.events import Event
from tinyserver.protocol.power_levels import PowerLevels
from tinyserver.storage import events, names, state_trie
from tinyserver.storage.errors import CorruptDatabase
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction

_BATCH = 200


def nid_at(tx: ReadTransaction, root: int, event_type: str, state_key: str = "") -> int | None:
    """The nid of the event that holds a state key, or None."""
    type_nid = names.find(tx, event_type)
    key_nid = names.find(tx, state_key)
    if type_nid is None or key_nid is None:
        return None
    return state_trie.get(tx, root, (type_nid, key_nid))


def event_at(tx: ReadTransaction, root: int, event_type: str, state_key: str = "") -> StoredEvent | None:
    """The event that holds a state key, or None."""
    nid = nid_at(tx, root, event_type, state_key)
    return None if nid is None else events.get(tx, nid)


def events_at(
    tx: ReadTransaction, root: int, keys: Iterable[tuple[str, str]], *, keep: bool = True
) -> dict[tuple[str, str], StoredEvent]:
    """The events that hold those of the (type, state key) pairs which are set.

    Args:
        keep: whether they are worth remembering in the cache (not when looking at many rooms).
    """
    pairs = {}
    for event_type, state_key in keys:
        type_nid = names.find(tx, event_type)
        key_nid = names.find(tx, state_key)
        if type_nid is not None and key_nid is not None:
            pairs[(type_nid, key_nid)] = (event_type, state_key)
    found = state_trie.get_many(tx, root, pairs)
    stored = events.get_many(tx, list(found.values()), keep=keep)
    return {pairs[key]: stored[nid] for key, nid in found.items()}


def auth_state(tx: ReadTransaction, root: int, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Event]:
    """What the authorization rules want to see of a state: the named keys, and always the create event."""
    wanted = {*keys, ("m.room.create", "")}
    return {key: stored.event for key, stored in events_at(tx, root, wanted).items()}


def content_at(tx: ReadTransaction, root: int, event_type: str, state_key: str = "") -> dict[str, object]:
    """The content of the event that holds a state key; empty when it is not set."""
    stored = event_at(tx, root, event_type, state_key)
    return {} if stored is None else stored.event.content


def walk(tx: ReadTransaction, nids: Iterable[int]) -> Iterator[StoredEvent]:
    """The events behind many numbers, a batch at a time, without crowding the cache."""
    batch: list[int] = []
    for nid in nids:
        batch.append(nid)
        if len(batch) == _BATCH:
            yield from events.get_many(tx, batch, keep=False).values()
            batch = []
    yield from events.get_many(tx, batch, keep=False).values()


def all_events(tx: ReadTransaction, root: int) -> Iterator[StoredEvent]:
    """Every event of a state."""
    return walk(tx, (nid for _, nid in state_trie.items(tx, root)))


def members(tx: ReadTransaction, root: int) -> Iterator[StoredEvent]:
    """The member events of a state."""
    type_nid = names.find(tx, "m.room.member")
    if type_nid is None:
        return iter(())
    return walk(tx, (nid for _, nid in state_trie.items_of_type(tx, root, type_nid)))


def without_members(tx: ReadTransaction, root: int) -> Iterator[StoredEvent]:
    """All of a state but its member events, at no cost for rooms with many members."""
    type_nid = names.find(tx, "m.room.member")
    if type_nid is None:
        return all_events(tx, root)
    return walk(tx, (nid for _, nid in state_trie.items_except_type(tx, root, type_nid)))


def power_levels(tx: ReadTransaction, root: int) -> PowerLevels:
    """The power levels in force in a state that has a create event.

    Raises:
        CorruptDatabase: it has none.
    """
    state = auth_state(tx, root, [("m.room.power_levels", "")])
    create = state.get(("m.room.create", ""))
    if create is None:
        raise CorruptDatabase("a room state has no create event")
    return AuthState(create, state).power_levels
