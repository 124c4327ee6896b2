"""A partial room becomes whole: in short steps, between which everybody else has their turn, and the last of which
changes everything at once.

1. The state before our join, as another server told it, becomes a trie (`put_together`).
2. The members whom it names are recorded, but for those of whom more is known (`record_members`).
3. The events that were stored meanwhile are judged again, with the states as they really were (`judge`). What this
   finds is kept aside.
4. In the step that judges the last of them, everything takes effect: states of events and of the room, also those of
   the time since the join, so that nobody sees the coming of what was always there as a change.

Every step can be taken again: after a crash it goes on from the beginning, with all events at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tinyserver.protocol.auth_rules import AuthError, auth_keys_for, check_auth
from tinyserver.rooms.append import MEMBERSHIPS, Appender
from tinyserver.rooms.partial_state import PartialRooms
from tinyserver.rooms.resolution import resolve_roots
from tinyserver.storage import (
    events,
    memberships,
    names,
    partial_rooms,
    relations,
    room_servers,
    room_state,
    rooms,
    server_stays,
    state_trie,
)
from tinyserver.storage.memberships import Membership
from tinyserver.storage.partial_rooms import PartialEvent, PartialRoom
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.state_trie import Key
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction

JUDGED_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A member as a state names them."""

    user: int
    membership: Membership
    event: int
    is_local: bool


class Completion:
    """The steps.

    Args:
        appender: knows which users are local.
        partial: which rooms are partial.
    """

    def __init__(self, appender: Appender, partial: PartialRooms) -> None:
        self._appender = appender
        self._partial = partial

    # -- the state before the join ---------------------------------------------------------------

    @staticmethod
    def begin(tx: WriteTransaction, room: int) -> None:
        """Put the state together from nothing, and judge all events."""
        partial_rooms.set_told(tx, room, state_trie.EMPTY)
        partial_rooms.look_again(tx, room)

    @staticmethod
    def put_together(tx: WriteTransaction, room: int, entries: Iterable[tuple[Key, int]]) -> None:
        """Add some entries to the state before the join."""
        partial = partial_rooms.get(tx, room)
        if partial is not None:
            partial_rooms.set_told(tx, room, state_trie.update(tx, partial.told, dict(entries)))

    def records_of(self, tx: ReadTransaction, nids: Sequence[int]) -> list[MemberRecord]:
        """What some of the events of a state say of members."""
        return [
            MemberRecord(
                stored.state_key_nid,
                MEMBERSHIPS.get(stored.event.membership or "", Membership.LEAVE),
                stored.nid,
                self._appender.is_local(stored.event.state_key or ""),
            )
            for stored in events.get_many(tx, nids, keep=False).values()
            if stored.event.type == "m.room.member" and stored.state_key_nid is not None
        ]

    @staticmethod
    def record_members(tx: WriteTransaction, room: int, records: Iterable[MemberRecord]) -> None:
        """Record members, but for those whom the room's state, as far as it is known, names already."""
        if partial_rooms.get(tx, room) is None:
            return
        others = []
        state, position = rooms.get(tx, room).state, tx.next_position()
        member_type = names.intern(tx, "m.room.member")
        for record in records:
            if not record.is_local:
                others.append((record.user, record.membership, record.event))
            elif state_trie.get(tx, state, (member_type, record.user)) is None:
                memberships.set_membership(
                    tx,
                    room=room,
                    user=record.user,
                    membership=record.membership,
                    event=record.event,
                    position=position,
                    is_local=True,
                )
        memberships.fill_in(tx, room, others, position)

    @staticmethod
    def set_told_before(tx: WriteTransaction, room: int, event: int, changes: Mapping[Key, int | None]) -> None:
        """Note what was different before an event from the state before the join."""
        partial = partial_rooms.get(tx, room)
        if partial is not None:
            partial_rooms.set_told_before(tx, room, event, state_trie.update(tx, partial.told, changes))

    # -- what happened since ---------------------------------------------------------------------

    def judge(self, tx: WriteTransaction, room_nid: int) -> bool:
        """Judge some of the events that came meanwhile; with the last of them the room becomes whole.

        Returns:
            Whether there is nothing left to do.
        """
        partial = partial_rooms.get(tx, room_nid)
        if partial is None:
            return True
        room = rooms.get(tx, room_nid)
        left = partial_rooms.events_left(tx, room_nid, JUDGED_AT_ONCE)
        for noted in left:
            _judge(tx, room, partial, noted)
        if len(left) == JUDGED_AT_ONCE:
            return False
        self._take_effect(tx, room, partial)
        return True

    def _take_effect(self, tx: WriteTransaction, room: RoomRow, partial: PartialRoom) -> None:
        join = events.get(tx, partial.join)
        assert join.state is not None
        assert join.place is not None
        outcomes = partial_rooms.all_events(tx, room.nid)
        roots = {noted.nid: noted.state for noted in outcomes if noted.state is not None}
        whole: dict[int, int] = {}
        rejected = {noted.nid for noted in outcomes if noted.rejected}
        for stored in events.get_many(tx, [noted.nid for noted in outcomes], keep=False).values():
            if stored.state is not None:
                whole[stored.state] = roots[stored.nid]
            if stored.nid in rejected and stored.place is not None:
                relations.unrelate(tx, stored)
        extremities: Sequence[int] = room.extremities
        if rejected:
            extremities = _ends(tx, outcomes)
            rooms.set_extremities(tx, room.nid, extremities)
        partial_rooms.apply_outcomes(tx, outcomes)
        ends = [roots[nid] for nid in extremities if nid in roots]
        state = resolve_roots(tx, room.version, ends or [roots[partial.join]])
        partial_rooms.rewrite_room_states(tx, room.nid, join.place, whole)
        position = tx.next_position()
        self._correct_members(tx, room, partial, join.state, state, position)
        counts = memberships.counts(tx, room.nid)
        rooms.set_state(tx, room.nid, state, position, counts.get(Membership.JOIN, 0), counts.get(Membership.INVITE, 0))
        joined = room_servers.joined_by_server(tx, room.nid)
        server_stays.recount(
            tx, room.nid, {name: n for name, n in joined.items() if not self._appender.is_local(f"@:{name}")}, position
        )
        tx.changed(Topic.TIMELINE, room.nid, position)
        self._partial.finish(tx, room.nid, position)

    def _correct_members(
        self, tx: WriteTransaction, room: RoomRow, partial: PartialRoom, after_join: int, state: int, position: int
    ) -> None:
        """Let the recorded members be those of the whole state: they differ where the state was changed, or known."""
        member_type = names.intern(tx, "m.room.member")
        known = state_trie.items_of_type(tx, partial.base, member_type)
        users = {user for (_, user), _ in known}
        for one, other in ((after_join, room.state), (partial.told, state)):
            users |= {user for (kind, user), _, _ in state_trie.diff(tx, one, other) if kind == member_type}
        found = state_trie.get_many(tx, state, [(member_type, user) for user in users])
        for user in users:
            nid = found.get((member_type, user))
            before = memberships.get(tx, room.nid, user)
            is_local = self._appender.is_local(names.text(tx, user))
            if nid is None:
                memberships.remove(tx, room.nid, user, position, is_local=is_local)
            elif before is None or before.event != nid:
                memberships.set_membership(
                    tx,
                    room=room.nid,
                    user=user,
                    membership=MEMBERSHIPS.get(events.get(tx, nid).event.membership or "", Membership.LEAVE),
                    event=nid,
                    position=position,
                    is_local=is_local,
                )


