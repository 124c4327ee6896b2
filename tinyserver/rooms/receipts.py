"""Read receipts and the fully-read marker.

A receipt says "read up to here" and never moves backwards: one that would is answered like any other and changes
nothing. The order is that of the room's timeline on this server.

spec: client-server-api#receipts, client-server-api#read-and-unread-markers
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from tinyserver.accounts.requester import Requester
from tinyserver.clock import Clock
from tinyserver.protocol.errors import InvalidParam, NotFound
from tinyserver.protocol.relations import relation_of
from tinyserver.rooms.access import room_of_member
from tinyserver.storage import account_data, events, receipts, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.receipts import MAIN, UNTHREADED, Receipt, ReceiptKind
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

FULLY_READ = "m.fully_read"
KINDS = {kind.receipt_type: kind for kind in ReceiptKind}

MAX_AT_FIRST = 200
"""How many receipts of others a client gets of a room that it does not know yet: the newest."""
MAX_OWN_AT_FIRST = 500
"""How many receipts of its own user it gets then."""
MAX_REMEMBERED = 10_000
"""How many moved receipts are kept in memory for all rooms together."""
MAX_REMEMBERED_OF_ROOM = 500


@dataclass(frozen=True, slots=True)
class ReadMarkers:
    """Event IDs up to which the requester has read, each None where it says nothing."""

    fully_read: str | None = None
    read: str | None = None
    read_private: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteReceipt:
    """A public receipt of a user of another server (`user`: nid), who is in the room; `ts` in ms since 1970."""

    user: int
    user_id: str
    event_id: str
    thread_id: str | None
    ts: int


@dataclass(frozen=True, slots=True)
class _Move:
    """A receipt (kind None: the fully-read marker) that is to move to an event."""

    kind: ReceiptKind | None
    thread: str
    event: StoredEvent


class ReceiptFollower(Protocol):
    """Who has to do something about receipts, in their own step (implemented by application services)."""

    def note_receipt(self, tx: WriteTransaction, room: int, user_id: str, kind: ReceiptKind, position: int) -> None:
        """A user's receipt in a room (nid) has moved, at a position."""


_PATIENCE = 0.25
"""Seconds that a receipt may wait for the commit of a message: it costs the card no fsync of its own then, and the
devices that are told of it are woken once."""


