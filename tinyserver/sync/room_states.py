"""Which state events go with a window on a room.

A client knows the state at the point where it asked last and applies what it gets: the state section, then (unless it
gets the state at the end of the timeline) the state events of the timeline. The result must be the room's current
state, also where state changed without an event in the timeline: when branches of the room's history are merged.

spec: client-server-api#syncing
"""

from __future__ import annotations

from collections.abc import Collection

from tinyserver.storage import names, state_trie
from tinyserver.storage.transaction import ReadTransaction
from tinyserver.sync.windows import StateKey, Window


def state_changes(tx: ReadTransaction, window: Window, *, at_end: bool) -> dict[StateKey, int]:
    """What changed in the state between the window's first point and its timeline's start or end.

    Returns:
        The nids of the state events by their keys.
    """
    if window.root_before == window.root_after and not window.replaced_first:
        return {}
    changed = window.find_changed(tx)
    if at_end or not window.replaced_first:
        return changed
    # Keys that the timeline sets: what matters is what stood there before, if that is news.
    result = {key: nid for key, nid in changed.items() if key not in window.replaced_first}
    known = state_trie.get_many(tx, window.root_before, window.replaced_first) if window.root_before else {}
    for key, replaced in window.replaced_first.items():
        if replaced is not None and known.get(key) != replaced:
            result[key] = replaced
    return result


def whole_state(
    tx: ReadTransaction, window: Window, *, at_end: bool, members: Collection[int] | None
) -> dict[StateKey, int]:
    """The whole state at the start or the end of a window's timeline.

    Args:
        members: nids of the users whose member events are wanted; None: all.
    """
    member_type = names.find(tx, "m.room.member")
    if members is None or member_type is None:
        result = dict(state_trie.items(tx, window.root_after))
    else:
        result = dict(state_trie.items_except_type(tx, window.root_after, member_type))
        result.update(state_trie.get_many(tx, window.root_after, [(member_type, user) for user in members]))
    if not at_end:
        for key, replaced in window.replaced_first.items():
            if members is not None and key[0] == member_type and key[1] not in members:
                continue
            if replaced is None:
                result.pop(key, None)
            else:
                result[key] = replaced
    return result


def member_events(tx: ReadTransaction, window: Window, *, at_end: bool, users: Collection[int]) -> dict[StateKey, int]:
    """The member events of some users at the start or the end of a window's timeline."""
    member_type = names.find(tx, "m.room.member")
    if member_type is None or not users:
        return {}
    result = state_trie.get_many(tx, window.root_after, [(member_type, user) for user in users])
    if not at_end and window.replaced_first:
        for user in users:
            key = (member_type, user)
            if key in window.replaced_first:
                replaced = window.replaced_first[key]
                if replaced is None:
                    result.pop(key, None)
                else:
                    result[key] = replaced
    return result
