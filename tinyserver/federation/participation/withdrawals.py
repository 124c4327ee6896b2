"""The end of invites to, and knocks on, rooms that this server is not in, as other servers tell it.

spec: server-server-api#inviting-to-a-room
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinyserver.protocol.errors import Forbidden
from tinyserver.protocol.event_hashes import check_content_hash
from tinyserver.protocol.events import Event, parse_pdu
from tinyserver.protocol.identifiers import domain_of, is_valid_user_id
from tinyserver.rooms.append import EventFollower
from tinyserver.rooms.asked_elsewhere import Signatures
from tinyserver.rooms.out_of_band import is_resident, member_event_of, set_out_of_band
from tinyserver.storage import rooms
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


class Withdrawals:
    """Takes the leave or ban of a local user who was invited, or has knocked.

    Whether the sender may do it cannot be known without the state of the room. It is believed where the sender's
    server is one that this room is known from: that of who invited, or of who made what was shown of the room.

    Args:
        db: where memberships are stored.
        signatures: checks events.
        followers: who is told of them.
    """

    def __init__(self, db: Database, signatures: Signatures, followers: Sequence[EventFollower] = ()) -> None:
        self._followers = followers
        self._db = db
        self._signatures = signatures

    async def take(self, room: RoomRow, pdu: Mapping[str, Any]) -> None:
        """Take an event of a room that nobody on this server is in.

        Raises:
            BadJson, TooLarge: it is no PDU.
            SignatureError: it is not signed as it must be.
            Forbidden: it ends nothing that is known here.
        """
        event = parse_pdu({key: value for key, value in pdu.items() if key != "unsigned"}, room.version)
        if not self._db.glance(lambda tx: _ends_something(tx, room, event)):
            raise Forbidden("Nobody on this server is in this room.")
        await self._signatures.check(event.pdu, room.version)
        if not check_content_hash(event.pdu):
            raise Forbidden("The hash of the event does not match its content.")

        def step(tx: WriteTransaction) -> None:
            now = rooms.find(tx, event.room_id)
            if now is not None and not is_resident(tx, now) and _ends_something(tx, now, event):
                set_out_of_band(tx, event, self._followers)

        await self._db.write(step)


def _ends_something(tx: ReadTransaction, room: RoomRow, event: Event) -> bool:
    if event.room_id != room.room_id or event.type != "m.room.member" or event.state_key is None:
        return False
    if event.membership not in ("leave", "ban"):
        return False
    before = member_event_of(tx, room, event.state_key)
    if before is None or before.membership not in ("invite", "knock"):
        return False
    shown = before.pdu.get("unsigned", {}).get(f"{before.membership}_room_state", [])
    senders = [each.get("sender") for each in shown if isinstance(each, dict)]
    if before.membership == "invite":
        senders.append(before.sender)
    known = {domain_of(sender) for sender in senders if isinstance(sender, str) and is_valid_user_id(sender)}
    return domain_of(event.sender) in known
