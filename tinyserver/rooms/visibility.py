"""What one user sees of one room: which room at all, up to which point, and which of its events.

Runs of events with the same state are looked up once, so that filtering a page of a linear history costs a handful
of look-ups.

spec: client-server-api#room-history-visibility, client-server-api#room-previews
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import Forbidden
from tinyserver.protocol.events import Event
from tinyserver.protocol.history_visibility import (
    SHARED,
    WORLD_READABLE,
    is_event_visible,
    is_visible,
    membership_in,
    visibility_in,
)
from tinyserver.protocol.redaction import redact
from tinyserver.storage import accounts, events, memberships, names, room_state, rooms, state_trie
from tinyserver.storage.memberships import Membership, MembershipRow
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.timeline_entries import Entry
from tinyserver.storage.transaction import ReadTransaction

ALWAYS = 2**62
"""A place after all others."""
NEVER = -(2**62)
"""A place before all others."""
_MAX_MEMBERSHIP_CHANGES = 1000
"""How many changes of a user's own membership are followed back."""


class Sight:
    """One user's view of the events of one room, within one transaction.

    Args:
        user: nid of the user `user_id`.
        joined_until: the user was in the room just before the event with this place, or is in it at this position.
    """

    __slots__ = ("_erased", "_joined_until", "_keys", "_memberships", "_tx", "_user", "_user_id", "_visibilities")

    def __init__(self, tx: ReadTransaction, user: int, user_id: str, joined_until: int) -> None:
        self._tx = tx
        self._user = user
        self._user_id = user_id
        self._joined_until = joined_until
        self._memberships: dict[int, str] = {}
        self._visibilities: dict[int, str] = {}
        self._erased: dict[int, bool] = {}
        self._keys = (names.find(tx, "m.room.member"), names.find(tx, "m.room.history_visibility"), names.find(tx, ""))

    # -- membership ------------------------------------------------------------------------------

    def membership_in(self, root: int | None) -> str:
        """The user's membership in a state (that after an event, hence including it); `leave` if there is none."""
        if root is None:
            return "leave"
        membership = self._memberships.get(root)
        if membership is None:
            member_type = self._keys[0]
            nid = None if member_type is None else state_trie.get(self._tx, root, (member_type, self._user))
            membership = "leave" if nid is None else membership_in(events.get(self._tx, nid).event.content)
            self._memberships[root] = membership
        return membership

    def know_membership(self, root: int, membership: str) -> None:
        """Spare a look-up: the user's membership in a state is known."""
        self._memberships[root] = membership

    # -- visibility ------------------------------------------------------------------------------

    def sees(self, stored: StoredEvent) -> bool:
        """Whether the user may see an event."""
        if self.sees_state(stored.state, stored.place):
            return True
        # The states are those after the event; of what the event itself changed, the one before counts as well.
        event = stored.event
        if event.state_key is None:
            return False
        visibility, membership = self._visibility_in(stored.state), self.membership_in(stored.state)
        if event.type == "m.room.history_visibility" and event.state_key == "":
            visibility = visibility_in(self._replaced_content(stored))
        elif event.type == "m.room.member" and event.state_key == self._user_id:
            membership = membership_in(self._replaced_content(stored))
        else:
            return False
        joined_later = self._joined_after(stored.place)
        return is_event_visible(
            event, self._user_id, visibility=visibility, membership=membership, joined_later=joined_later
        )

    def sees_entry(self, entry: Entry) -> bool:
        """`sees` for an event of which only the entry in the timeline has been read."""
        if self.sees_state(entry.state, entry.place):
            return True
        member_type, visibility_type, empty = self._keys
        key = (entry.type, entry.state_key)
        if key not in ((member_type, self._user), (visibility_type, empty)):
            return False
        return self.sees(events.get(self._tx, entry.nid))

    def sees_before(self, stored: StoredEvent) -> bool:
        """Whether the user may see what came right before an event, which need not be here."""
        event = stored.event
        visibility, membership = self._visibility_in(stored.state), self.membership_in(stored.state)
        if event.type == "m.room.history_visibility" and event.state_key == "":
            visibility = visibility_in(self._replaced_content(stored))
        elif event.type == "m.room.member" and event.state_key == self._user_id:
            membership = membership_in(self._replaced_content(stored))
        return is_visible(visibility, membership, joined_later=self._joined_after(stored.place))

    def sees_state(self, root: int | None, place: int | None) -> bool:
        """Whether the user may see the events around which the room has a state.

        Args:
            root: the state.
            place: where in the room's order; None: nowhere.
        """
        joined_later = self._joined_after(place)
        visibility = self._visibility_in(root)
        if visibility == WORLD_READABLE or (joined_later and visibility == SHARED):
            return True
        return is_visible(visibility, self.membership_in(root), joined_later=joined_later)

    def _joined_after(self, place: int | None) -> bool:
        return place is not None and place <= self._joined_until

    def _visibility_in(self, root: int | None) -> str:
        if root is None:
            return SHARED
        visibility = self._visibilities.get(root)
        if visibility is None:
            _, type_nid, empty = self._keys
            nid = None
            if type_nid is not None and empty is not None:
                nid = state_trie.get(self._tx, root, (type_nid, empty))
            visibility = visibility_in(None if nid is None else events.get(self._tx, nid).event.content)
            self._visibilities[root] = visibility
        return visibility

    def _replaced_content(self, stored: StoredEvent) -> object:
        return None if stored.replaces is None else events.get(self._tx, stored.replaces).event.content

    # -- erased users ----------------------------------------------------------------------------

    def event_for(self, stored: StoredEvent) -> Event:
        """An event as the user gets it: redacted if its sender has asked to be erased and the user was not in the room
        with them, neither at the event nor when they went.

        spec: client-server-api#post_matrixclientv3accountdeactivate (`erase`)
        """
        if self.membership_in(stored.state) == "join" or not self._is_erased_for_reader(stored):
            return stored.event
        event = stored.event
        return Event.from_trusted(redact(event.pdu, event.version), event.version, event.event_id)

    def _is_erased_for_reader(self, stored: StoredEvent) -> bool:
        erased = self._erased.get(stored.sender_nid)
        if erased is None:
            account = accounts.get(self._tx, stored.sender_nid)
            erased = account is not None and account.is_erased and not self._met_at_the_end(stored)
            self._erased[stored.sender_nid] = erased
        return erased

    def _met_at_the_end(self, stored: StoredEvent) -> bool:
        row = memberships.get(self._tx, stored.room, stored.sender_nid)
        return row is not None and self.membership_in(events.get(self._tx, row.event).state) == "join"


