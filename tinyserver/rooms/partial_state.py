"""Rooms that are used before all of their members are known.

A server that lets us into a room may leave its members out of what it tells of the state. The room is *partial* then
(`RoomRow.is_partial`, durable in `storage.partial_rooms`) until the rest has come. What that means, in one place:

- State other than members is known, and so are our own users and the servers in the room: they write, read and are
  written to at once.
- The state of the room knows a member as soon as an event names their member event as one that allows it
  (`supplemented`). So an event is authorised by what is known and what it proves itself, and lazy loading finds its
  sender. Nothing is soft-failed. When everything is known, all such events are judged again (`completion`).
- What depends on members of whom nothing is known waits for a while (`PartialRooms.whole`), or is refused for now
  (`check_members_known`). Other servers are not told of states (`federation.serving`).
- A client that loads members lazily gets the room at once, others when it is whole (`sync.engine`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from tinyserver.protocol.errors import LimitExceeded
from tinyserver.protocol.identifiers import domain_of
from tinyserver.storage import events as stored_events
from tinyserver.storage import memberships, names, partial_rooms, room_state, rooms, server_stays, state_trie
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.partial_rooms import PartialRoom
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

WAIT = 50.0
"""Seconds for which a request waits for members that are still to come."""
RETRY_AFTER_MS = 5000
MAX_SERVERS = 50
"""How many servers are kept in mind for the rest of the state."""
_MEMBER = "m.room.member"
Result = TypeVar("Result")


def supplemented(tx: WriteTransaction, root: int, auth: Iterable[StoredEvent]) -> int:
    """A state of a partial room with the members whom an event's auth events name.

    What is known of a member only from such an event gives way to a later one; what happened in the room since we
    are in it does not.
    """
    found: dict[tuple[int, int], int] = {}
    for stored in auth:
        if stored.event.type != _MEMBER or stored.state_key_nid is None or stored.rejected:
            continue
        key = (stored.type_nid, stored.state_key_nid)
        known = state_trie.get(tx, root, key)
        if known is None or (known != stored.nid and _is_later(stored, stored_events.get(tx, known))):
            found[key] = stored.nid
    return state_trie.update(tx, root, found)


def _is_later(stored: StoredEvent, known: StoredEvent) -> bool:
    return bool(known.flags & Flag.OUTLIER) and stored.event.depth > known.event.depth


def assumed_root(tx: WriteTransaction, room: RoomRow) -> int | None:
    """The root of the state that a partial room is taken to have been in at events whose parents are not here, or None
    if the room is whole."""
    partial = partial_rooms.get(tx, room.nid)
    return None if partial is None else partial.base


def check_members_known(tx: ReadTransaction, room: RoomRow, keys: Collection[tuple[str, str]]) -> None:
    """Raises MembersToCome if one of these state keys is a member of whom nothing is known yet."""
    if not room.is_partial:
        return
    wanted = [key for key in keys if key[0] == _MEMBER]
    if len(room_state.events_at(tx, room.state, wanted)) < len(wanted):
        raise MembersToCome


def may_be_joined(tx: ReadTransaction, room: RoomRow, user_id: str) -> bool:
    """Whether a user is in a room, as far as is known: in a partial room everybody of its servers may be."""
    user = names.find(tx, user_id)
    row = None if user is None else memberships.get(tx, room.nid, user)
    if row is not None:
        return row.membership is Membership.JOIN
    return room.is_partial and server_stays.is_in_room(tx, room.nid, domain_of(user_id))


class MembersToCome(LimitExceeded):
    """What was asked depends on members of whom nothing is known yet."""

    def __init__(self) -> None:
        super().__init__(RETRY_AFTER_MS, "The members of this room are still being fetched. Try again in a while.")


class PartialRooms:
    """Which rooms are partial now. Lives on the event loop; begins and ends inside write steps.

    Args:
        db: where it is kept.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: dict[int, set[asyncio.Future[None]]] = {}
        self._closed = False
        self.now: frozenset[int] = frozenset()
        """The rooms (nids) that are partial."""
        self.newest_completion = 0
        """The position at which one became whole last."""

    def load(self) -> None:
        """The database is open: read what there is."""
        self.now = frozenset(self._db.glance(partial_rooms.all_partial))
        self.newest_completion = self._db.glance(partial_rooms.newest_completion)

    # -- inside write steps ----------------------------------------------------------------------

    def begin(
        self, tx: WriteTransaction, room: int, join: StoredEvent, base: int, servers: Sequence[str], first: str
    ) -> None:
        """We have come into a room without its members.

        Args:
            join: the join of the local user.
            base: the root of the state before it as it was told.
            servers: those in the room before it.
            first: the one that let us in.
        """
        assert join.place is not None
        partial_rooms.begin(tx, room, join.nid, base, list(dict.fromkeys([first, *servers]))[:MAX_SERVERS])
        partial_rooms.note_event(tx, room, join.nid, join.place)
        server_stays.be_told(tx, room, servers, join.place)
        row = rooms.get(tx, room)
        # There is somebody of each server: a room is not taken for one of two people before all are counted.
        rooms.set_counts(tx, room, max(row.joined, len(servers) + 1), row.invited)
        tx.on_commit(lambda: self._note(self.now | {room}, None))

    def finish(self, tx: WriteTransaction, room: int, position: int) -> None:
        """All members are known."""
        partial_rooms.finish(tx, room, position)
        tx.on_commit(lambda: self._note(self.now - {room}, position))

    def give_up(self, tx: WriteTransaction, room: int) -> None:
        """Nobody here is in the room any more: it stays as it is."""
        partial_rooms.give_up(tx, room)
        tx.on_commit(lambda: self._note(self.now - {room}, None))

    def _note(self, now: frozenset[int], completed_at: int | None) -> None:
        over, self.now = self.now - now, now
        if completed_at is not None:
            self.newest_completion = completed_at
        for room in over:
            for future in self._waiting.pop(room, ()):
                if not future.done():
                    future.set_result(None)

    # -- for those who need everything -----------------------------------------------------------

    def get(self, room: int) -> PartialRoom | None:
        """A room that is partial now, or None."""
        return self._db.glance(lambda tx: partial_rooms.get(tx, room)) if room in self.now else None

    async def whole(self, room_id: str) -> None:
        """Wait until all members of a room are known; not for a room that is not partial, or not here, or that nobody
        here is in any more.

        Raises:
            MembersToCome: it takes too long.
        """
        if not self.now:
            return
        room = self._db.glance(lambda tx: rooms.find(tx, room_id))
        if room is None or room.nid not in self.now:
            return
        if not self._db.glance(lambda tx: memberships.any_local_member(tx, room.nid)):
            return
        if self._closed:
            raise MembersToCome
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(room.nid, set()).add(future)
        try:
            async with asyncio.timeout(WAIT):
                await future
        except TimeoutError as error:
            raise MembersToCome from error
        finally:
            waiting = self._waiting.get(room.nid)
            if waiting is not None:
                waiting.discard(future)

    def close(self) -> None:
        """The server is about to stop: nobody waits any longer."""
        self._closed = True
        for future in [future for waiting in self._waiting.values() for future in waiting if not future.done()]:
            future.set_exception(MembersToCome())

    async def write(self, room_id: str, step: Callable[[WriteTransaction], Result]) -> Result:
        """Carry out a write step in a room; if it turns out to depend on unknown members, once more when they are
        known.

        Raises:
            MembersToCome: it takes too long.
        """
        try:
            return await self._db.write(step)
        except MembersToCome:
            await self.whole(room_id)
            return await self._db.write(step)

    def between(self, tx: ReadTransaction, since: int, until: int) -> frozenset[int]:
        """The rooms that became whole at a position in (since, until]."""
        if self.newest_completion <= since:
            return frozenset()
        return frozenset(partial_rooms.completed_between(tx, since, until))
