"""Asking a room's policy server, and heeding what it says: what a room does not want is not sent, and soft-fails.

Policy servers are asked while no transaction is open: the step that lacks an answer is undone and run anew with it
(`FromOutside`). What was made in the first run is what was signed, so the second one sends just that event.

spec: server-server-api#policy-servers
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Protocol

from tinyserver.protocol import canonical_json
from tinyserver.protocol.errors import Forbidden, MatrixError
from tinyserver.protocol.events import Event
from tinyserver.protocol.room_policy import POLICY, RoomPolicy, countersigned, is_signed, needs_signature, policy_in
from tinyserver.rooms.drafts import EventDraft
from tinyserver.storage import memberships, room_state, server_stays
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import FromOutside, ReadTransaction, WriteTransaction

MAX_ASKED = 200
"""About how many events one step may ask, one after the other."""


class PolicyServers(Protocol):
    """Policy servers of rooms (implemented by federation)."""

    async def sign(self, server: str, pdu: Mapping[str, Any], *, is_ours: bool) -> dict[str, Any]:
        """Ask for a signature on an event.

        Args:
            is_ours: a user here waits to send it; else it has come from another server.

        Returns:
            What the policy server answered: signatures by server and key.

        Raises:
            MatrixError: the policy server refuses, or it does not answer in time.
        """


class NoPolicyServers:
    """A server that talks to no other: it can be asked for no signatures."""

    async def sign(self, server: str, pdu: Mapping[str, Any], *, is_ours: bool) -> dict[str, Any]:
        """Nobody is asked."""
        raise Forbidden(f"{server} is no policy server")


class PolicyCheck:
    """What policy servers have to do with the path of an event.

    Args:
        server_name: this server.
        servers: how policy servers are asked.
    """

    def __init__(self, server_name: str, servers: PolicyServers) -> None:
        self._server_name = server_name
        self._servers = servers

    def in_force(self, tx: ReadTransaction, room: RoomRow) -> RoomPolicy | None:
        """The policy server that a room uses now, or None.

        spec: server-server-api#determining-if-a-policy-server-is-enabled-in-a-room
        """
        stored = room_state.event_at(tx, room.state, POLICY)
        policy = None if stored is None else policy_in(stored.event.content)
        if policy is None:
            return None
        if policy.server == self._server_name:
            return policy if memberships.any_local_member(tx, room.nid) else None
        return policy if server_stays.is_in_room(tx, room.nid, policy.server) else None

    def approved(self, tx: WriteTransaction, room: RoomRow, draft: EventDraft) -> Event | None:
        """The event that an earlier run of this step has made of a draft, with the policy server's signature; or None
        if there was none.

        Raises:
            MatrixError: the policy server does not want it, in its own words.
        """
        if not tx.brought:
            return None
        answer = tx.brought.get(_key(room, draft))
        if isinstance(answer, MatrixError):
            raise answer
        return answer if isinstance(answer, Event) else None

    def check_own(self, tx: WriteTransaction, room: RoomRow, draft: EventDraft, event: Event) -> None:
        """Have the policy server of a room, if it has one, look at an event of a local user before it is sent.

        Raises:
            FromOutside: it has; the answer will be found by `approved`.
            Forbidden: it is named wrongly, or has been asked about too many events already.
        """
        policy = self.in_force(tx, room)
        if policy is None or not needs_signature(event.type, event.state_key):
            return
        if policy.server == self._server_name:
            raise Forbidden(f"{policy.server} is no policy server")
        if len(tx.brought) >= MAX_ASKED:
            raise Forbidden("Too many events would have to be sent for this in rooms that have policy servers")

        async def ask() -> Event | MatrixError:
            try:
                answer = await self._servers.sign(policy.server, event.pdu, is_ours=True)
            except MatrixError as error:
                return error
            signed = countersigned(event, policy, answer)
            return signed or Forbidden(f"The policy server {policy.server} has not signed the event as this room asks")

        raise FromOutside(_key(room, draft), ask)

    def judge(self, tx: WriteTransaction, room: RoomRow, event: Event) -> tuple[Event, str | None]:
        """What the policy server of a room says of an event that is otherwise allowed.

        Returns:
            The event with its signature, or the event as it is and why it is not wanted.

        Raises:
            FromOutside: it is to be asked first.
        """
        policy = self.in_force(tx, room)
        if policy is None or not needs_signature(event.type, event.state_key) or is_signed(event, policy):
            return event, None
        if event.event_id not in tx.brought:
            if len(tx.brought) >= MAX_ASKED:
                return event, f"The policy server {policy.server} was not asked about it"

            async def ask() -> dict[str, Any] | MatrixError:
                try:
                    return await self._servers.sign(policy.server, event.pdu, is_ours=False)
                except MatrixError as error:
                    return error

            raise FromOutside(event.event_id, ask)
        answer = tx.brought[event.event_id]
        if isinstance(answer, MatrixError):
            return event, f"The policy server {policy.server} has not signed it: {answer.message}"
        signed = countersigned(event, policy, answer)
        if signed is None:
            return event, f"The policy server {policy.server} has not signed it as this room asks"
        return signed, None


def _key(room: RoomRow, draft: EventDraft) -> Hashable:
    content = canonical_json.encode_lenient(draft.content)
    return room.nid, draft.type, draft.sender, draft.state_key, draft.redacts, draft.sticky, content
