"""What another server may see of a room's events: as much as any of its users who is or was in the room.

An event that it may not see is served redacted, so that it can still follow the room's graph.

spec: client-server-api#room-history-visibility
"""

from __future__ import annotations

from tinyserver.protocol.events import Event
from tinyserver.protocol.history_visibility import INVITED, SHARED, WORLD_READABLE, membership_in, visibility_in
from tinyserver.protocol.identifiers import domain_of
from tinyserver.protocol.redaction import redact
from tinyserver.storage import accounts, events, names, room_servers, room_state, state_trie
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction

_BATCH = 50
_JOIN, _INVITE = "join", "invite"


class ServerSight:
    """One server's view of one room, within one transaction.

    Args:
        is_member: whether it is in the room now.
    """

    def __init__(self, tx: ReadTransaction, room: RoomRow, server: str, *, is_member: bool) -> None:
        self._tx = tx
        self._room = room
        self._server = server
        self._is_member = is_member
        self._users: list[int] | None = None
        self._visibilities: dict[int, str] = {}
        self._memberships: dict[int, set[str]] = {}

    def sees(self, stored: StoredEvent) -> bool:
        """Whether the server may see an event as it is."""
        event = stored.event
        if self._is_member and self._server in (domain_of(event.sender), _target_server(event)):
            return True
        if self._sees_as(self._visibility_in(stored.state), stored.state):
            return True
        if (event.type, event.state_key) == ("m.room.history_visibility", ""):  # before the change or after it
            before = None if stored.replaces is None else events.get(self._tx, stored.replaces).event.content
            return self._sees_as(visibility_in(before), stored.state)
        return False

    def event_for(self, stored: StoredEvent) -> Event:
        """An event as the server gets it: whole, or redacted where it may not see it, or where its sender has asked to
        be erased and the server was not in the room with them."""
        event = stored.event
        if self.sees(stored) and not self._is_erased(stored):
            return event
        return Event.from_trusted(redact(event.pdu, event.version), event.version, event.event_id)

    def _sees_as(self, visibility: str, root: int | None) -> bool:
        if visibility == WORLD_READABLE or (self._is_member and visibility == SHARED):
            return True
        kinds = self._memberships_in(root)
        return _JOIN in kinds or (visibility == INVITED and _INVITE in kinds)

    def _visibility_in(self, root: int | None) -> str:
        if root is None:
            return SHARED
        visibility = self._visibilities.get(root)
        if visibility is None:
            visibility = visibility_in(room_state.content_at(self._tx, root, "m.room.history_visibility"))
            self._visibilities[root] = visibility
        return visibility

    def _memberships_in(self, root: int | None) -> set[str]:
        """The memberships that the server's users have in a state; looked at until one of them is joined."""
        member_type = names.find(self._tx, "m.room.member")
        if root is None or member_type is None:
            return set()
        kinds = self._memberships.get(root)
        if kinds is None:
            kinds = self._memberships[root] = set()
            if self._users is None:
                self._users = room_servers.users_of(self._tx, self._room.nid, self._server)
            for start in range(0, len(self._users), _BATCH):
                keys = [(member_type, user) for user in self._users[start : start + _BATCH]]
                found = state_trie.get_many(self._tx, root, keys).values()
                kinds.update(membership_in(events.get(self._tx, nid).event.content) for nid in found)
                if _JOIN in kinds:
                    break
        return kinds

    def _is_erased(self, stored: StoredEvent) -> bool:
        account = accounts.get(self._tx, stored.sender_nid)
        return account is not None and account.is_erased and _JOIN not in self._memberships_in(stored.state)


def _target_server(event: Event) -> str | None:
    """The server of the user whose membership an event changes."""
    if event.type != "m.room.member" or not event.state_key or ":" not in event.state_key:
        return None
    return event.state_key.partition(":")[2]