class Receipts:
    """Moves receipts of local users, and tells sync which have moved.

    Args:
        db: where they are stored.
        clock: the time that receipts carry.
        followers: who is told of receipts that move.
    """

    def __init__(self, db: Database, clock: Clock, followers: Sequence[ReceiptFollower] = ()) -> None:
        self._followers = followers
        self._db = db
        self._clock = clock
        self._recent = RecentReceipts(db.position)

    async def send(
        self, requester: Requester, room_id: str, receipt_type: str, event_id: str, thread_id: str | None = None
    ) -> None:
        """Say that the requester has read up to an event.

        Args:
            receipt_type: `m.read`, `m.read.private` or `m.fully_read`.
            thread_id: `main` or the ID of a thread's root, where it counts for that thread only.

        Raises:
            Forbidden: the requester is not in the room.
            InvalidParam: no such type, or a thread that does not go with the type or the event.
            NotFound: the room's timeline has no such event.
        """
        if receipt_type == FULLY_READ:
            if thread_id is not None:
                raise InvalidParam("The fully-read marker is for the whole room: it takes no thread_id")
            await self._move(requester, room_id, [(None, event_id)], UNTHREADED)
            return
        kind = KINDS.get(receipt_type)
        if kind is None:
            raise InvalidParam(f"There are no receipts of this type; there are {', '.join(KINDS)} and {FULLY_READ}")
        if thread_id == "":
            raise InvalidParam("thread_id must be a non-empty string")
        await self._move(requester, room_id, [(kind, event_id)], thread_id or UNTHREADED)

    async def set_markers(self, requester: Requester, room_id: str, markers: ReadMarkers) -> None:
        """Move several markers at once: all of them or, if one is refused, none. Raises as :meth:`send` does."""
        wanted = [
            (kind, event_id)
            for kind, event_id in (
                (None, markers.fully_read),
                (ReceiptKind.READ, markers.read),
                (ReceiptKind.READ_PRIVATE, markers.read_private),
            )
            if event_id is not None
        ]
        await self._move(requester, room_id, wanted, UNTHREADED)

    async def receive(self, room_nid: int, receipts_of_others: Sequence[RemoteReceipt]) -> None:
        """Move receipts of users of other servers, as far as they lead forward to events that are here."""

        def step(tx: WriteTransaction) -> None:
            room = rooms.get(tx, room_nid)
            for each in receipts_of_others:
                wanted = [(ReceiptKind.READ, each.event_id)]
                with contextlib.suppress(NotFound, InvalidParam):  # an event, or a thread, that is not known here
                    for move in _moves(tx, room, each.user, wanted, each.thread_id or UNTHREADED):
                        self._put(tx, room, each.user, each.user_id, ReceiptKind.READ, move, each.ts)

        await self._db.write(step, patience=_PATIENCE)

    def visible_since(self, tx: ReadTransaction, room: int, reader: int, since: int, until: int) -> Sequence[Receipt]:
        """Receipts that moved after a position, up to another, without the private ones of others than the reader.

        From 0 on, it is what a client needs that does not know the room: all of the reader's own, and the newest of
        the others.
        """
        if since == 0:
            others = receipts.newest(tx, room, until, MAX_AT_FIRST)
            own = receipts.of_user(tx, room, reader, MAX_OWN_AT_FIRST)
            return [*own, *(receipt for receipt in others if receipt.user != reader)]
        moved = self._recent.moved(room, since, until)
        if moved is None:
            moved = receipts.moved(tx, room, since, until)
        return [receipt for receipt in moved if receipt.kind is ReceiptKind.READ or receipt.user == reader]

    async def _move(
        self, requester: Requester, room_id: str, wanted: Sequence[tuple[ReceiptKind | None, str]], thread: str
    ) -> None:
        def plan(tx: ReadTransaction) -> tuple[RoomRow, list[_Move]]:
            room = room_of_member(tx, room_id, requester.user_id)
            return room, list(_moves(tx, room, requester.user_nid, wanted, thread))

        if not self._db.glance(plan)[1]:
            return
        now = self._clock.now_ms()

        def step(tx: WriteTransaction) -> None:
            room, moves = plan(tx)
            for move in moves:
                self._store(tx, room, requester, move, now)

        await self._db.write(step, patience=_PATIENCE)

    def _store(self, tx: WriteTransaction, room: RoomRow, requester: Requester, move: _Move, now: int) -> None:
        user = requester.user_nid
        if move.kind is None:
            content = orjson.dumps({"event_id": move.event.event_id})
            account_data.put(tx, user, room.room_id, FULLY_READ, content)
            return
        self._put(tx, room, user, requester.user_id, move.kind, move, now)

    def _put(
        self, tx: WriteTransaction, room: RoomRow, user: int, user_id: str, kind: ReceiptKind, move: _Move, ts: int
    ) -> None:
        position = receipts.put(
            tx, room=room.nid, user=user, kind=kind, thread=move.thread, event=move.event.nid, ts=ts
        )
        for follower in self._followers:
            follower.note_receipt(tx, room.nid, user_id, kind, position)
        receipt = Receipt(room.nid, user, user_id, kind, move.thread or None, move.event.event_id, ts, position)
        tx.on_commit(lambda: self._recent.add(receipt))


