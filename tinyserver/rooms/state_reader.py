"""Reading a room's state: as it is now, as it was when the reader left, and who was in it at some point.

spec: client-server-api#getting-events-for-a-room, client-server-api#get_matrixclientv3roomsroomidmembers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from tinyserver.accounts.requester import Requester
from tinyserver.clock import Clock
from tinyserver.protocol.errors import NotFound
from tinyserver.rooms.access import room_of_member
from tinyserver.rooms.append import MEMBERSHIPS
from tinyserver.rooms.long_list import LongList
from tinyserver.rooms.partial_state import MembersToCome, PartialRooms, check_members_known
from tinyserver.rooms.rendering import EventRenderer, json_text
from tinyserver.rooms.tokens import parse_token
from tinyserver.rooms.visibility import RoomView, open_view
from tinyserver.storage import events, memberships, names, room_state, rooms, state_trie
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction

Wanted = Callable[[StoredEvent], bool]


class StateReader:
    """Reads states.

    Args:
        db: where rooms are stored.
        clock: for the age of events.
        partial: rooms whose members are not all known: who asks for members waits.
    """

    def __init__(self, db: Database, clock: Clock, partial: PartialRooms) -> None:
        self._partial = partial
        self._db = db
        self._clock = clock

    async def state(self, requester: Requester, room_id: str) -> LongList:
        """All state events of a room, those of its past for who has left.

        Raises:
            Forbidden: the user may not read the room.
        """

        def step(tx: ReadTransaction) -> LongList:
            view = open_view(tx, room_id, requester)
            nids = sorted(nid for _, nid in state_trie.items(tx, view.root))
            return self._events(tx, requester, room_id, nids)

        await self._partial.whole(room_id)
        return await self._db.read(step)

    async def content(self, requester: Requester, room_id: str, event_type: str, state_key: str) -> bytes:
        """The content of the event that holds a state key, in JSON.

        Raises:
            Forbidden: the user may not read the room.
            NotFound: the state key is not set.
        """

        def step(tx: ReadTransaction) -> bytes:
            return json_text(_state_event(tx, requester, room_id, event_type, state_key).event.content)

        return await self._at_once_or_whole(room_id, step)

    async def event(self, requester: Requester, room_id: str, event_type: str, state_key: str) -> bytes:
        """The whole event that holds a state key, in JSON.

        Raises:
            Forbidden: the user may not read the room.
            NotFound: the state key is not set.
        """
        now_ms = self._clock.now_ms()

        def step(tx: ReadTransaction) -> bytes:
            stored = _state_event(tx, requester, room_id, event_type, state_key)
            return EventRenderer(tx, now_ms, requester.device_nid, room_id=room_id).state_event(stored)

        return await self._at_once_or_whole(room_id, step)

    async def _at_once_or_whole(self, room_id: str, step: Callable[[ReadTransaction], bytes]) -> bytes:
        try:
            return self._db.glance(step)
        except MembersToCome:
            await self._partial.whole(room_id)
            return self._db.glance(step)

    async def members(
        self,
        requester: Requester,
        room_id: str,
        *,
        at: str | None = None,
        membership: str | None = None,
        not_membership: str | None = None,
    ) -> LongList:
        """The member events of a room.

        Args:
            at: a token: the members of then.
            membership, not_membership: only those with this membership, or (if both are given) without that one.

        Raises:
            Forbidden: the user may not read the room.
            InvalidParam: the token is none.
        """
        position = None if at is None else parse_token(at, "at").position
        kinds = _kinds(membership, not_membership)

        def step(tx: ReadTransaction) -> LongList:
            view = open_view(tx, room_id, requester)
            root = view.root if position is None else _state_at(tx, view, position)
            if root == view.room.state:
                nids = [nid for kind in kinds for _, nid in memberships.members(tx, view.room.nid, kind)]
                return self._events(tx, requester, room_id, sorted(nids))
            member_type = names.find(tx, "m.room.member") or 0
            nids = sorted(nid for _, nid in state_trie.items_of_type(tx, root, member_type))
            wanted = None if len(kinds) == len(Membership) else lambda stored: _kind(stored) in kinds
            return self._events(tx, requester, room_id, nids, wanted)

        await self._partial.whole(room_id)
        return await self._db.read(step)

    async def joined_members(self, requester: Requester, room_id: str) -> LongList:
        """Who is in a room with their name and avatar: pieces of JSON of the form `"@user:server":{...}`.

        Raises:
            Forbidden: the user is not in the room.
        """

        def step(tx: ReadTransaction) -> LongList:
            room = room_of_member(tx, room_id, requester.user_id)
            nids = [nid for _, nid in memberships.members(tx, room.nid, Membership.JOIN)]
            return LongList(tx, self._db, nids, _profiles)

        await self._partial.whole(room_id)
        return await self._db.read(step)

    def _events(
        self,
        tx: ReadTransaction,
        requester: Requester,
        room_id: str,
        nids: Sequence[int],
        wanted: Wanted | None = None,
    ) -> LongList:
        now_ms = self._clock.now_ms()

        def render(tx: ReadTransaction, batch: Sequence[int]) -> list[bytes]:
            renderer = EventRenderer(tx, now_ms, requester.device_nid, room_id=room_id)
            found = events.get_many(tx, batch, keep=len(nids) <= len(batch))
            return [renderer.state_event(found[nid]) for nid in batch if wanted is None or wanted(found[nid])]

        return LongList(tx, self._db, nids, render)


def _state_event(
    tx: ReadTransaction, requester: Requester, room_id: str, event_type: str, state_key: str
) -> StoredEvent:
    view = open_view(tx, room_id, requester)
    stored = room_state.event_at(tx, view.root, event_type, state_key)
    if stored is None:
        check_members_known(tx, view.room, [(event_type, state_key)])
        raise NotFound(f"The room has no state {event_type[:255]!r} with the key {state_key[:255]!r}")
    return stored


def _state_at(tx: ReadTransaction, view: RoomView, position: int) -> int:
    """The state at a position, or that which the reader sees anyway where they may not see the one of then."""
    if position >= view.newest:
        return view.root
    root = rooms.state_at(tx, view.room.nid, position)
    return root if root and view.sight.sees_state(root, position) else view.root


def _kinds(membership: str | None, not_membership: str | None) -> set[Membership]:
    kinds = {MEMBERSHIPS[membership]} if membership is not None else set()
    if not_membership is not None:
        kinds |= set(Membership) - {MEMBERSHIPS[not_membership]}
    return kinds if membership is not None or not_membership is not None else set(Membership)


def _kind(stored: StoredEvent) -> Membership:
    return MEMBERSHIPS.get(stored.event.membership or "leave", Membership.LEAVE)


def _profiles(tx: ReadTransaction, batch: Sequence[int]) -> list[bytes]:
    pieces = []
    for stored in events.get_many(tx, batch, keep=False).values():
        content = stored.event.content
        profile: dict[str, Any] = {}
        for name, key in (("display_name", "displayname"), ("avatar_url", "avatar_url")):
            if isinstance(content.get(key), str):
                profile[name] = content[key]
        pieces.append(orjson.dumps(stored.event.state_key) + b":" + json_text(profile))
    return pieces
