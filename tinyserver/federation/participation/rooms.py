"""Rooms that this server is not in, for its users: joining, knocking, refusing invites.

spec: server-server-api#joining-rooms, #knocking-upon-a-room, #leaving-rooms-rejecting-invites
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tinyserver.federation.client import FederationClient
from tinyserver.federation.participation.errors import ask_in_turn
from tinyserver.federation.participation.joining import RemoteJoin
from tinyserver.federation.participation.member_requests import MAKE_TIMEOUT, MemberRequests
from tinyserver.federation.participation.queries import RemoteQueries
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.protocol.errors import MatrixError, NotFound
from tinyserver.protocol.events import Event
from tinyserver.protocol.identifiers import InvalidIdentifier, domain_of, is_valid_server_name
from tinyserver.protocol.request_auth import path_of
from tinyserver.rooms.append import EventFollower
from tinyserver.rooms.member_events import profile_of
from tinyserver.rooms.out_of_band import member_event_of, set_out_of_band, with_stripped_state
from tinyserver.storage import memberships, names, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.transaction import ReadTransaction

MAX_SERVERS = 8
"""How many servers are asked in turn."""
_MEMBERS_LOOKED_AT = 200


class FederatedRooms:
    """What `RoomMembership` needs of other servers (its `RemoteRooms`).

    Args:
        db: where memberships are stored.
        client: requests to other servers.
        member_requests: templates of member events.
        joining: joins through one server.
        queries: aliases of other servers.
        server_name: this server.
        followers: who is told of memberships in rooms elsewhere.
    """

    def __init__(
        self,
        db: Database,
        client: FederationClient,
        member_requests: MemberRequests,
        joining: RemoteJoin,
        queries: RemoteQueries,
        server_name: str,
        followers: Sequence[EventFollower] = (),
    ) -> None:
        self._followers = followers
        self._db = db
        self._client = client
        self._member_requests = member_requests
        self._joining = joining
        self._queries = queries
        self._server_name = server_name

    async def join(self, user_id: str, room_id: str, via: Sequence[str], content: dict[str, Any]) -> None:
        """Join through the first server that lets the user in.

        Raises:
            NotFound: nobody is known who could be asked.
            MatrixError: what the servers say.
        """
        said = {**self._db.glance(lambda tx: profile_of(tx, user_id)), **content}
        servers = self._servers(user_id, room_id, via)
        await ask_in_turn(servers, lambda server: self._joining.join(server, user_id, room_id, said))

    async def knock(self, user_id: str, room_id: str, via: Sequence[str], content: dict[str, Any]) -> None:
        """Knock through the first server that takes the knock. Raises as `join` does."""
        said = {**self._db.glance(lambda tx: profile_of(tx, user_id)), **content}

        async def ask(server: str) -> None:
            event, answer = await self._exchange(server, "knock", "v1", user_id, room_id, said)
            kept = with_stripped_state(event, "knock_room_state", answer.get("knock_room_state"))
            await self._db.write(lambda tx: set_out_of_band(tx, kept, self._followers))

        await ask_in_turn(self._servers(user_id, room_id, via), ask)

    async def leave(self, user_id: str, room_id: str, reason: str | None) -> None:
        """Refuse an invite, or take back a knock. The user is rid of it, even if no server can be told."""
        member = self._db.glance(lambda tx: self._member(tx, user_id, room_id))
        if member is None:
            raise NotFound(f"This server does not know the room {room_id[:255]}")
        content = {} if reason is None else {"reason": reason}
        leave: Event | None = None
        for server in self._servers(user_id, room_id, ())[:2]:
            with suppress(OutgoingError, MatrixError):
                leave, _ = await self._exchange(server, "leave", "v2", user_id, room_id, content)
                break
        told = leave if leave is not None else self._untold_leave(member, user_id, content)
        await self._db.write(lambda tx: set_out_of_band(tx, told, self._followers))

    async def resolve_alias(self, alias: str) -> tuple[str, list[str]]:
        """(room ID, servers in the room) of another server's alias."""
        return await self._queries.resolve_alias(alias)

    # -- how -------------------------------------------------------------------------------------

    async def _exchange(
        self, server: str, membership: str, version: str, user_id: str, room_id: str, content: Mapping[str, Any]
    ) -> tuple[Event, Mapping[str, Any]]:
        """Have a member event accepted; the event and the answer."""
        template = await self._member_requests.template(server, membership, room_id, user_id)
        event = self._member_requests.fill_in(template, membership, room_id, user_id, content)
        path = path_of("_matrix", "federation", version, f"send_{membership}", room_id, event.event_id)
        answer = await self._client.put(server, path, event.pdu, timeout=MAKE_TIMEOUT, ignore_backoff=True)
        return event, answer

    def _untold_leave(self, member: Event, user_id: str, content: Mapping[str, Any]) -> Event:
        """A leave that only the user's own devices get to see."""
        pdu: dict[str, Any] = {name: member.pdu[name] for name in ("auth_events", "prev_events", "depth")}
        return self._member_requests.sign(
            {
                **pdu,
                "type": "m.room.member",
                "room_id": member.room_id,
                "sender": user_id,
                "state_key": user_id,
                "content": {**content, "membership": "leave"},
                "origin_server_ts": member.origin_server_ts + 1,
            },
            member.version,
        )

    @staticmethod
    def _member(tx: ReadTransaction, user_id: str, room_id: str) -> Event | None:
        room = rooms.find(tx, room_id)
        return None if room is None else member_event_of(tx, room, user_id)

    def _servers(self, user_id: str, room_id: str, via: Sequence[str]) -> list[str]:
        """Whom to ask: who invited the user, who the client says, whom the room ID names, who was in the room; last of
        all those who fail."""
        found: dict[str, None] = {}
        member = self._db.glance(lambda tx: self._member(tx, user_id, room_id))
        if member is not None and member.membership == "invite":
            found[domain_of(member.sender)] = None
        found |= dict.fromkeys(server for server in via if is_valid_server_name(server))
        with suppress(InvalidIdentifier):
            found[domain_of(room_id)] = None
        if len(found) < MAX_SERVERS:
            found |= dict.fromkeys(self._db.glance(lambda tx: _servers_of_members(tx, room_id)))
        found.pop(self._server_name, None)
        return sorted(list(found)[:MAX_SERVERS], key=self._client.fails)


def _servers_of_members(tx: ReadTransaction, room_id: str) -> list[str]:
    room = rooms.find(tx, room_id)
    if room is None:
        return []
    members = memberships.members(tx, room.nid, Membership.JOIN, _MEMBERS_LOOKED_AT)
    return list(dict.fromkeys(domain_of(names.text(tx, user)) for user, _ in members))
