"""Fetches what was left out when we came into a room: in the background, from whichever server tells it, until it is
here, also after a restart.

spec: server-server-api#retrieving-events
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from tinyserver.federation.participation.states import RemoteStates
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.rooms.completion import Completion
from tinyserver.rooms.partial_state import PartialRooms
from tinyserver.storage import events, memberships, names, partial_rooms, rooms, server_stays, state_trie
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.partial_rooms import PartialRoom
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.state_trie import Key
from tinyserver.storage.transaction import ReadTransaction

log = logging.getLogger(__name__)

ROOMS_AT_ONCE = 2
ENTRIES_AT_ONCE = 500
MEMBERS_AT_ONCE = 500
OPEN_ENDS = 20
"""For how many events that follow unknown ones the state before them is asked for."""
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 900.0
"""Seconds until all servers are asked again, when none of them told."""


class MemberLists:
    """Makes partial rooms whole.

    Args:
        db: where rooms are stored.
        states: asks other servers.
        partial: which rooms are partial.
        completion: what is done with the answer.
    """

    def __init__(self, db: Database, states: RemoteStates, partial: PartialRooms, completion: Completion) -> None:
        self._db = db
        self._states = states
        self._partial = partial
        self._completion = completion
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(ROOMS_AT_ONCE)

    def start(self) -> None:
        """Go on with the rooms that are partial."""
        for room in self._partial.now:
            self.fetch(room)

    def fetch(self, room: int, told: Sequence[int] | None = None) -> None:
        """Begin with a room (nid) that has become partial.

        Args:
            told: nids of the events of its state before the join, if they are here already.
        """
        old = self._tasks.pop(room, None)
        if old is not None:  # of an earlier join
            old.cancel()
        task = self._tasks[room] = asyncio.ensure_future(self._fetch(room, told))
        task.add_done_callback(partial(self._ended, room))

    async def close(self) -> None:
        """Stop; it goes on after the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, room: int, task: asyncio.Task[None]) -> None:
        if self._tasks.get(room) is task:
            del self._tasks[room]

    async def _fetch(self, room: int, told: Sequence[int] | None) -> None:
        pause = FIRST_PAUSE
        while (missing := self._partial.get(room)) is not None:
            if not self._db.glance(lambda tx: memberships.any_local_member(tx, room)):
                await self._db.write(lambda tx: self._partial.give_up(tx, room))
                return
            try:
                async with self._turns:
                    if await self._complete(missing, told):
                        return
            except StorageError as error:
                log.warning("the members of room number %d cannot be stored: %s", room, error)
            except Exception:  # a bug must not leave the room partial for ever
                log.exception("fetching the members of room number %d failed", room)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _complete(self, missing: PartialRoom, told: Sequence[int] | None) -> bool:
        """Whether the room is whole, or left."""
        room, join = self._db.glance(lambda tx: (rooms.get(tx, missing.room), events.get(tx, missing.join).event_id))
        servers = await self._db.read(lambda tx: _servers(tx, missing))
        if told is None:
            state = await self._state_before(servers, room, join, missing.base)
        else:
            state = await self._db.read(partial(_entries, room=room.nid, nids=told))
        if state is None:
            return False
        await self._put_together(room.nid, state)
        for nid in await self._db.read(lambda tx: partial_rooms.open_ends(tx, room.nid, OPEN_ENDS)):
            await self._ask_for_open_end(servers, room, nid)
        while not await self._db.write(lambda tx: self._completion.judge(tx, room.nid)):
            pass
        log.info("all of the state of %s is here: %d events", room.room_id, len(state))
        return True

    async def _put_together(self, room: int, state: Sequence[tuple[Key, int]]) -> None:
        """Steps 1 and 2 of `Completion`."""
        completion = self._completion
        await self._db.write(lambda tx: completion.begin(tx, room))
        for start in range(0, len(state), ENTRIES_AT_ONCE):
            entries = state[start : start + ENTRIES_AT_ONCE]
            await self._db.write(partial(completion.put_together, room=room, entries=entries))
        for start in range(0, len(state), MEMBERS_AT_ONCE):
            nids = [nid for _, nid in state[start : start + MEMBERS_AT_ONCE]]
            records = await self._db.read(partial(completion.records_of, nids=nids))
            await self._db.write(partial(completion.record_members, room=room, records=records))

    async def _ask_for_open_end(self, servers: Sequence[str], room: RoomRow, nid: int) -> None:
        """Have the state before an event whose parents are not here. If nobody tells it, that before the join has to
        do."""
        event_id = self._db.glance(lambda tx: events.get(tx, nid).event_id)
        state = await self._state_before(servers, room, event_id, state_trie.EMPTY)
        if state is None:
            return
        changes = await self._db.read(lambda tx: _differences(tx, room.nid, state))
        await self._db.write(lambda tx: self._completion.set_told_before(tx, room.nid, nid, changes))

    async def _state_before(
        self, servers: Sequence[str], room: RoomRow, event_id: str, base: int
    ) -> Sequence[tuple[Key, int]] | None:
        """The state before an event, from the first server that tells it.

        Args:
            base: the root of what is known of it. A server that says something else is not believed.
        """
        for server in servers:
            try:
                nids = await self._states.before(server, room, event_id)
            except (OutgoingError, TimeoutError) as error:
                log.info("%s does not tell the state of %s: %s", server, room.room_id, error)
                continue
            state = await self._db.read(partial(_entries, room=room.nid, nids=nids))
            if await self._db.read(partial(_contradicts, base=base, state=state)):
                log.warning("%s tells another state of %s than the server that let us in", server, room.room_id)
                continue
            return state
        return None


def _servers(tx: ReadTransaction, missing: PartialRoom) -> list[str]:
    """Whom to ask: those who were in the room when we came, as far as they still are."""
    return [
        server
        for number, server in enumerate(missing.servers)
        if number == 0 or server_stays.is_in_room(tx, missing.room, server)
    ]


def _entries(tx: ReadTransaction, room: int, nids: Sequence[int]) -> list[tuple[Key, int]]:
    """The entries of a state in an order in which neighbours are near each other in the trie."""
    found = dict(events.state_entries(tx, room, nids))
    return sorted(found.items(), key=lambda entry: state_trie.order_of(entry[0]))


def _contradicts(tx: ReadTransaction, base: int, state: Sequence[tuple[Key, int]]) -> bool:
    """Whether a state lacks something other than members that is known to be part of it."""
    member_type = names.find(tx, "m.room.member") or 0
    known = dict(state_trie.items_except_type(tx, base, member_type))
    return len(known) > sum(known.get(key) == nid for key, nid in state)


def _differences(tx: ReadTransaction, room: int, state: Sequence[tuple[Key, int]]) -> dict[Key, int | None]:
    """What is different in a state from that before the join."""
    known = partial_rooms.get(tx, room)
    before = {} if known is None else dict(state_trie.items(tx, known.told))
    changes: dict[Key, int | None] = {key: nid for key, nid in state if before.get(key) != nid}
    present = {key for key, _ in state}
    return changes | dict.fromkeys(before.keys() - present)
