"""The state of a room at an event, for servers that lack it, and for those that join.

A state may be large: only the numbers of its events are held, their text is read while it is sent.

spec: server-server-api#retrieving-events, server-server-api#joining-rooms
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from tinyserver.federation.serving.pdus import auth_chain, pdu_text, pdu_texts
from tinyserver.federation.serving.rooms import room_of_server, whole_room
from tinyserver.protocol.errors import NotFound
from tinyserver.rooms.long_list import LongList
from tinyserver.storage import auth_graph, events, memberships, names, room_state, rooms, server_stays, state_trie
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction

AT_ONCE = 1
"""So many states are put together at a time: that of a large room keeps one of the two readers of the database busy for
a while, and local users read as well."""
_HEROES = 5


@dataclass(frozen=True, slots=True)
class StateAnswer:
    """A state and the auth chain of its events: PDUs or event IDs, as JSON."""

    state: LongList
    auth_chain: LongList


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """What a server gets that has just joined: its join as it is stored here, the state before that, and the auth
    chain of all of them; the servers in the room where members are left out of the state, else None."""

    event: bytes
    state: LongList
    auth_chain: LongList
    servers_in_room: Sequence[str] | None


class RoomStates:
    """Tells other servers what the state of a room was.

    Args:
        db: where rooms are stored.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def state(self, origin: str, room_id: str, event_id: str) -> StateAnswer:
        """The state before an event.

        Raises:
            NotFound: this server is not in the room, or does not know the state at such an event.
            Forbidden: the other server is not in the room, or is shut out.
        """

        def step(tx: ReadTransaction) -> StateAnswer:
            _, state, chain = self._at(tx, origin, room_id, event_id)
            return StateAnswer(LongList(tx, self._db, state, pdu_texts), LongList(tx, self._db, chain, pdu_texts))

        async with self._turns:
            return await self._db.read(step)

    async def state_ids(self, origin: str, room_id: str, event_id: str) -> StateAnswer:
        """The IDs of the events of the state before an event. Raises as `state` does."""

        def step(tx: ReadTransaction) -> StateAnswer:
            room, state, chain = self._at(tx, origin, room_id, event_id)

            def texts(tx: ReadTransaction, nids: Sequence[int]) -> list[bytes]:
                found = auth_graph.event_ids(tx, room.version, nids)
                return [orjson.dumps(found[nid]) for nid in nids]

            return StateAnswer(LongList(tx, self._db, state, texts), LongList(tx, self._db, chain, texts))

        async with self._turns:
            return await self._db.read(step)

    @staticmethod
    def _at(tx: ReadTransaction, origin: str, room_id: str, event_id: str) -> tuple[RoomRow, list[int], list[int]]:
        room = room_of_server(tx, room_id, origin)
        whole_room(tx, room_id, origin)
        stored = events.by_id(tx, event_id)
        if stored is None or stored.room != room.nid or stored.state is None:
            raise NotFound(f"This server does not know the state of the room at the event {event_id[:255]}")
        state = sorted(state_before(tx, stored))
        return room, state, sorted(auth_chain(tx, state))

    async def servers(self, room_nid: int) -> list[str]:
        """The other servers in a room now."""
        return await self._db.read(lambda tx: [names.text(tx, server) for server in server_stays.now(tx, room_nid)])

    async def join_answer(self, joined: StoredEvent, servers_in_room: Sequence[str] | None) -> JoinAnswer:
        """What the server of a user gets who has just joined.

        Args:
            joined: the join as it is stored.
            servers_in_room: the servers before the join, if members are to be left out of the state.
        """

        def step(tx: ReadTransaction) -> JoinAnswer:
            if servers_in_room is None:
                state = set(state_before(tx, joined))
            else:
                state = set(_state_without_members(tx, joined))
            chain = auth_chain(tx, {*state, joined.nid})
            if servers_in_room is not None:
                chain -= state
            return JoinAnswer(
                pdu_text(joined.event),
                LongList(tx, self._db, sorted(state), pdu_texts),
                LongList(tx, self._db, sorted(chain), pdu_texts),
                servers_in_room,
            )

        async with self._turns:
            return await self._db.read(step)


def state_before(tx: ReadTransaction, stored: StoredEvent) -> Iterator[int]:
    """The nids of the events of the state before an event whose state is known."""
    assert stored.state is not None
    for key, nid in state_trie.items(tx, stored.state):
        if key != stored.state_key or nid != stored.nid:
            yield nid
        elif stored.replaces is not None:
            yield stored.replaces


def _state_without_members(tx: ReadTransaction, joined: StoredEvent) -> Iterator[int]:
    """The state before a join but for its members; with some of them where the room is named after them.

    spec: server-server-api#put_matrixfederationv2send_joinroomideventid (`omit_members`)
    """
    assert joined.state is not None
    member_type = names.find(tx, "m.room.member")
    assert member_type is not None
    for _, nid in state_trie.items_except_type(tx, joined.state, member_type):
        yield nid
    if any(room_state.content_at(tx, joined.state, kind) for kind in ("m.room.name", "m.room.canonical_alias")):
        return
    room = rooms.get(tx, joined.room)
    heroes = [
        user
        for kind in (Membership.JOIN, Membership.INVITE)
        for user, _ in memberships.members(tx, room.nid, kind, _HEROES + 1)
        if user != joined.state_key_nid
    ][:_HEROES]
    yield from state_trie.get_many(tx, joined.state, [(member_type, user) for user in heroes]).values()
