"""Transactions of other servers: events and ephemeral messages, taken in order and answered one by one.

A transaction is answered when all of it is stored, so nothing is lost that was acknowledged. Its server may send it
again at any time: the same transaction is dealt with once while this process runs, and after a restart its events are
recognised by their IDs.

Every room takes one event at a time, in the order in which they come; different rooms go on side by side. Whoever
sends faster than that is told to wait: what waits here is bounded.

spec: server-server-api#transactions, server-server-api#edus
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tinyserver.federation.inbox import PER_STEP, Inbox
from tinyserver.protocol.canonical_json import CanonicalJsonError
from tinyserver.protocol.errors import InvalidParam, LimitExceeded, MatrixError
from tinyserver.protocol.event_hashes import event_id_of
from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.protocol.signing import SignatureError
from tinyserver.rooms import server_acls
from tinyserver.storage import memberships, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

log = logging.getLogger(__name__)

MAX_PDUS = 50
MAX_EDUS = 100
MAX_WAITING = 50
"""How many transactions may be under way at once."""
MAX_WAITING_OF_ORIGIN = 3
MAX_REMEMBERED = 500
"""How many answers are kept for servers that did not get them: the last one of each server."""
RETRY_AFTER_MS = 2000


class Withdrawals(Protocol):
    """Ends what local users have in rooms that nobody on this server is in."""

    async def take(self, room: RoomRow, pdu: Mapping[str, Any]) -> None:
        """Take an event of such a room. Raises MatrixError or SignatureError where it cannot be taken."""


Content = Mapping[str, Any]
EduHandler = Callable[[str, Content], Awaitable[None]]
"""What takes the content of an EDU: it gets the name of the server that sent it, and checks everything else."""


@dataclass(slots=True)
class _Transaction:
    """A transaction that is or was dealt with, by its ID."""

    txn_id: str
    task: asyncio.Task[dict[str, Any]]


class InboundTransactions:
    """Takes the transactions of other servers. Lives on the event loop.

    Args:
        db: where the rooms are.
        inbox: takes events into rooms.
        acls: who may send to a room.
        withdrawals: takes what ends invites to rooms that nobody here is in.
    """

    def __init__(self, db: Database, inbox: Inbox, withdrawals: Withdrawals | None = None) -> None:
        self._db = db
        self._inbox = inbox
        self._withdrawals = withdrawals
        self._edu_handlers: dict[str, EduHandler] = {}
        self._last: OrderedDict[str, _Transaction] = OrderedDict()
        """The newest transaction of each server."""
        self._origins = _Turns()
        self._rooms = _Turns()
        self._under_way: set[asyncio.Task[dict[str, Any]]] = set()

    def handle(self, edu_type: str, handler: EduHandler) -> None:
        """Have EDUs of a type taken by a handler. EDUs that nobody takes are ignored."""
        self._edu_handlers[edu_type] = handler

    async def receive(self, origin: str, txn_id: str, pdus: Sequence[Any], edus: Sequence[Any]) -> dict[str, Any]:
        """Take a transaction.

        Args:
            origin: the server, which has signed the request.
            pdus, edus: as they came.

        Returns:
            The body of the answer: what became of each event, by its ID.

        Raises:
            InvalidParam: too many PDUs or EDUs.
            LimitExceeded: too much is waiting already.

        spec: server-server-api#put_matrixfederationv1sendtxnid
        """
        if len(pdus) > MAX_PDUS or len(edus) > MAX_EDUS:
            raise InvalidParam(f"A transaction holds at most {MAX_PDUS} PDUs and {MAX_EDUS} EDUs.")
        known = self._last.get(origin)
        if known is None or known.txn_id != txn_id or _failed(known.task):
            if len(self._under_way) >= MAX_WAITING or self._origins.waiting(origin) >= MAX_WAITING_OF_ORIGIN:
                raise LimitExceeded(RETRY_AFTER_MS)
            known = _Transaction(txn_id, asyncio.ensure_future(self._process(origin, pdus, edus)))
            self._remember(origin, known)
        # A server that gives up waiting does not stop what it has begun; it gets the answer when it asks again.
        return await asyncio.shield(known.task)

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=5)
        for task in self._under_way:
            task.cancel()

    def _remember(self, origin: str, transaction: _Transaction) -> None:
        self._under_way.add(transaction.task)
        transaction.task.add_done_callback(self._finished)
        self._last[origin] = transaction
        self._last.move_to_end(origin)
        while len(self._last) > MAX_REMEMBERED:
            self._last.popitem(last=False)

    def _finished(self, task: asyncio.Task[dict[str, Any]]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it is told

    async def _process(self, origin: str, pdus: Sequence[Any], edus: Sequence[Any]) -> dict[str, Any]:
        async with self._origins.turn(origin):
            by_room: dict[str, list[Any]] = {}
            for pdu in pdus:
                room_id = pdu.get("room_id") if isinstance(pdu, dict) else None
                if isinstance(room_id, str):
                    by_room.setdefault(room_id, []).append(pdu)
            results: dict[str, Any] = {}
            taking = [self._take_events(origin, room_id, of_room, results) for room_id, of_room in by_room.items()]
            for outcome in await asyncio.gather(*taking, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome  # the disk is full, for example: the whole transaction will come again
            # They begin in their order, so what they store is stored in that order, with few commits.
            for taken in await asyncio.gather(*(self._take_edu(origin, edu) for edu in edus), return_exceptions=True):
                if isinstance(taken, BaseException):
                    raise taken
            return {"pdus": results}

    # -- events ----------------------------------------------------------------------------------

    async def _take_events(
        self, origin: str, room_id: str, pdus: Sequence[dict[str, Any]], results: dict[str, Any]
    ) -> None:
        room = self._db.glance(lambda tx: rooms.find(tx, room_id))
        if room is None:
            return  # how the IDs of its events are made is unknown as well
        checked: Sequence[Event | MatrixError | SignatureError] = ()
        if self._db.glance(lambda tx: server_acls.allows(tx, room, origin) and _is_resident(tx, room)):
            # Before it is this transaction's turn: it may take a while to have the keys of whoever is named in it.
            checked = await self._inbox.check(room, pdus)
        async with self._rooms.turn(room_id):
            for start in range(0, len(pdus), PER_STEP):
                batch = pdus[start : start + PER_STEP]
                errors = await self._take_batch(origin, room.nid, batch, checked[start : start + PER_STEP])
                for pdu, error in zip(batch, errors, strict=True):
                    event_id = _event_id(pdu, room.version)
                    if event_id is not None:
                        results[event_id] = {} if error is None else {"error": error}
                    if error is not None:
                        log.debug("%s in %s from %s: %s", event_id, room_id, origin, error)

    async def _take_batch(
        self,
        origin: str,
        room_nid: int,
        pdus: Sequence[dict[str, Any]],
        checked: Sequence[Event | MatrixError | SignatureError],
    ) -> list[str | None]:
        """Take a few events; why each was not accepted, or None. What the room says of the server and of us is looked
        at each time: earlier events may have changed it.

        Args:
            checked: what the checks made of them; empty if they were spared.
        """
        room = self._db.glance(lambda tx: rooms.get(tx, room_nid))
        if not self._db.glance(lambda tx: server_acls.allows(tx, room, origin)):
            return ["The access control list of this room bans the server that sent the event."] * len(pdus)
        if not self._db.glance(lambda tx: _is_resident(tx, room)):
            return [await self._take_withdrawal(room, pdu) for pdu in pdus]
        checked = checked or await self._inbox.check(room, pdus)
        good = [event for event in checked if isinstance(event, Event)]
        outcomes = iter(await self._inbox.take(origin, room, good))
        return [next(outcomes) if isinstance(each, Event) else _reason(each) for each in checked]

    async def _take_withdrawal(self, room: RoomRow, pdu: dict[str, Any]) -> str | None:
        if self._withdrawals is None:
            return "Nobody on this server is in this room."
        try:
            await self._withdrawals.take(room, pdu)
        except (MatrixError, SignatureError) as error:
            return _reason(error)
        return None

    # -- ephemeral messages ----------------------------------------------------------------------

    async def _take_edu(self, origin: str, edu: Any) -> None:
        if not isinstance(edu, dict):
            return
        edu_type, content = edu.get("edu_type"), edu.get("content")
        handler = self._edu_handlers.get(edu_type) if isinstance(edu_type, str) else None
        if handler is None or not isinstance(content, dict):
            return
        try:
            await handler(origin, content)
        except MatrixError as error:
            log.debug("%s from %s: %s", edu_type, origin, error)
        except StorageError:
            raise
        except Exception:  # a bug of ours; else the server would send it again and again, and nothing after it
            log.exception("taking %s from %s failed", edu_type, origin)


class _Turns:
    """Locks by name that exist while somebody holds or awaits them; given in the order of asking."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    def waiting(self, name: str) -> int:
        """How many hold or await the lock."""
        return self._locks[name][1] if name in self._locks else 0

    @contextlib.asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(name, (None, 0))
        lock = lock or asyncio.Lock()
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[name][1] - 1
            if users:
                self._locks[name] = (lock, users)
            else:
                del self._locks[name]


def _failed(task: asyncio.Task[dict[str, Any]]) -> bool:
    """Whether there is no answer, and never will be."""
    return task.done() and (task.cancelled() or task.exception() is not None)


def _is_resident(tx: ReadTransaction, room: RoomRow) -> bool:
    return memberships.any_local_member(tx, room.nid)


def _reason(error: MatrixError | SignatureError) -> str:
    return error.message if isinstance(error, MatrixError) else f"The event is not signed as it must be: {error}"


def _event_id(pdu: Mapping[str, Any], version: RoomVersion) -> str | None:
    """The ID of what may be an event, or None where it has none."""
    if version.event_id_in_pdu:
        given = pdu.get("event_id")
        return given if isinstance(given, str) else None
    if not isinstance(pdu.get("type"), str) or not isinstance(pdu.get("content"), dict):
        return None
    try:
        return event_id_of(pdu, version)
    except CanonicalJsonError:
        return None
