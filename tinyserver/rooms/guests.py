"""Guests in rooms.

spec: client-server-api#guest-access
"""

from __future__ import annotations

from tinyserver.rooms.member_events import member_draft
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.storage import accounts, memberships, names, room_state
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def guests_may_join(tx: ReadTransaction, root: int) -> bool:
    """Whether a room state lets guests in."""
    return room_state.content_at(tx, root, "m.room.guest_access").get("guest_access") == "can_join"


def remove_guests(tx: WriteTransaction, pipeline: EventPipeline, room: RoomRow) -> None:
    """Take this server's guests out of a room that no longer admits guests.

    Args:
        room: the room after its guest access has changed.
    """
    if guests_may_join(tx, room.state):
        return
    for kind in (Membership.JOIN, Membership.INVITE, Membership.KNOCK):
        for user in memberships.local_members(tx, room.nid, kind):
            account = accounts.get(tx, user)
            if account is not None and account.is_guest:
                user_id = names.text(tx, user)
                draft = member_draft(
                    tx, sender=user_id, target=user_id, membership="leave", reason="Guests are no longer admitted"
                )
                pipeline.send(tx, room.nid, draft)
