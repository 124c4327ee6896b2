"""What this server asks of its own users' member events, beyond the authorization rules of the room.

The membership endpoints and `PUT .../state/m.room.member/...` go through the same checks: whatever way a client takes,
guests stay out where guests are not admitted, nobody vouches for themselves, and whoever wants no invites gets none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from tinyserver.protocol.errors import (
    BadJson,
    CannotLeaveServerNoticeRoom,
    Forbidden,
    GuestAccessForbidden,
    InviteBlocked,
)
from tinyserver.protocol.identifiers import domain_of
from tinyserver.rooms.access import check_user_id, membership_of
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.guests import guests_may_join
from tinyserver.rooms.member_events import profile_of
from tinyserver.rooms.partial_state import check_members_known
from tinyserver.rooms.restricted import authorising_user
from tinyserver.storage import account_data, blocked_rooms, names, room_state, server_notices
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

_MEMBERSHIPS = ("join", "invite", "leave", "ban", "knock")
_AUTHORISER = "join_authorised_via_users_server"


class MemberChecks:
    """Checks and completes the member events that local users ask for.

    Args:
        server_name: this server.
        federates: whether users of other servers can be reached.
    """

    def __init__(self, server_name: str, *, federates: bool) -> None:
        self._server_name = server_name
        self._federates = federates

    def checked(self, tx: ReadTransaction, room: RoomRow, draft: EventDraft, *, is_guest: bool = False) -> EventDraft:
        """The member event as it may be sent: with the profile of its user, and with who vouches for a restricted join.

        Args:
            room: as the transaction sees it now.
            draft: an `m.room.member` event by a local user; the content is as the client gave it.
            is_guest: the sender is a guest.

        Raises:
            BadJson, InvalidParam: it is no member event.
            Forbidden, GuestAccessForbidden, InviteBlocked, UnableToGrantJoin: it may not be sent, or the room is
                blocked.
            MembersToCome: it is not known yet what the target is to the room.
        """
        target, membership = check_user_id(draft.state_key or ""), draft.content.get("membership")
        if membership not in _MEMBERSHIPS:
            raise BadJson("A member event needs a membership: join, invite, leave, ban or knock")
        # Only this server says who vouches for somebody; a client's word for it would open every restricted room.
        content = {key: value for key, value in draft.content.items() if key != _AUTHORISER}
        if target != draft.sender:
            check_members_known(tx, room, [("m.room.member", target)])
        before = membership_of(tx, room, target)
        if membership in ("join", "invite", "knock") and before is not Membership.JOIN:
            check_not_blocked(tx, room.room_id)
        if membership == "join":
            content |= self._join(tx, room, draft.sender, before, is_guest)
        elif membership == "knock" and is_guest:
            raise GuestAccessForbidden("Guests cannot knock on rooms")
        elif membership == "invite":
            self.check_invite(tx, room, target)
        elif membership == "leave" and draft.sender == target and before is Membership.INVITE:
            check_may_refuse(tx, room, target)
        elif membership == "leave" and draft.sender != target and before in (None, Membership.LEAVE):
            raise Forbidden(f"{target} is not in the room")
        if membership in ("join", "invite", "knock"):
            content = {**profile_of(tx, target), **content}
        return replace(draft, content=content)

    def _join(
        self, tx: ReadTransaction, room: RoomRow, user_id: str, before: Membership | None, is_guest: bool
    ) -> dict[str, Any]:
        """What the content of a join has to say besides what its user wants."""
        if before is Membership.JOIN:
            return {}
        if is_guest and not guests_may_join(tx, room.state):
            raise GuestAccessForbidden("Guests cannot join this room")
        if before is Membership.BAN:
            raise Forbidden("You are banned from this room")
        if before is Membership.INVITE:
            return {}
        authoriser = authorising_user(tx, room, user_id, self._server_name)
        return {} if authoriser is None else {_AUTHORISER: authoriser}

    def check_invite(self, tx: ReadTransaction, room: RoomRow, target: str) -> None:
        """Whether an invite can get to somebody, and is welcome.

        Raises:
            Forbidden: the user is of another server, and this one or the room is closed to others.
            InviteBlocked: the user wants no invites.

        spec: client-server-api#invite-permission
        """
        if domain_of(target) != self._server_name:
            if not self._federates:
                raise Forbidden(f"{target} is on another server, and this server does not talk to others")
            if room_state.content_at(tx, room.state, "m.room.create").get("m.federate") is False:
                raise Forbidden(f"{target} is on another server, and this room is closed to users of other servers")
            return
        check_wants_invites(tx, target)


def check_not_blocked(tx: ReadTransaction, room_id: str) -> None:
    """Raises Forbidden for a room that an administrator has blocked."""
    if blocked_rooms.is_blocked(tx, room_id):
        raise Forbidden("This room has been blocked on this server")


def check_may_refuse(tx: ReadTransaction, room: RoomRow, user_id: str) -> None:
    """Raises CannotLeaveServerNoticeRoom for the invite to the room of the server's notices.

    spec: client-server-api#server-notices
    """
    user = names.find(tx, user_id)
    if user is not None and server_notices.room_of(tx, user) == room.nid:
        raise CannotLeaveServerNoticeRoom


def check_wants_invites(tx: ReadTransaction, user_id: str) -> None:
    """Whether a local user wants to be invited.

    Raises:
        InviteBlocked: not so.

    spec: client-server-api#invite-permission
    """
    user = names.find(tx, user_id)
    if user is not None and not wants_invites(tx, user):
        raise InviteBlocked(f"{user_id} does not want to be invited")


def wants_invites(tx: ReadTransaction, user: int) -> bool:
    """Whether a local user (nid) wants to be invited, and to see the invites that there are."""
    config = account_data.get(tx, user, None, "m.invite_permission_config")
    return config is None or orjson.loads(config).get("default_action") != "block"