@dataclass(frozen=True, slots=True)
class RoomView:
    """A room that a user may read.

    `root` is the state that they see, `newest` the last place that they may see anything of, `sight` tells about single
    events, `is_member` whether they are in the room now.
    """

    room: RoomRow
    root: int
    newest: int
    sight: Sight
    is_member: bool


def open_view(tx: ReadTransaction, room_id: str, requester: Requester) -> RoomView:
    """What somebody may read of a room: its members all, those who were in it up to their leaving, and everybody if
    it is world-readable now.

    Raises:
        Forbidden: the user is not in the room and never was, or has forgotten it (whether or not it exists is nobody's
            business).
    """
    room = rooms.find(tx, room_id)
    if room is None or not room.state:
        raise _not_yours(room_id)
    user, user_id = requester.user_nid, requester.user_id
    row = memberships.get(tx, room.nid, user)
    if row is not None and row.membership is Membership.JOIN:
        sight = Sight(tx, user, user_id, ALWAYS)
        sight.know_membership(room.state, "join")
        return RoomView(room, room.state, room.last_event, sight, True)
    left = end_of_stay(tx, row)
    if is_world_readable(tx, room.state):
        sight = Sight(tx, user, user_id, NEVER if left is None else left)
        return RoomView(room, room.state, room.last_event, sight, False)
    if left is None or row is None or row.forgotten:
        raise _not_yours(room_id)
    return RoomView(room, rooms.state_at(tx, room.nid, left), left, Sight(tx, user, user_id, left), False)


def open_view_of_events(tx: ReadTransaction, room_id: str, requester: Requester) -> RoomView:
    """What somebody may read of single events of a room: besides what :func:`open_view` gives, those at which the room
    was open to them, be it closed now: it was world-readable, or they were invited and that was enough.

    Raises:
        Forbidden: there is no such room, or the user has forgotten it.
    """
    try:
        return open_view(tx, room_id, requester)
    except Forbidden:
        room = rooms.find(tx, room_id)
        row = None if room is None else memberships.get(tx, room.nid, requester.user_nid)
        if room is None or not room.state or (row is not None and row.forgotten):
            raise
        sight = Sight(tx, requester.user_nid, requester.user_id, NEVER)
        return RoomView(room, room.state, room.last_event, sight, False)


def end_of_stay(tx: ReadTransaction, row: MembershipRow | None) -> int | None:
    """The place of the event with which a user who is not in a room left it last; None if they never were in it."""
    if row is None:
        return None
    member = events.get(tx, row.event)
    for _ in range(_MAX_MEMBERSHIP_CHANGES):
        if member.replaces is None:
            return None
        before = events.get(tx, member.replaces)
        if before.event.membership == "join":
            return row.position if member.place is None else member.place
        member = before
    return None


def start_of_stay(tx: ReadTransaction, row: MembershipRow) -> int | None:
    """The place of the event with which a user who is in a room came in (later member events only changed their
    profile); None if they are not in it."""
    if row.membership is not Membership.JOIN:
        return None
    member = events.get(tx, row.event)
    for _ in range(_MAX_MEMBERSHIP_CHANGES):
        if member.replaces is None:
            break
        before = events.get(tx, member.replaces)
        if before.event.membership != "join":
            break
        member = before
    return row.position if member.place is None else member.place


def is_world_readable(tx: ReadTransaction, root: int) -> bool:
    """Whether a state lets everybody read."""
    return visibility_in(room_state.content_at(tx, root, "m.room.history_visibility")) == WORLD_READABLE


def _not_yours(room_id: str) -> Forbidden:
    return Forbidden(f"You are not in the room {room_id[:255]}, and it is not open to readers from outside")
