"""Typing and receipts between servers.

What another server says is believed of its own users, in rooms where they are and from which the server is not banned.
It is told the same of ours, in rooms that it has users in.

spec: server-server-api#typing-notifications, server-server-api#receipts
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from tinyserver.bell import Bell
from tinyserver.federation.pending_edus import Read
from tinyserver.federation.pending_edus import Typing as Types
from tinyserver.federation.sender import FederationSender
from tinyserver.federation.transactions import Content
from tinyserver.protocol.identifiers import domain_of, is_valid_user_id
from tinyserver.rooms import server_acls
from tinyserver.rooms.partial_state import may_be_joined
from tinyserver.rooms.receipts import Receipts, RemoteReceipt
from tinyserver.rooms.typing import Typing
from tinyserver.storage import memberships, names, rooms, server_stays
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction, Topic

TYPES_FOR = 60.0
"""Seconds after which somebody elsewhere is taken not to type any more, unless that is said again."""
MAX_RECEIPTS = 1000
"""How many receipts of one EDU are looked at."""
_INT64 = 2**63


class EphemeralExchange:
    """Both directions. Lives on the event loop.

    Args:
        db: who is where.
        bell: tells who types, and which receipts have moved.
        acls: which servers a room hears.
        typing, receipts: take what comes, and know what is to be told.
        sender: takes what goes out.
        server_name: this server.
    """

    def __init__(
        self,
        db: Database,
        bell: Bell,
        typing: Typing,
        receipts: Receipts,
        sender: FederationSender,
        server_name: str,
    ) -> None:
        self._db = db
        self._typing = typing
        self._receipts = receipts
        self._sender = sender
        self._server_name = server_name
        self._told: dict[int, frozenset[str]] = {}
        """The local users who type, by room, as others were told."""
        bell.subscribe(self._on_commit)
        bell.subscribe_moments(self._on_moment)

    # -- from others -----------------------------------------------------------------------------

    async def take_typing(self, origin: str, content: Content) -> None:
        """An `m.typing` EDU of a server."""
        room_id, user_id, typing = content.get("room_id"), content.get("user_id"), content.get("typing")
        if not isinstance(room_id, str) or not isinstance(typing, bool):
            return
        room = self._db.glance(lambda tx: self._room_heard(tx, room_id, origin))
        user = None if room is None else self._db.glance(lambda tx: _member(tx, room, user_id, origin))
        if room is None or user is None or not isinstance(user_id, str):
            return
        if typing:
            self._typing.start(room.nid, user_id, user, TYPES_FOR)
        else:
            self._typing.stop(room.nid, user_id)

    async def take_receipts(self, origin: str, content: Content) -> None:
        """An `m.receipt` EDU of a server: what it does not name stays as it is."""
        left = MAX_RECEIPTS
        for room_id, kinds in content.items():
            users = kinds.get("m.read") if isinstance(kinds, dict) else None
            room = self._db.glance(lambda tx, room_id=room_id: self._room_heard(tx, room_id, origin))  # type: ignore[misc]
            if room is None or not isinstance(users, dict):
                continue
            found = self._db.glance(
                lambda tx, room=room, users=users, left=left: list(_receipts(tx, room, users, origin, left))  # type: ignore[misc]
            )
            left -= len(users)
            if found:
                await self._receipts.receive(room.nid, found)
            if left <= 0:
                return

    def _room_heard(self, tx: ReadTransaction, room_id: str, origin: str) -> RoomRow | None:
        room = rooms.find(tx, room_id)
        if room is None or not memberships.any_local_member(tx, room.nid):
            return None
        return room if server_acls.allows(tx, room, origin) else None

    # -- to others -------------------------------------------------------------------------------

    def _on_moment(self, room: int | None, users: Collection[int]) -> None:
        if room is None:
            return
        typing = frozenset(user for user in self._typing.users_in(room) if self._is_local(user))
        told = self._told.pop(room, frozenset())
        if typing:
            self._told[room] = typing
        if typing == told:
            return
        room_id, servers = self._db.glance(lambda tx: (rooms.room_id(tx, room), server_stays.now(tx, room)))
        if servers:
            for user in typing ^ told:
                self._sender.send_edu(servers, Types(room_id, user, user in typing))

    def _on_commit(self, commit: Commit) -> None:
        for change in commit.changes:
            if change.topic is Topic.RECEIPT:
                self._tell_of_receipt(change.nid, change.position)

    def _tell_of_receipt(self, room: int, position: int) -> None:
        servers = self._db.glance(lambda tx: server_stays.now(tx, room))
        if not servers:
            return
        moved = self._db.glance(lambda tx: self._receipts.visible_since(tx, room, 0, position - 1, position))
        room_id = self._db.glance(lambda tx: rooms.room_id(tx, room))
        for receipt in moved:
            if self._is_local(receipt.user_id):
                read = Read(room_id, receipt.user_id, receipt.thread_id, receipt.event_id, receipt.ts)
                self._sender.send_edu(servers, read)

    def _is_local(self, user_id: str) -> bool:
        return domain_of(user_id) == self._server_name


def _member(tx: ReadTransaction, room: RoomRow, user_id: Any, origin: str) -> int | None:
    """The number of a user of a server who is in the room; None for anybody else."""
    if not is_valid_user_id(user_id) or domain_of(user_id) != origin:
        return None
    user = names.find(tx, user_id)
    return user if user is not None and may_be_joined(tx, room, user_id) else None


def _receipts(
    tx: ReadTransaction, room: RoomRow, users: dict[str, Any], origin: str, limit: int
) -> Iterator[RemoteReceipt]:
    """The well-formed ones of a room's receipts."""
    for user_id, receipt in list(users.items())[:limit]:
        event_ids, data = (receipt.get("event_ids"), receipt.get("data")) if isinstance(receipt, dict) else (0, 0)
        user = _member(tx, room, user_id, origin)
        if user is None or not isinstance(event_ids, list) or not isinstance(data, dict):
            continue
        ts, thread_id = data.get("ts"), data.get("thread_id")
        if not isinstance(ts, int) or not -_INT64 <= ts < _INT64:
            continue
        if thread_id is not None and (not isinstance(thread_id, str) or not thread_id):
            continue
        for event_id in event_ids[:1]:
            if isinstance(event_id, str):
                yield RemoteReceipt(user, user_id, event_id, thread_id, ts)
