"""Invites by mail address or telephone number, with the help of an identity server.

spec: client-server-api#third-party-invites
"""

from __future__ import annotations

from typing import Any

from tinyserver.identity.client import IdentityClient
from tinyserver.protocol.errors import Forbidden, InvalidParam
from tinyserver.protocol.threepids import canonical_address
from tinyserver.rooms.access import room_of_member
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.member_events import profile_of
from tinyserver.rooms.membership import RoomMembership
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.rooms.third_party_invitees import Invitee
from tinyserver.storage import room_state
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_THIRD_PARTY_INVITE = "m.room.third_party_invite"
# What an identity server tells the invited of the room, by where it is in the room's state.
_SHOWN = (
    ("room_name", "m.room.name", "name"),
    ("room_alias", "m.room.canonical_alias", "alias"),
    ("room_avatar_url", "m.room.avatar", "url"),
    ("room_join_rules", "m.room.join_rules", "join_rule"),
    ("room_type", "m.room.create", "type"),
)


class IdentityInvites:
    """Invites by address (the `ThirdPartyInviter` of rooms).

    Args:
        db: where rooms are stored.
        client: asks identity servers.
        membership: invites users.
        pipeline: sends the event that stands for somebody who is not known yet.
    """

    def __init__(
        self, db: Database, client: IdentityClient, membership: RoomMembership, pipeline: EventPipeline
    ) -> None:
        self._db = db
        self._client = client
        self._membership = membership
        self._pipeline = pipeline

    def check(self, invitee: Invitee) -> None:
        """Whether somebody can be invited like this.

        Raises:
            ServerNotTrusted: users may not use this identity server.
            InvalidParam: no address.
        """
        self._client.check_trusted(invitee.id_server)
        _address(invitee)

    async def invite(self, sender: str, room_id: str, invitee: Invitee, *, is_direct: bool = False) -> None:
        """Invite whoever has the address, at once or as soon as they prove it.

        Raises:
            Forbidden, InviteBlocked: the sender may not.
            MatrixError: the identity server refuses or cannot be reached.
        """
        self.check(invitee)
        address = _address(invitee)
        # Nobody outside is told of an invite that the room does not allow.
        await self._membership.partial.whole(room_id)
        self._db.glance(lambda tx: _check_may_invite(tx, room_id, sender))
        server, token = invitee.id_server, invitee.id_access_token
        user_id = await self._client.lookup(server, token, invitee.medium, address)
        if user_id is not None:
            await self._membership.invite(sender, room_id, user_id, is_direct=is_direct)
            return
        about = self._db.glance(lambda tx: _about(tx, room_id, sender))
        wanted = {"medium": invitee.medium, "address": address, "room_id": room_id, "sender": sender, **about}
        stored = await self._client.store_invite(server, token, wanted)

        def step(tx: WriteTransaction) -> None:
            room = room_of_member(tx, room_id, sender)
            draft = EventDraft(_THIRD_PARTY_INVITE, sender, stored.content, state_key=stored.token)
            self._pipeline.send(tx, room.nid, draft)

        await self._membership.partial.write(room_id, step)


def _check_may_invite(tx: ReadTransaction, room_id: str, sender: str) -> None:
    levels = room_state.power_levels(tx, room_of_member(tx, room_id, sender).state)
    if levels.user_level(sender) < levels.invite:
        raise Forbidden("You do not have permission to invite users to this room.")


def _address(invitee: Invitee) -> str:
    address = canonical_address(invitee.medium, invitee.address)
    if address is None:
        raise InvalidParam("People are invited by an address such as alice@example.org and the medium 'email'.")
    return address


def _about(tx: ReadTransaction, room_id: str, sender: str) -> dict[str, Any]:
    room = room_of_member(tx, room_id, sender)
    profile = profile_of(tx, sender)
    told = {"sender_display_name": profile.get("displayname"), "sender_avatar_url": profile.get("avatar_url")}
    for name, event_type, key in _SHOWN:
        told[name] = room_state.content_at(tx, room.state, event_type).get(key)
    return {name: value for name, value in told.items() if isinstance(value, str) and value}
