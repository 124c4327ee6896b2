"""The last step of an event's path: everything that must follow an event, in the event's own transaction.

Edges, state, membership rows, relations, redactions and unread marks are stored with the event or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tinyserver.protocol.events import Event
from tinyserver.protocol.identifiers import domain_of
from tinyserver.rooms.redactions import redact_if_allowed, redactions_waiting_for
from tinyserver.rooms.resolution import resolve_roots
from tinyserver.storage import (
    events,
    graph,
    memberships,
    names,
    outgoing,
    partial_rooms,
    relations,
    rooms,
    server_stays,
    state_trie,
)
from tinyserver.storage.memberships import Membership, MembershipRow
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import Topic, WriteTransaction

GAP = 10_000
"""So many places are kept free where events are missing: those that are fetched later have their order there."""
MEMBERSHIPS = {
    "leave": Membership.LEAVE,
    "ban": Membership.BAN,
    "knock": Membership.KNOCK,
    "invite": Membership.INVITE,
    "join": Membership.JOIN,
}


class Notifications(Protocol):
    """What unread counts need to know of a new event (implemented by the push service)."""

    def classify(self, tx: WriteTransaction, room: RoomRow, event: Event) -> tuple[int, int | None]:
        """(notification class under the default rules, nid of the thread's root or None) of an event."""

    def mark(self, tx: WriteTransaction, room: RoomRow, stored: StoredEvent) -> None:
        """Store what the event's content means to single local users."""


class EventFollower(Protocol):
    """Who has to do something about new events, in their own step (implemented by application services)."""

    def note_event(self, tx: WriteTransaction, stored: StoredEvent) -> None:
        """There is a new event at the end of a room's timeline, or (without a place) a membership of a local user in a
        room that this server is not in. All that follows from it has been stored."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What the checks said about an event that is about to be appended.

    `state_before` is the root of the state before it; `flags` those of `Flag` that apply; `auth` the nids of its auth
    events; `device`/`txn_id` who sent it from here; `outlier` the event's nid if it was stored as an outlier before;
    `begins_anew` says that it is the join by which this server comes (back) into the room: whatever was known of the
    room before has long been followed by others; `after_gap` that events right before it are missing.
    """

    event: Event
    state_before: int
    auth: tuple[int, ...]
    flags: Flag = Flag.NONE
    device: int | None = None
    txn_id: str | None = None
    outlier: int | None = None
    begins_anew: bool = False
    after_gap: bool = False


class Appender:
    """Stores accepted, rejected and soft-failed events.

    Args:
        server_name: this server: its users are the local ones.
        notifications: where unread marks are made.
        followers: who is told of what joins a timeline.
    """

    def __init__(self, server_name: str, notifications: Notifications, followers: Sequence[EventFollower] = ()) -> None:
        self._server_name = server_name
        self._notifications = notifications
        self._followers = followers

    def append(self, tx: WriteTransaction, room: RoomRow, admission: Admission) -> StoredEvent:
        """Store an event at the end of a room's timeline, with all that follows from it.

        Args:
            room: the room as this transaction sees it now.

        Returns:
            The event as stored; `rooms.get(tx, room.nid)` is the room after it.
        """
        event = admission.event
        position = tx.next_position(GAP if admission.after_gap else 1)
        visible = not admission.flags & (Flag.REJECTED | Flag.SOFT_FAILED)
        notify, thread = self._notifications.classify(tx, room, event) if visible else (0, None)
        nid = position if admission.outlier is None else admission.outlier
        stored = self._store(tx, room, admission, nid, position if visible else None, notify, thread)
        parents = events.find_many(tx, event.prev_event_ids)
        graph.connect(tx, stored, parents)
        if room.is_partial:
            partial_rooms.note_event(tx, room.nid, nid, position)
        if not visible:
            return stored
        relations.relate(tx, stored)
        if admission.begins_anew:
            self._begin_anew(tx, room, stored, position)
        else:
            self._advance(tx, room, stored, parents, position)
        _redact(tx, room, stored)
        self._notifications.mark(tx, room, stored)
        tx.changed(Topic.TIMELINE, room.nid, position)
        if self.is_local(event.sender):
            outgoing.owe(tx, stored)
        for follower in self._followers:
            follower.note_event(tx, stored)
        return stored

    def prepend(self, tx: WriteTransaction, room: RoomRow, admission: Admission, place: int) -> StoredEvent:
        """Store an event of the room's history: nobody is told, and what the room is now does not follow from it.

        Args:
            place: where in the room's order it is.
        """
        visible = not admission.flags & Flag.REJECTED
        _, thread = self._notifications.classify(tx, room, admission.event) if visible else (0, None)
        nid = tx.next_position() if admission.outlier is None else admission.outlier
        stored = self._store(tx, room, admission, nid, place if visible else None, 0, thread)
        graph.connect(tx, stored, events.find_many(tx, admission.event.prev_event_ids))
        if visible:
            rooms.set_first_place(tx, room.nid, place)
            relations.relate(tx, stored)
            _redact(tx, room, stored)
        return stored

    def _store(
        self,
        tx: WriteTransaction,
        room: RoomRow,
        admission: Admission,
        nid: int,
        place: int | None,
        notify: int,
        thread: int | None,
    ) -> StoredEvent:
        event, flags = admission.event, admission.flags
        state_after, replaces = admission.state_before, None
        if event.state_key is not None:
            key = (names.intern(tx, event.type), names.intern(tx, event.state_key))
            replaces = state_trie.get(tx, admission.state_before, key)
            if not flags & Flag.REJECTED:
                state_after = state_trie.update(tx, admission.state_before, {key: nid})
        new = events.NewEvent(
            nid=nid,
            room=room.nid,
            event=event,
            place=place,
            flags=int(flags),
            state=state_after,
            auth=admission.auth,
            replaces=replaces,
            notify=notify,
            thread=thread,
            device=admission.device,
            txn_id=admission.txn_id,
        )
        return events.store(tx, new, known=admission.outlier is not None)

    def _advance(
        self, tx: WriteTransaction, room: RoomRow, stored: StoredEvent, parents: Mapping[str, int], position: int
    ) -> None:
        """Move the forward extremities on and let the current state follow."""
        extremities = tuple(sorted(_not_followed(tx, room.extremities, parents.values()) | {stored.nid}))
        rooms.advance(tx, room.nid, extremities, stored.nid)
        assert stored.state is not None
        current = stored.state
        if len(extremities) > 1:
            current = resolve_roots(tx, room.version, list(events.states_after(tx, extremities).values()))
        if current != room.state:
            self.set_current_state(tx, room, current, position)

    def _begin_anew(self, tx: WriteTransaction, room: RoomRow, stored: StoredEvent, position: int) -> None:
        """Make a join the only forward extremity, and the state after it the current one."""
        rooms.advance(tx, room.nid, (stored.nid,), stored.nid)
        assert stored.state is not None
        self.set_current_state(tx, room, stored.state, position)
        # Invites from outside came without the room's state, and were never counted.
        counts = memberships.counts(tx, room.nid)
        rooms.set_counts(tx, room.nid, counts.get(Membership.JOIN, 0), counts.get(Membership.INVITE, 0))

    def set_current_state(self, tx: WriteTransaction, room: RoomRow, root: int, position: int) -> None:
        """Make a state the room's current one; membership rows and counts follow the difference."""
        counts = {Membership.JOIN: room.joined, Membership.INVITE: room.invited}
        member_type = names.intern(tx, "m.room.member")
        others: dict[str, int] = {}
        for (type_nid, user), old, new in list(state_trie.diff(tx, room.state, root)):
            if type_nid != member_type:
                continue
            before = None if old is None else memberships.get(tx, room.nid, user)
            if before is not None and before.membership in counts:
                counts[before.membership] -= 1
            membership = None if new is None else MEMBERSHIPS.get(events.get(tx, new).event.membership or "")
            is_local = self.is_local(names.text(tx, user))
            if not is_local:
                joined = (new is not None and membership is Membership.JOIN) - _was_joined(before)
                server = domain_of(names.text(tx, user))
                others[server] = others.get(server, 0) + joined
            if membership is None or new is None:
                memberships.remove(tx, room.nid, user, position, is_local=is_local)
                continue
            if membership in counts:
                counts[membership] += 1
            memberships.set_membership(
                tx,
                room=room.nid,
                user=user,
                membership=membership,
                event=new,
                position=position,
                is_local=is_local,
            )
        server_stays.change(tx, room.nid, others, position)
        rooms.set_state(tx, room.nid, root, position, counts[Membership.JOIN], counts[Membership.INVITE])

    def is_local(self, user_id: str) -> bool:
        """Whether a user has this server as home."""
        return domain_of(user_id) == self._server_name


def _redact(tx: WriteTransaction, room: RoomRow, stored: StoredEvent) -> None:
    """Redact what a new event redacts, and the event itself if a redaction of it came before."""
    if stored.event.type == "m.room.redaction":
        redact_if_allowed(tx, room, stored)
    for waiting in redactions_waiting_for(tx, room, stored):
        redact_if_allowed(tx, room, waiting)


def _was_joined(before: MembershipRow | None) -> bool:
    return before is not None and before.membership is Membership.JOIN


def _not_followed(tx: WriteTransaction, extremities: Collection[int], parents: Iterable[int]) -> set[int]:
    """Those of the forward extremities that an event with these parents does not follow, be it by way of events that
    were held back."""
    left = set(extremities)
    todo = list(parents)
    seen = set(todo)
    while todo and left:
        nid = todo.pop()
        if nid in left:
            left.discard(nid)
            continue
        parent = events.get(tx, nid)
        if parent.flags & (Flag.REJECTED | Flag.SOFT_FAILED):
            further = set(events.find_many(tx, parent.event.prev_event_ids).values()) - seen
            seen |= further
            todo.extend(further)
    return left
