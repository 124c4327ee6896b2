"""What one user sees of one room's events: membership at each event, and whether history visibility lets them see it.

Runs of events with the same state are looked up once.

spec: client-server-api#room-history-visibility
"""

from __future__ import annotations

from tinyserver.protocol.history_visibility import (
    SHARED,
    WORLD_READABLE,
    is_event_visible,
    membership_in,
    visibility_in,
)
from tinyserver.storage import events, names, state_trie
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction


class Sight:
    """One user's view of the events of one room, within one transaction.

    Args:
        user: nid of the user `user_id`.
        joined_until: the user was in the room just before the event with this place, or is in it at this position.
    """

    __slots__ = ("_joined_until", "_keys", "_memberships", "_tx", "_user", "_user_id", "_visibilities")

    def __init__(self, tx: ReadTransaction, user: int, user_id: str, joined_until: int) -> None:
        self._tx = tx
        self._user = user
        self._user_id = user_id
        self._joined_until = joined_until
        self._memberships: dict[int, str] = {}
        self._visibilities: dict[int, str] = {}
        self._keys = (names.find(tx, "m.room.member"), names.find(tx, "m.room.history_visibility"), names.find(tx, ""))

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

    def sees(self, stored: StoredEvent) -> bool:
        """Whether the user may see an event."""
        place = stored.place
        joined_later = place is not None and place <= self._joined_until
        visibility = self._visibility_at(stored)
        if joined_later and visibility in (SHARED, WORLD_READABLE):
            return True
        membership = self.membership_in(stored.state)
        event = stored.event
        # The states are those after the event; of what the event itself changed, the one before counts as well.
        if event.state_key is not None:
            if event.type == "m.room.history_visibility" and event.state_key == "":
                visibility = visibility_in(self._replaced_content(stored))
            elif event.type == "m.room.member" and event.state_key == self._user_id:
                membership = membership_in(self._replaced_content(stored))
        return is_event_visible(
            event, self._user_id, visibility=visibility, membership=membership, joined_later=joined_later
        )

    def _visibility_at(self, stored: StoredEvent) -> str:
        root = stored.state
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
