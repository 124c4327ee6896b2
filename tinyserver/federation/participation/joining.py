"""Coming into a room through a server that is in it: its answer is taken as a stream, checked, and becomes the room.

spec: server-server-api#joining-rooms
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from tinyserver.federation.client import FederationClient
from tinyserver.federation.participation.collector import (
    MAX_STATE_BYTES,
    Answer,
    Collector,
    ManySignatures,
    checked_events,
)
from tinyserver.federation.participation.event_budget import EventBudget
from tinyserver.federation.participation.member_lists import MemberLists
from tinyserver.federation.participation.member_requests import MemberRequests
from tinyserver.outgoing.errors import AnswerMalformed
from tinyserver.protocol import canonical_json
from tinyserver.protocol.auth_rules import AuthError
from tinyserver.protocol.errors import Forbidden
from tinyserver.protocol.events import Event
from tinyserver.protocol.identifiers import domain_of, is_valid_server_name, is_valid_user_id
from tinyserver.protocol.request_auth import path_of
from tinyserver.rooms.ancestors import MissingAncestors
from tinyserver.rooms.out_of_band import is_resident
from tinyserver.rooms.partial_state import MembersToCome, PartialRooms
from tinyserver.rooms.pipeline import EventPipeline, Outcome
from tinyserver.rooms.predecessors import carry_settings
from tinyserver.storage import events, names, rooms, state_trie
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_VALUES = ("event", "members_omitted", "servers_in_room")
TAKEN_AT_ONCE = 1000
"""Events of a state that become that of a room in one step."""
SEND_TIMEOUT = 600.0
"""Seconds for the answer with the whole state of a room, however large, to have come and be checked."""


class RemoteJoin:
    """Joins rooms through one server.

    Args:
        db: where rooms are stored.
        pipeline: takes the join into the room.
        client: requests to other servers.
        member_requests: the first half.
        signatures: checks what the server says.
        directory: for what does not fit into memory.
        budget: how many events may be held.
        partial: rooms that are used before their members are known.
        member_lists: fetches the members.
    """

    def __init__(
        self,
        db: Database,
        pipeline: EventPipeline,
        client: FederationClient,
        member_requests: MemberRequests,
        signatures: ManySignatures,
        directory: Path,
        budget: EventBudget,
        partial: PartialRooms,
        member_lists: MemberLists,
    ) -> None:
        self._db = db
        self._pipeline = pipeline
        self._client = client
        self._member_requests = member_requests
        self._signatures = signatures
        self._directory = directory
        self._budget = budget
        self._partial = partial
        self._member_lists = member_lists
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def join(self, server: str, user_id: str, room_id: str, content: Mapping[str, Any]) -> None:
        """Join through this server, or leave everything as it was.

        Raises:
            OutgoingError, UnsupportedRoomVersion: the server refuses, or its answer cannot be used.
            Forbidden: the rules of the room, as the server tells it, do not allow the join.
        """
        turn = self._turns.setdefault(room_id, asyncio.Lock())
        async with turn:
            template = await self._member_requests.template(server, "join", room_id, user_id)
            join = self._member_requests.fill_in(template, "join", room_id, user_id, content)
            collector = Collector(self._db, self._signatures, self._directory, room_id, join.version, self._budget)
            try:
                await self._enter(server, join, collector)
            finally:
                collector.close()

    async def _enter(self, server: str, join: Event, collector: Collector) -> None:
        path = path_of("_matrix", "federation", "v2", "send_join", join.room_id, join.event_id)
        async with self._client.stream(
            "PUT",
            server,
            path,
            content=join.pdu,
            query={"omit_members": "true"},
            timeout=SEND_TIMEOUT,
            ignore_backoff=True,
        ) as answer:
            found = await collector.read(answer, "state", _VALUES, max_bytes=MAX_STATE_BYTES)
        join = await self._accepted(join, found.values.get("event"))
        servers = _servers_in_room(server, found)
        create = self._create_event(server, join, collector, found.state)
        try:
            await collector.store(create)
            if self._db.glance(lambda tx: is_resident(tx, rooms.find(tx, join.room_id))):
                # Somebody here is in the room: only this server could not let the user in by itself.
                received = await self._pipeline.receive(server, join.room_id, join.pdu)
                if received.outcome in (Outcome.REJECTED, Outcome.SOFT_FAILED):
                    raise Forbidden(received.reason or "The rules of the room do not allow this.")
                return
            nids = [collector.nids[event_id] for event_id in found.state if event_id in collector.nids]
            if servers is None and len(nids) > TAKEN_AT_ONCE:
                await self._come_in_by_parts(join, nids, server)
                return
            room = await self._db.write(lambda tx: self._come_in(tx, join, nids, server, servers))
            if servers is not None:
                self._member_lists.fetch(room)
        except (AuthError, MissingAncestors) as error:
            await collector.discard()
            if isinstance(error, AuthError):
                raise Forbidden(f"{server} lets you in, but the rules of the room do not: {error.message}") from error
            raise AnswerMalformed(f"{server} left out what allows the join") from error
        except BaseException:
            await collector.discard()
            raise

    async def _come_in_by_parts(self, join: Event, state: Sequence[int], server: str) -> None:
        """Come into a room with so large a state that to take it in one step would keep the writer from others: as into
        one whose members are left out, only that they are here already. Gives back when all are taken in, or when that
        takes too long for somebody to wait."""
        others, servers = await self._db.read(lambda tx: _without_members(tx, join.room_id, state))
        room = await self._db.write(lambda tx: self._come_in(tx, join, others, server, [server, *servers]))
        self._member_lists.fetch(room, state)
        with suppress(MembersToCome):
            await self._partial.whole(join.room_id)

    async def _accepted(self, join: Event, signed: bytes | None) -> Event:
        """The join with the signature of the server that vouches for its user, where it needs one."""
        candidates: list[Any] = [join.pdu] if signed is None else [signed, join.pdu]
        for event in await checked_events(self._signatures, join.room_id, join.version, candidates[:1]):
            if event.event_id == join.event_id:
                return event
        for event in await checked_events(self._signatures, join.room_id, join.version, candidates[1:]):
            return event
        raise AnswerMalformed("the join was not signed by the server that vouches for it")

    @staticmethod
    def _create_event(server: str, join: Event, collector: Collector, state: list[str]) -> Event:
        if join.version.room_id_is_create_hash:
            create = collector.get("$" + join.room_id[1:])
        else:
            found = (collector.get(event_id) for event_id in state)
            create = next((event for event in found if event is not None and event.type == "m.room.create"), None)
        if create is None or create.event_id not in state:
            raise AnswerMalformed(f"{server} gave no create event of the room")
        if create.content.get("room_version", "1") != join.version.identifier:
            raise AnswerMalformed(f"{server} does not tell the truth about the version of the room")
        return create

    def _come_in(
        self, tx: WriteTransaction, join: Event, state: list[int], server: str, servers: Sequence[str] | None
    ) -> int:
        """Come in, and note who is in the room where its members were left out; the nid of the room."""
        room = rooms.find(tx, join.room_id)
        assert room is not None
        stored = self._pipeline.enter(tx, room.nid, join, state, is_partial=servers is not None)
        if servers is None:
            self._partial.give_up(tx, room.nid)  # of an earlier time here, of which more is known now
        else:
            assert stored.state is not None
            assert stored.state_key_nid is not None
            own = (stored.type_nid, stored.state_key_nid)
            base = state_trie.update(tx, stored.state, {own: stored.replaces})
            others = [name for name in servers if name != domain_of(join.sender)]
            self._partial.begin(tx, room.nid, stored, base, others, server)
        carry_settings(tx, rooms.get(tx, room.nid), join.sender)
        return room.nid


def _without_members(tx: ReadTransaction, room_id: str, state: Sequence[int]) -> tuple[list[int], list[str]]:
    """Those of the events of a state that are about no member; and the servers of the members."""
    room = rooms.find(tx, room_id)
    assert room is not None
    member_type = names.find(tx, "m.room.member")
    others, servers = [], dict[str, None]()
    for (kind, key), nid in events.state_entries(tx, room.nid, state):
        if kind != member_type:
            others.append(nid)
        elif is_valid_user_id(user := names.text(tx, key)):
            servers[domain_of(user)] = None
    return others, list(servers)


def _servers_in_room(server: str, answer: Answer) -> list[str] | None:
    """The servers in the room where its members were left out, else None."""
    if answer.values.get("members_omitted") != b"true":
        return None
    try:
        told = canonical_json.loads(answer.values.get("servers_in_room", b"[]"))
    except canonical_json.JsonSyntaxError:
        told = []
    given = [name for name in told if isinstance(name, str)] if isinstance(told, list) else []
    return list(dict.fromkeys([server, *filter(is_valid_server_name, given)]))
