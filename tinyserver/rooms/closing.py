"""Closing rooms to the users of this server, on the word of an administrator.

Each of its users leaves by an event of their own, which every room allows. Until the last has left that is noted on
disk, so that a stop in between only delays it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from tinyserver.clock import Clock
from tinyserver.protocol.errors import Forbidden, InvalidParam, MatrixError
from tinyserver.protocol.identifiers import is_valid_room_id
from tinyserver.rooms.membership import RoomMembership
from tinyserver.storage import appservices, blocked_rooms, memberships, names, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

log = logging.getLogger(__name__)

_TOGETHER = 20
"""How many leave at a time: they share commits, and nobody else waits long."""
_MAX_REASON = 500


class Farewell(Protocol):
    """Tells those who had to leave a room (implemented by server notices)."""

    def say_farewell(self, tx: WriteTransaction, room: RoomRow, since: int, reason: str) -> None:
        """Have all who left the room after a position told why, by what is stored in this step."""
        ...


class RoomClosing:
    """Closes rooms and opens them again.

    Args:
        db: where it is noted.
        membership: takes users out of rooms.
        clock: for when it was.
        farewell: tells users why they had to leave.
    """

    def __init__(self, db: Database, membership: RoomMembership, clock: Clock, farewell: Farewell) -> None:
        self._farewell = farewell
        self._db = db
        self._membership = membership
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    async def shut_down(self, room_id: str, reason: str | None, *, wait: float) -> tuple[list[str], bool]:
        """Take a room out of the directory, take its aliases on this server away, have all users of this server leave
        it (also those who are only invited), and let none of them in again.

        Args:
            reason: why; they hear of it by a notice, and it stands in the events by which they leave.
            wait: seconds to wait for them. Whoever has not left then leaves afterwards.

        Returns:
            The user IDs of those who had to leave, and whether all of them have.

        Raises:
            InvalidParam: no room ID, or too long a reason.
        """
        _check(room_id, reason)

        def step(tx: WriteTransaction) -> list[str]:
            blocked_rooms.block(tx, room_id, self._clock.now_ms(), reason, emptying=True)
            room = rooms.find(tx, room_id)
            if room is None:
                return []
            rooms.set_public(tx, room.nid, False)
            appservices.unlist_everywhere(tx, room.nid)
            for alias in rooms.aliases(tx, room.nid):
                rooms.remove_alias(tx, alias)
            return [names.text(tx, user) for user in _present(tx, room.nid)]

        leaving = await self._db.write(step)
        task = self._begin(room_id, reason)
        await asyncio.wait([task], timeout=wait)
        return leaving, not self._db.glance(lambda tx: blocked_rooms.is_emptying(tx, room_id))

    async def block(self, room_id: str, reason: str | None) -> None:
        """Let no user of this server into a room any more; those who are in it stay. Raises InvalidParam."""
        _check(room_id, reason)
        await self._db.write(lambda tx: blocked_rooms.block(tx, room_id, self._clock.now_ms(), reason, emptying=False))

    async def unblock(self, room_id: str) -> bool:
        """Let users of this server in again; False where they were not kept out."""
        return await self._db.write(lambda tx: blocked_rooms.unblock(tx, room_id))

    async def blocked(self, after: str, limit: int) -> list[tuple[str, int, str | None]]:
        """Some blocked rooms, those behind an ID: their IDs, since when (ms since 1970), and why."""
        return await self._db.read(lambda tx: blocked_rooms.after(tx, after, limit))

    def start(self) -> None:
        """Go on with what a stop of the server interrupted."""
        for room_id, reason in self._db.glance(blocked_rooms.emptying):
            self._begin(room_id, reason)

    async def close(self) -> None:
        """Stop; what is not done goes on after the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, room_id: str, reason: str | None) -> asyncio.Task[None]:
        task = asyncio.create_task(self._empty(room_id, reason))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _empty(self, room_id: str, reason: str | None) -> None:
        def present(tx: ReadTransaction) -> list[str]:
            room = rooms.find(tx, room_id)
            return [] if room is None else [names.text(tx, user) for user in _present(tx, room.nid)]

        users = await self._db.read(present)
        failed = 0
        try:
            for start in range(0, len(users), _TOGETHER):
                leaving = (self._leave(user, room_id, reason) for user in users[start : start + _TOGETHER])
                failed += (await asyncio.gather(*leaving)).count(False)
            if not failed:
                await self._db.write(lambda tx: self._finish(tx, room_id, reason))
        except StorageError as error:
            log.warning("the room %s could not be emptied, it goes on after the next start: %s", room_id, error)
        if failed:
            log.warning("%d users could not leave the room %s yet; they do after the next start", failed, room_id)

    def _finish(self, tx: WriteTransaction, room_id: str, reason: str | None) -> None:
        since, room = blocked_rooms.emptied(tx, room_id), rooms.find(tx, room_id)
        if since is not None and room is not None and reason:
            self._farewell.say_farewell(tx, room, since, reason)

    async def _leave(self, user_id: str, room_id: str, reason: str | None) -> bool:
        try:
            await self._membership.leave(user_id, room_id, reason, by_server=True)
        except Forbidden:
            return True  # somebody else has removed the user meanwhile
        except MatrixError as error:
            log.info("%s could not leave %s: %s", user_id, room_id, error.message)
            return False
        return True


def _present(tx: ReadTransaction, room: int) -> list[int]:
    kinds = (Membership.JOIN, Membership.INVITE, Membership.KNOCK)
    return [user for kind in kinds for user in memberships.local_members(tx, room, kind)]


def _check(room_id: str, reason: str | None) -> None:
    if not is_valid_room_id(room_id):
        raise InvalidParam(f"{room_id[:100]!r} is not a room ID")
    if reason is not None and len(reason) > _MAX_REASON:
        raise InvalidParam(f"The message cannot have more than {_MAX_REASON} characters")
