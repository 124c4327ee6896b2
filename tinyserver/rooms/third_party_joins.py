"""Joining with the proof that an invite to an e-mail address or telephone number was meant for oneself.

spec: client-server-api#third-party-invites
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyserver.protocol.errors import BadJson, Forbidden
from tinyserver.protocol.identifiers import domain_of
from tinyserver.protocol.third_party_invites import check_third_party_invite
from tinyserver.rooms.access import membership_of
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.storage import room_state
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import WriteTransaction


def accept_third_party_invite(
    tx: WriteTransaction,
    pipeline: EventPipeline,
    room: RoomRow,
    user_id: str,
    signed: Mapping[str, Any],
    server_name: str,
) -> None:
    """Exchange a pending third-party invite for an invite of the user, in the name of who sent it.

    Nothing happens for somebody who is invited already.

    Args:
        signed: the `third_party_signed` of the join request: `mxid`, `sender`, `signatures`, `token`.

    Raises:
        BadJson: a part of it is missing.
        Forbidden: it is for somebody else, for no invite of this room, or not signed as it should be.
    """
    token = signed.get("token")
    if not isinstance(token, str) or not isinstance(signed.get("mxid"), str):
        raise BadJson("third_party_signed needs the token of the invite and the user that it is for (mxid)")
    if membership_of(tx, room, user_id) is Membership.INVITE:
        return
    issued = room_state.event_at(tx, room.state, "m.room.third_party_invite", token)
    if issued is None or signed["mxid"] != user_id or not check_third_party_invite(signed, issued.event.content):
        raise Forbidden("This is no proof of a pending invite to this room for you")
    sender = issued.event.sender
    if domain_of(sender) != server_name:
        raise Forbidden(f"The server of {sender}, who invited you, has to turn this proof into an invite")
    shown = issued.event.content.get("display_name")
    invite = {"display_name": shown if isinstance(shown, str) else "", "signed": dict(signed)}
    content = {"membership": "invite", "third_party_invite": invite}
    pipeline.send(tx, room.nid, EventDraft("m.room.member", sender, content, state_key=user_id))