def _moves(
    tx: ReadTransaction, room: RoomRow, user: int, wanted: Sequence[tuple[ReceiptKind | None, str]], thread: str
) -> Iterator[_Move]:
    """Those of the wanted receipts that move forward."""
    for kind, event_id in wanted:
        event = events.by_id(tx, event_id) if event_id.startswith("$") else None
        if event is None or event.room != room.nid or event.place is None:
            raise NotFound("This room has no such event")
        if thread != UNTHREADED:
            _check_thread(tx, event, thread)
        if kind is None:
            place = _fully_read_place(tx, room, user)
        else:
            place = receipts.place_of(tx, room.nid, user, kind, thread)
        if place is None or place < event.place:
            yield _Move(kind, thread, event)


def _fully_read_place(tx: ReadTransaction, room: RoomRow, user: int) -> int | None:
    stored = account_data.get(tx, user, room.room_id, FULLY_READ)
    if stored is None:
        return None
    event = events.by_id(tx, orjson.loads(stored)["event_id"])
    return None if event is None else event.place


def _check_thread(tx: ReadTransaction, event: StoredEvent, thread: str) -> None:
    """Refuse a thread that the event is not in. A thread's root may be named in its own thread too: clients that show
    it at the head of the thread do so.

    spec: client-server-api#threaded-read-receipts
    """
    if thread == event.event_id:
        return
    if event.thread is not None:
        actual = events.get(tx, event.thread).event_id
    else:
        actual = relation_of(event.event.content).thread_root or MAIN
    if thread != actual:
        raise InvalidParam("The event is not in the thread that thread_id names")


class RecentReceipts:
    """The receipts that moved last, in memory. Written on the event loop, read anywhere.

    Args:
        position: the newest position at the start; what moved before is not here.
    """

    def __init__(self, position: int) -> None:
        self._floor = position
        """Rooms that are not in `_rooms` had no receipt after this position."""
        self._rooms: dict[int, _RoomReceipts] = {}
        self._size = 0

    def add(self, receipt: Receipt) -> None:
        """A receipt has moved; positions only grow."""
        room = self._rooms.pop(receipt.room, None) or _RoomReceipts(self._floor)
        self._rooms[receipt.room] = room  # at the end: the first one is the longest unchanged
        self._size += room.add(receipt)
        while self._size > MAX_REMEMBERED and len(self._rooms) > 1:
            oldest = self._rooms.pop(next(iter(self._rooms)))
            self._size -= len(oldest.receipts)
            self._floor = max(self._floor, oldest.newest)

    def moved(self, room: int, since: int, until: int) -> list[Receipt] | None:
        """The receipts of a room that moved at a position in (since, until], newest first; None: not all are here."""
        found = self._rooms.get(room)
        if found is None:
            return [] if since >= self._floor else None
        return found.moved(since, until)


class _RoomReceipts:
    """The newest receipts of one room by (user, kind, thread), in the order in which they moved."""

    __slots__ = ("complete_since", "newest", "receipts")

    def __init__(self, complete_since: int) -> None:
        self.complete_since = complete_since
        self.newest = complete_since
        self.receipts: dict[tuple[int, ReceiptKind, str | None], Receipt] = {}

    def add(self, receipt: Receipt) -> int:
        """Put a receipt in; by how many the number of receipts has grown."""
        key = (receipt.user, receipt.kind, receipt.thread_id)
        grown = 1 if self.receipts.pop(key, None) is None else 0
        self.receipts[key] = receipt
        self.newest = receipt.position
        if len(self.receipts) > MAX_REMEMBERED_OF_ROOM:
            oldest = self.receipts.pop(next(iter(self.receipts)))
            self.complete_since = oldest.position
            grown -= 1
        return grown

    def moved(self, since: int, until: int) -> list[Receipt] | None:
        if since < self.complete_since:
            return None
        found: list[Receipt] = []
        for receipt in reversed(list(self.receipts.values())):
            if receipt.position <= since:
                break
            if receipt.position <= until:  # one that has moved on since then comes with the next sync
                found.append(receipt)
        return found
