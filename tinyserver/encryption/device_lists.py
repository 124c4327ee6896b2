"""Whose devices a user must look at again, and whose no more.

A client follows the devices of everybody who shares a room with its user. Between two points of the one order there
have *changed* for it: those who share a room at the second point and whose keys changed meanwhile, and those who
share one at the second but not at the first. There have *left* those who share a room at the first point, but not at
the second. Memberships at a point are the present ones but for what changed since then, which is read from the
difference of the rooms' states: what did not change costs nothing.

spec: client-server-api#tracking-the-device-list-for-a-user
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tinyserver.storage import cross_signing, device_lists, events, memberships, names, partial_rooms, rooms, state_trie
from tinyserver.storage.membership_changes import changed_since, member_event_at
from tinyserver.storage.transaction import ReadTransaction

FEW = 20_000
"""Up to how many pairs of a user and a room are looked up one by one, instead of reading whole rooms."""


@dataclass(frozen=True, slots=True)
class ListChanges:
    """Users (by number) whose devices have to be looked at again, and those who need not be followed any more."""

    changed: frozenset[int] = frozenset()
    left: frozenset[int] = frozenset()


NO_CHANGES = ListChanges()


def joined_at(tx: ReadTransaction, user: int, position: int) -> set[int]:
    """The rooms that a local user was in at a position."""
    return _joined_before(tx, user, memberships.joined_rooms(tx, user), position)


def changes_between(
    tx: ReadTransaction, user: int, since: int, until: int, joined: Collection[int], touched: Iterable[int]
) -> ListChanges:
    """What happened to the device lists that a user follows in (since, until].

    Args:
        joined: the rooms that the user is in at `until`.
        touched: those of them whose state may have changed after `since`.
    """
    now = set(joined)
    before = _joined_before(tx, user, now, since)
    at_since, at_until = _Members(tx, since), _Members(tx, until)
    arrived: set[int] = set()
    departed: set[int] = set()
    for room in device_lists.rooms_changed_after(tx, touched, since):
        if room in before and room in now:
            for other, (was, is_now) in _member_changes(tx, room, since, until).items():
                if was is not is_now:
                    (arrived if is_now else departed).add(other)
    completed = now & before & set(partial_rooms.completed_between(tx, since, until))
    for room in (now - before) | completed:  # who was there before, but not known to be, arrives now
        arrived |= at_until.of(room)
    for room in before - now:
        departed |= at_since.of(room)
    arrived.discard(user)
    departed.discard(user)
    updated = device_lists.changed_between(tx, since, until)
    signed = cross_signing.signed_between(tx, user, since, until)
    changed = at_until.among(now, updated) | (arrived - at_since.among(before - completed, arrived))
    changed.update(signed)
    if user in updated:
        changed.add(user)
    left = departed - at_until.among(now, departed)
    return ListChanges(frozenset(changed), frozenset(left)) if changed or left else NO_CHANGES


class _Members:
    """Who was in rooms at a position: the present members but for what changed since."""

    def __init__(self, tx: ReadTransaction, position: int) -> None:
        self._tx = tx
        self._position = position
        self._differences: dict[int, dict[int, bool]] = {}

    def of(self, room: int) -> set[int]:
        """Everybody who was in a room."""
        found = device_lists.members_of(self._tx, room)
        for user, was_joined in self._differing([room])[room].items():
            if was_joined:
                found.add(user)
            else:
                found.discard(user)
        return found

    def among(self, in_rooms: Collection[int], users: Collection[int]) -> set[int]:
        """Those of some users who were in any of some rooms."""
        if not users or not in_rooms:
            return set()
        differing = self._differing(in_rooms)
        if len(users) * len(in_rooms) > FEW:
            wanted = set(users)
            found: set[int] = set()
            for room in in_rooms:
                found |= wanted & self.of(room)
            return found
        found = {user for room in in_rooms for user, was in differing[room].items() if was} & set(users)
        for user, shared in device_lists.members_among(self._tx, in_rooms, users).items():
            if any(differing[room].get(user, True) for room in shared):
                found.add(user)
        return found

    def _differing(self, in_rooms: Collection[int]) -> dict[int, dict[int, bool]]:
        """For each room, the users whose membership has changed since, with whether they were joined then."""
        new = [room for room in in_rooms if room not in self._differences]
        if new:
            self._differences.update((room, {}) for room in new)
            for room in device_lists.rooms_changed_after(self._tx, new, self._position):
                self._differences[room] = {
                    user: was for user, (was, _) in _member_changes(self._tx, room, self._position, None).items()
                }
        return self._differences


def _member_changes(tx: ReadTransaction, room: int, since: int, until: int | None) -> dict[int, tuple[bool, bool]]:
    """The users whose member event differs between two positions (None: now): whether they were joined at each."""
    member_type = names.find(tx, "m.room.member")
    end = rooms.get(tx, room).state if until is None else rooms.state_at(tx, room, until)
    return {
        user: (_is_join(tx, old), _is_join(tx, new))
        for (event_type, user), old, new in state_trie.diff(tx, rooms.state_at(tx, room, since), end)
        if event_type == member_type
    }


def _is_join(tx: ReadTransaction, event: int | None) -> bool:
    return event is not None and events.get(tx, event).event.membership == "join"


def _joined_before(tx: ReadTransaction, user: int, joined: Iterable[int], since: int) -> set[int]:
    """The rooms that a local user was in at a position, from those that the user is in at a later one."""
    found = set(joined)
    for row in changed_since(tx, user, since):
        if _is_join(tx, member_event_at(tx, row.room, user, since)):
            found.add(row.room)
        else:
            found.discard(row.room)
    return found
