"""Who decides how a room is found."""

from __future__ import annotations

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import Forbidden
from tinyserver.rooms.access import membership_of
from tinyserver.storage import room_state
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction


def may_set_aliases(tx: ReadTransaction, room: RoomRow, user_id: str) -> bool:
    """Whether a user is in the room and has the power to change its canonical alias."""
    if membership_of(tx, room, user_id) is not Membership.JOIN:
        return False
    levels = room_state.power_levels(tx, room.state)
    return levels.user_level(user_id) >= levels.event_level("m.room.canonical_alias", is_state=True)


def check_may_publish(tx: ReadTransaction, room: RoomRow, requester: Requester) -> None:
    """Whether somebody may put the room into the directory: this server's administrators, and those in the room who
    have the power to change its canonical alias.

    Raises:
        Forbidden: they may not.
    """
    if not requester.is_admin and not may_set_aliases(tx, room, requester.user_id):
        raise Forbidden("You need the power to change the room's main address to publish it, or to take it back")
