"""The connections of devices that use sliding sync: what was sent on each, in memory and on disk.

What is stored lags a few seconds behind: a client whose newest token is not known after a crash starts over, which is
all that a commit for each answer could spare it.

spec: MSC4186 (connections)
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from tinyserver.bell import Bell
from tinyserver.protocol.errors import InvalidParam, UnknownPos
from tinyserver.rooms.tokens import Point, parse_token
from tinyserver.storage import sliding_connections
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.transaction import WriteTransaction
from tinyserver.sync.sliding.sent import NOTHING_SENT, Sent, decode, encode

log = logging.getLogger(__name__)

MAX_OF_DEVICE = 10
"""How many connections a device may have; those written longest ago are forgotten first."""
MAX_ROOMS_REMEMBERED = 50_000
"""How many rooms all connections in memory may have together."""
MAX_STORED = 512 * 1024
"""Bytes of a connection on disk; a larger one lives in memory only."""
WRITE_DELAY = 5.0
"""Seconds after which what was sent is stored."""
_CONNECTION_SIZE = 20
Key = tuple[int, str]
"""A device (by number; a negative user for who has no device) and the name of a connection."""

_POS = re.compile(r"(.+)~(\d{1,16})", re.ASCII)


@dataclass(slots=True, eq=False)
class Connection:
    """One connection: `base` is what the client certainly has, `newest` what it has if the last answer arrived."""

    key: Key
    base: Sent = NOTHING_SENT
    newest: Sent | None = None
    turn: int = 0
    """Grows with every request: a request that is no longer the newest has nothing to say."""
    waiting: asyncio.Future[bool] | None = None
    is_stored: bool = True

    @property
    def size(self) -> int:
        """How many rooms are remembered; a connection by itself counts as some more."""
        return len(self.base.rooms) + (0 if self.newest is None else len(self.newest.rooms)) + _CONNECTION_SIZE

    def begin(self) -> int:
        """A request comes: one that waits is ended. The answer is the new request's turn."""
        self.turn += 1
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(False)
        self.waiting = None
        return self.turn

    def answer(self, sent: Sent) -> int:
        """Note what is sent with an answer; the generation for the client's token."""
        if sent.same_as(self.base) and self.base.generation:
            self.newest = None
            return self.base.generation
        if self.newest is None or not sent.same_as(self.newest):
            generation = secrets.randbelow(10**15) + 1  # so that no other connection's token fits
            self.newest = msgspec.structs.replace(sent, generation=generation)
            self.is_stored = False
        return self.newest.generation


def token(point: Point, generation: int) -> str:
    """The `pos` that says: everything up to a point, on top of what was sent with a generation."""
    return f"{point}~{generation}"


class Connections:
    """All connections. Lives on the event loop.

    Args:
        db: where they are stored.
        bell: tells which positions there are.
    """

    def __init__(self, db: Database, bell: Bell) -> None:
        self._db = db
        self._bell = bell
        self._open: dict[Key, Connection] = {}
        self._size = 0
        self._dropped: set[Key] = set()
        """Those that were one too many, until that is on disk as well."""
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def open(self, key: Key, pos: str | None) -> tuple[Connection, Point | None]:
        """The connection for a request, and the point up to which its client has what was sent.

        Args:
            pos: the token of the client, or None for a connection that begins.

        Raises:
            UnknownPos: the client must begin anew.
        """
        connection = self._open.pop(key, None)
        if connection is not None:
            self._size -= connection.size
        if pos is None:
            connection, point = self._fresh(key, connection), None
        else:
            connection = connection or self._stored(key)
            point = None if connection is None else self._resume(connection, pos)
        if connection is not None:
            self._keep(connection)
        if connection is None or (pos is not None and point is None):
            raise UnknownPos("This position is not known any more: begin anew, without pos.")
        return connection, point

    def answered(self, connection: Connection, sent: Sent) -> int:
        """Note what is sent with an answer; the generation for the client's token."""
        is_known = self._open.get(connection.key) is connection
        if is_known:
            self._size -= connection.size
        generation = connection.answer(sent)
        if is_known:
            self._size += connection.size
        if not connection.is_stored:
            self._arm()
        return generation

    async def close(self) -> None:
        """Store what is not stored yet."""
        if self._timer is not None:
            self._timer.cancel()
        await self._write()
        if self._writing:
            await asyncio.wait(self._writing)

    # -- in memory -------------------------------------------------------------------------------

    def _fresh(self, key: Key, before: Connection | None) -> Connection:
        connection = Connection(key)
        if before is not None:
            before.begin()
            connection.turn = before.turn
        return connection

    def _stored(self, key: Key) -> Connection | None:
        device, conn_id = key
        if device < 0 or key in self._dropped:
            return None
        stored = self._db.glance(lambda tx: sliding_connections.get(tx, device, conn_id))
        if stored is None:
            return None
        base, *newest = decode(stored)
        return Connection(key, base, newest[0] if newest else None)

    def _resume(self, connection: Connection, pos: str) -> Point | None:
        found = _POS.fullmatch(pos)
        if found is None:
            return None
        try:
            point = parse_token(found[1], "pos")
        except InvalidParam:
            return None
        if point.tag is None or point.position > self._bell.position:
            return None
        generation = int(found[2])
        if connection.newest is not None and generation == connection.newest.generation:
            connection.base, connection.newest = connection.newest, None
        return point if generation == connection.base.generation else None

    def _keep(self, connection: Connection) -> None:
        """Have it in memory as the one used last; forget what was used longest ago, if it is stored."""
        self._make_room_for(connection.key[0])
        self._open[connection.key] = connection
        self._size += connection.size
        for key in list(self._open):
            if self._size <= MAX_ROOMS_REMEMBERED:
                return
            other = self._open[key]
            if other is not connection and (other.is_stored or key[0] < 0):
                self._forget(key)

    def _make_room_for(self, device: int) -> None:
        of_device = [key for key in self._open if key[0] == device]
        for key in of_device[: max(len(of_device) + 1 - MAX_OF_DEVICE, 0)]:
            self._open[key].begin()
            self._forget(key)
            self._dropped.add(key)
            self._arm()

    def _forget(self, key: Key) -> None:
        self._size -= self._open.pop(key).size

    # -- on disk ---------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_DELAY, self._write_soon)

    def _write_soon(self) -> None:
        self._timer = None
        task = asyncio.get_running_loop().create_task(self._write())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self) -> None:
        unstored = [each for each in self._open.values() if not each.is_stored and each.key[0] >= 0]
        dropped, self._dropped = self._dropped, set()
        if not unstored and not dropped:
            return
        rows = []
        for each in unstored:
            each.is_stored = True
            generations = [each.base] if each.newest is None else [each.base, each.newest]
            rows.append((*each.key, encode(generations)))

        def step(tx: WriteTransaction) -> None:
            for device, conn_id in dropped:
                sliding_connections.remove(tx, device, conn_id)
            for device, conn_id, sent in rows:
                if len(sent) > MAX_STORED:
                    sliding_connections.remove(tx, device, conn_id)
                else:
                    sliding_connections.put(tx, device, conn_id, sent, MAX_OF_DEVICE)

        # On a full disk sync goes on; after a restart clients begin anew.
        with suppress(StorageError):
            await self._db.write(step)