def _judge(tx: WriteTransaction, room: RoomRow, partial: PartialRoom, noted: PartialEvent) -> None:
    """Find out the state after an event, and whether the rules allow it."""
    stored = events.get(tx, noted.nid)
    before = _state_before(tx, room, partial, noted, stored)
    after, replaces, rejected = before, None, stored.rejected
    if not rejected and not stored.flags & Flag.SOFT_FAILED:
        rejected = noted.nid != partial.join and not _is_allowed(tx, before, stored)
    if stored.state_key_nid is not None:
        key = (stored.type_nid, stored.state_key_nid)
        replaces = state_trie.get(tx, before, key)
        if not rejected:
            after = state_trie.update(tx, before, {key: stored.nid})
    partial_rooms.set_outcome(tx, room.nid, noted.nid, after, replaces, rejected=rejected)


def _state_before(
    tx: WriteTransaction, room: RoomRow, partial: PartialRoom, noted: PartialEvent, stored: StoredEvent
) -> int:
    if noted.nid == partial.join:
        return partial.told
    parents = events.find_many(tx, stored.event.prev_event_ids).values()
    judged = partial_rooms.states_of(tx, room.nid, parents)
    meanwhile = partial_rooms.among(tx, room.nid, parents)
    roots = list(judged.values())
    roots += [
        parent.state
        for parent in events.get_many(tx, list(parents)).values()
        if parent.nid not in meanwhile and parent.state is not None and parent.room == room.nid
    ]
    if noted.told:
        roots.append(noted.told)
    return resolve_roots(tx, room.version, roots or [partial.told])


def _is_allowed(tx: ReadTransaction, root: int, stored: StoredEvent) -> bool:
    event = stored.event
    keys = auth_keys_for(event.version, event.type, event.sender, event.state_key, event.content)
    try:
        check_auth(event, room_state.auth_state(tx, root, keys))
    except AuthError:
        return False
    return True


def _ends(tx: ReadTransaction, outcomes: Sequence[PartialEvent]) -> list[int]:
    """The forward extremities of a room without the events that are rejected."""
    found = events.get_many(tx, [noted.nid for noted in outcomes])
    rejected = {noted.nid for noted in outcomes if noted.rejected}
    in_room: Mapping[str, StoredEvent] = {
        stored.event_id: stored
        for stored in found.values()
        if stored.nid not in rejected and not stored.flags & Flag.SOFT_FAILED
    }
    aside = {stored.event_id: stored for stored in found.values() if stored.event_id not in in_room}
    followed: set[str] = set()
    for stored in in_room.values():
        todo = list(stored.event.prev_event_ids)
        while todo:
            parent = todo.pop()
            if parent not in followed:
                followed.add(parent)
                if parent in aside:  # what it follows is followed through it
                    todo += aside[parent].event.prev_event_ids
    return sorted(stored.nid for event_id, stored in in_room.items() if event_id not in followed)
