"""Which state of a room a client of sliding sync wants, and finding it.

spec: MSC4186 (required_state)
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from tinyserver.storage import names, state_trie
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync.windows import StateKey

MEMBER = "m.room.member"
Pattern = tuple[str | None, str | None]
"""A type and a state key, each None where any will do."""


class StatePart(msgspec.Struct, frozen=True, array_like=True):
    """State events that match one of the patterns `include`, but none of `exclude`."""

    include: frozenset[Pattern] = frozenset()
    exclude: frozenset[Pattern] = frozenset()

    def matches(self, event_type: str, state_key: str) -> bool:
        """Whether a state event of this type and state key is wanted."""
        return _any(self.include, event_type, state_key) and not _any(self.exclude, event_type, state_key)


class RoomConfig(msgspec.Struct, frozen=True, array_like=True):
    """What is wanted of a room: how many events at first, the state (what any of the parts matches), and with
    `lazy_members` the members that the events of the timeline need."""

    timeline_limit: int = 0
    state: frozenset[StatePart] = frozenset()
    lazy_members: bool = False

    def joined_with(self, other: RoomConfig) -> RoomConfig:
        """What is wanted by either."""
        return RoomConfig(
            max(self.timeline_limit, other.timeline_limit),
            self.state | other.state,
            self.lazy_members or other.lazy_members,
        )

    def matches(self, event_type: str, state_key: str) -> bool:
        """Whether a state event of this type and state key is wanted, whatever the timeline needs."""
        return any(part.matches(event_type, state_key) for part in self.state)


NOTHING_WANTED = RoomConfig()


def _any(patterns: Collection[Pattern], event_type: str, state_key: str) -> bool:
    return (
        (event_type, state_key) in patterns
        or (event_type, None) in patterns
        or (None, None) in patterns
        or (None, state_key) in patterns
    )


def wanted_state(
    tx: ReadTransaction, root: int, config: RoomConfig, but: RoomConfig = NOTHING_WANTED
) -> dict[StateKey, int]:
    """Those events of a state that a client wants.

    Args:
        but: what it wanted before, and has.

    Returns:
        The nids of the events by their keys.
    """
    if not root:
        return {}
    found: dict[StateKey, int] = {}
    for part in config.state - but.state:
        candidates = _candidates(tx, root, part)
        if part.exclude or any(event_type is None for event_type, _ in part.include):
            candidates = matching(tx, candidates, RoomConfig(state=frozenset((part,))))
        found.update(candidates)
    if but.state and found:
        known = matching(tx, found, but)
        found = {key: nid for key, nid in found.items() if key not in known}
    return found


def matching(tx: ReadTransaction, state: dict[StateKey, int], config: RoomConfig) -> dict[StateKey, int]:
    """Those of some state events that a client wants."""
    if not state or not config.state:
        return {}
    texts = names.texts(tx, {nid for key in state for nid in key})
    return {key: nid for key, nid in state.items() if config.matches(texts[key[0]], texts[key[1]])}


def _candidates(tx: ReadTransaction, root: int, part: StatePart) -> dict[StateKey, int]:
    """What may match a part: all that matches its patterns, or, where one of them names no type, all there is (the
    members only if they are wanted)."""
    if any(event_type is None for event_type, _ in part.include):
        member_type = names.find(tx, MEMBER)
        if member_type is None or (MEMBER, None) not in part.exclude:
            return dict(state_trie.items(tx, root))
        return dict(state_trie.items_except_type(tx, root, member_type))
    found: dict[StateKey, int] = {}
    exact: list[StateKey] = []
    for event_type, state_key in part.include:
        type_nid = names.find(tx, event_type or "")
        if type_nid is None:
            continue
        if state_key is None:
            found.update(state_trie.items_of_type(tx, root, type_nid))
        elif (key_nid := names.find(tx, state_key)) is not None:
            exact.append((type_nid, key_nid))
    found.update(state_trie.get_many(tx, root, exact))
    return found
