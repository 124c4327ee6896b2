"""Joining, leaving, inviting, removing, banning, knocking, forgetting.

spec: client-server-api#room-membership
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from tinyserver.protocol.errors import (
    BadState,
    Forbidden,
    InvalidParam,
    MatrixError,
    NotFound,
    UnableToGrantJoin,
    Unknown,
)
from tinyserver.protocol.events import Event
from tinyserver.protocol.identifiers import domain_of, is_valid_room_alias, is_valid_room_id, is_valid_user_id
from tinyserver.rooms.access import check_user_id, membership_of, room_of_member
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.member_checks import MemberChecks, check_may_refuse, check_not_blocked
from tinyserver.rooms.member_events import member_draft, with_fresh_profile
from tinyserver.rooms.on_demand import NothingOnDemand, OnDemand
from tinyserver.rooms.out_of_band import is_resident
from tinyserver.rooms.partial_state import PartialRooms, check_members_known
from tinyserver.rooms.pipeline import EventPipeline, Outcome
from tinyserver.rooms.predecessors import carry_settings
from tinyserver.rooms.third_party_joins import accept_third_party_invite
from tinyserver.storage import blocked_rooms, memberships, names, room_state, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


class RemoteRooms(Protocol):
    """Rooms that this server is not in (implemented by federation)."""

    async def join(self, user_id: str, room_id: str, via: Sequence[str], content: dict[str, Any]) -> None:
        """Join through one of the servers; `content` is that of the member event without the membership."""

    async def knock(self, user_id: str, room_id: str, via: Sequence[str], content: dict[str, Any]) -> None:
        """Knock through one of the servers."""

    async def leave(self, user_id: str, room_id: str, reason: str | None) -> None:
        """Refuse an invite, or take back a knock."""

    async def resolve_alias(self, alias: str) -> tuple[str, list[str]]:
        """(room ID, servers in the room) of another server's alias."""


class RemoteInvites(Protocol):
    """Invites of users of other servers (implemented by federation)."""

    async def offer(self, invite: Event) -> Event:
        """The invite with the signature of the invited user's server; raises MatrixError."""


class ThirdPartyProofs(Protocol):
    """Proofs that invites by address are for users (implemented by federation)."""

    async def redeem(self, user_id: str, room_id: str, signed: Mapping[str, Any]) -> None:
        """Have a proof turned into an invite, where only another server can do that.

        Raises:
            BadJson, Forbidden: it is no proof, or is refused.
            Unknown: the other server cannot be reached (502).
        """


class RoomMembership:
    """Changes of who is in a room.

    Args:
        db: where rooms are stored.
        pipeline: makes member events.
        server_name: this server.
        partial: rooms whose members are not all known.
        remote: rooms elsewhere, or None without federation.
        invites: how users of other servers are invited, or None without federation.
        on_demand: makes users and aliases that are asked for.

    Attributes:
        checks: what every member event of a local user has to pass, whoever sends it.
        partial: as given.
        proofs: what turns proofs into invites, or None without federation; set after it was built, since it invites.
    """

    def __init__(
        self,
        db: Database,
        pipeline: EventPipeline,
        server_name: str,
        partial: PartialRooms,
        remote: RemoteRooms | None = None,
        invites: RemoteInvites | None = None,
        on_demand: OnDemand | None = None,
    ) -> None:
        self._on_demand = on_demand or NothingOnDemand()
        self._invites = invites
        self._db = db
        self._pipeline = pipeline
        self._server_name = server_name
        self._remote = remote
        self.partial = partial
        self.proofs: ThirdPartyProofs | None = None
        self.checks = MemberChecks(server_name, federates=remote is not None)

    # -- coming ----------------------------------------------------------------------------------

    async def join(
        self,
        user_id: str,
        room_id_or_alias: str,
        *,
        via: Sequence[str] = (),
        reason: str | None = None,
        is_guest: bool = False,
        third_party_signed: dict[str, Any] | None = None,
    ) -> str:
        """Join a room by ID or alias.

        Args:
            via: servers that may know the room.
            third_party_signed: the proof that an invite to an e-mail address was for this user.

        Returns:
            The room ID.

        Raises:
            NotFound: no such room or alias.
            Forbidden: the room's rules do not let the user in, or it is blocked.
            GuestAccessForbidden: guests may not join.
        """
        room_id, servers = await self._resolve(room_id_or_alias)
        if third_party_signed is not None and self.proofs is not None:
            await self.proofs.redeem(user_id, room_id, third_party_signed)

        def step(tx: WriteTransaction) -> bool:
            room = rooms.find(tx, room_id)
            resident = room is not None and is_resident(tx, room)
            if room is not None and resident and membership_of(tx, room, user_id) is Membership.JOIN:
                return True
            check_not_blocked(tx, room_id)
            if room is None or not resident:
                return False
            if room.is_partial:
                return False  # whether the user is banned, for example, only others know yet
            if third_party_signed is not None:
                accept_third_party_invite(tx, self._pipeline, room, user_id, third_party_signed, self._server_name)
            join = member_draft(tx, sender=user_id, target=user_id, membership="join", reason=reason)
            try:
                checked = self.checks.checked(tx, room, join, is_guest=is_guest)
            except UnableToGrantJoin:
                if self._remote is None or room.joined == len(memberships.local_members(tx, room.nid)):
                    raise
                return False  # another server may have somebody who can let the user in
            self._pipeline.send(tx, room.nid, checked)
            carry_settings(tx, room, user_id)
            return True

        if await self._db.write(step):
            return room_id
        if self._remote is None:
            raise NotFound(f"This server does not know the room {room_id}")
        content: dict[str, Any] = {} if reason is None else {"reason": reason}
        if third_party_signed is not None:
            content["third_party_invite"] = {"signed": third_party_signed}
        await self._remote.join(user_id, room_id, [*via, *servers], content)
        if self._db.glance(lambda tx: blocked_rooms.is_blocked(tx, room_id)):  # while others were asked
            await self.leave(user_id, room_id)
        return room_id

    async def knock(
        self, user_id: str, room_id_or_alias: str, *, via: Sequence[str] = (), reason: str | None = None
    ) -> str:
        """Ask to be let into a room.

        Returns:
            The room ID.

        Raises:
            NotFound: no such room or alias.
            Forbidden: the room takes no knocks, or not from this user.
        """
        room_id, servers = await self._resolve(room_id_or_alias)

        def step(tx: WriteTransaction) -> bool:
            check_not_blocked(tx, room_id)
            room = rooms.find(tx, room_id)
            if room is None or not is_resident(tx, room) or room.is_partial:
                return False
            draft = member_draft(tx, sender=user_id, target=user_id, membership="knock", reason=reason)
            self._pipeline.send(tx, room.nid, self.checks.checked(tx, room, draft))
            return True

        if await self._db.write(step):
            return room_id
        if self._remote is None:
            raise NotFound(f"This server does not know the room {room_id}")
        await self._remote.knock(user_id, room_id, [*via, *servers], {} if reason is None else {"reason": reason})
        return room_id

    async def invite(
        self, sender: str, room_id: str, target: str, reason: str | None = None, *, is_direct: bool = False
    ) -> None:
        """Invite somebody.

        Raises:
            Forbidden: the sender may not, the target is in the room or banned, or cannot be reached.
            InviteBlocked: the target wants no invites.
        """
        check_user_id(target)

        def drafted(tx: ReadTransaction) -> tuple[RoomRow, EventDraft]:
            room = room_of_member(tx, room_id, sender)
            draft = member_draft(
                tx,
                sender=sender,
                target=target,
                membership="invite",
                reason=reason,
                is_direct=is_direct or None,
            )
            return room, self.checks.checked(tx, room, draft)

        if self.is_elsewhere(target):
            await self.partial.whole(room_id)
            await self.invite_elsewhere(*self._db.glance(drafted))
            return
        await self.look_for([target])

        def step(tx: WriteTransaction) -> None:
            room, draft = drafted(tx)
            self._pipeline.send(tx, room.nid, draft)

        await self.partial.write(room_id, step)

    async def look_for(self, user_ids: Iterable[str]) -> None:
        """Have local users made who do not exist, as far as somebody makes them.

        Raises:
            Unknown (408): who should know does not answer.
        """
        for user_id in user_ids:
            await self._on_demand.user(user_id)

    def is_elsewhere(self, user_id: str) -> bool:
        """Whether a user is one of another server, which has to be asked before the user is invited."""
        return self._invites is not None and is_valid_user_id(user_id) and domain_of(user_id) != self._server_name

    async def invite_elsewhere(self, room: RoomRow, draft: EventDraft) -> str:
        """Invite a user of another server: their server signs the event before it becomes part of the room.

        Args:
            draft: the member event, checked.

        Returns:
            The event ID.

        Raises:
            MatrixError: the rules of the room or the other server refuse, or it cannot be reached.
        """
        assert self._invites is not None
        event = await self._db.write(lambda tx: self._pipeline.prepare(tx, room.nid, draft))
        signed = await self._invites.offer(event)

        def step(tx: WriteTransaction) -> str:
            received = self._pipeline.admit(tx, room.nid, signed)
            if received.outcome in (Outcome.REJECTED, Outcome.SOFT_FAILED):
                # Nothing of it is kept: no other server is ever told of an event of ours that is not in the room.
                raise Forbidden(received.reason or "The room does not allow the invite any more")
            return received.stored.event_id

        return await self._db.write(step)

    # -- going -----------------------------------------------------------------------------------

    async def leave(self, user_id: str, room_id: str, reason: str | None = None, *, by_server: bool = False) -> None:
        """Leave a room, refuse an invite or take back a knock. Whoever has left already has left.

        Args:
            by_server: it is not the user who wants that.

        Raises:
            Forbidden: the user has nothing to leave there.
            CannotLeaveServerNoticeRoom: the user refuses the invite to the server's notices.
        """

        def step(tx: WriteTransaction) -> bool:
            room = rooms.find(tx, room_id)
            before = None if room is None else membership_of(tx, room, user_id)
            if room is None or before is None or before is Membership.BAN:
                raise Forbidden(f"You are not in the room {room_id[:255]}")
            if before is Membership.LEAVE:
                return True
            if before is Membership.INVITE and not by_server:
                check_may_refuse(tx, room, user_id)
            if before is not Membership.JOIN and self._remote is not None and not is_resident(tx, room):
                return False
            self._pipeline.send(
                tx, room.nid, member_draft(tx, sender=user_id, target=user_id, membership="leave", reason=reason)
            )
            return True

        if not await self.partial.write(room_id, step) and self._remote is not None:
            await self._remote.leave(user_id, room_id, reason)

    async def leave_all_rooms(self, user_id: str) -> None:
        """Leave every room of a local user, room by room: for accounts that are closed."""
        kinds = (Membership.JOIN, Membership.INVITE, Membership.KNOCK)

        def rooms_left(tx: ReadTransaction) -> list[str]:
            user = names.find(tx, user_id)
            rows = [] if user is None else memberships.of_local_user(tx, user, kinds)
            return [rooms.get(tx, row.room).room_id for row in rows]

        for room_id in await self._db.read(rooms_left):
            with suppress(Forbidden):  # somebody else has removed the user meanwhile
                await self.leave(user_id, room_id, by_server=True)

    async def kick(self, sender: str, room_id: str, target: str, reason: str | None = None) -> None:
        """Remove somebody from a room, take back an invite or refuse a knock.

        Raises:
            Forbidden: the sender may not, or the target is not there.
        """
        allowed = (Membership.JOIN, Membership.INVITE, Membership.KNOCK)
        otherwise = Forbidden(f"{target} is not in the room")
        await self._change(sender, room_id, target, "leave", reason, allowed, otherwise)

    async def ban(self, sender: str, room_id: str, target: str, reason: str | None = None) -> None:
        """Ban somebody, member or not.

        Raises:
            Forbidden: the sender may not.
        """
        await self._change(sender, room_id, target, "ban", reason)

    async def unban(self, sender: str, room_id: str, target: str, reason: str | None = None) -> None:
        """Lift a ban.

        Raises:
            Forbidden: the sender may not.
            BadState: the target is not banned.
        """
        otherwise = BadState(f"{target} is not banned")
        await self._change(sender, room_id, target, "leave", reason, (Membership.BAN,), otherwise)

    async def _change(
        self,
        sender: str,
        room_id: str,
        target: str,
        membership: str,
        reason: str | None,
        allowed: Sequence[Membership] = (),
        otherwise: MatrixError | None = None,
    ) -> None:
        """Set the membership of a target, who has to have one of those `allowed`, if `otherwise` is an error."""
        check_user_id(target)

        def step(tx: WriteTransaction) -> None:
            room = room_of_member(tx, room_id, sender)
            check_members_known(tx, room, [("m.room.member", target)])
            if otherwise is not None and membership_of(tx, room, target) not in allowed:
                raise otherwise
            draft = member_draft(tx, sender=sender, target=target, membership=membership, reason=reason)
            self._pipeline.send(tx, room.nid, draft)

        await self.partial.write(room_id, step)

    async def forget(self, user_id: str, room_id: str) -> None:
        """Hide a room that the user has left.

        Raises:
            Unknown (400): the user is still in it.
            NotFound: the user never was in such a room.
        """

        def step(tx: WriteTransaction) -> None:
            room = rooms.find(tx, room_id)
            user = names.find(tx, user_id)
            row = None if room is None or user is None else memberships.get(tx, room.nid, user)
            if row is None:
                raise NotFound(f"You were never in the room {room_id[:255]}")
            if row.membership not in (Membership.LEAVE, Membership.BAN):
                raise Unknown("Leave the room before you forget it", status=400)
            memberships.forget(tx, row.room, row.user)

        await self._db.write(step)

    # -- profiles --------------------------------------------------------------------------------

    async def profile_changed(self, user_id: str, displayname: str | None, avatar_url: str | None) -> None:
        """Show a user's new name and avatar, stored already, in every room that they are in.

        A few rooms share a step, so that somebody in hundreds of rooms does not keep the writer from others.
        """

        def joined(tx: ReadTransaction) -> list[int]:
            user = names.find(tx, user_id)
            return [] if user is None else memberships.joined_rooms(tx, user)

        pending = await self._db.read(joined)
        for start in range(0, len(pending), _ROOMS_PER_STEP):
            batch = pending[start : start + _ROOMS_PER_STEP]
            await self._db.write(lambda tx, batch=batch: self._show_profile(tx, user_id, batch))  # type: ignore[misc]

    def _show_profile(self, tx: WriteTransaction, user_id: str, room_nids: Sequence[int]) -> None:
        for room_nid in room_nids:
            room = rooms.get(tx, room_nid)
            current = room_state.event_at(tx, room.state, "m.room.member", user_id)
            if current is None or current.event.membership != "join":
                continue
            content = with_fresh_profile(tx, user_id, current.event.content)
            if content == current.event.content:
                continue
            # A room that no longer lets its members speak keeps the old name.
            with suppress(MatrixError):
                self._pipeline.send(tx, room_nid, EventDraft("m.room.member", user_id, content, state_key=user_id))

    async def joined_rooms(self, user_id: str) -> list[str]:
        """The IDs of the rooms that a local user is in."""

        def step(tx: ReadTransaction) -> list[str]:
            user = names.find(tx, user_id)
            found = [] if user is None else memberships.joined_rooms(tx, user)
            return [rooms.get(tx, room).room_id for room in found]

        return await self._db.read(step)

    # -- finding ---------------------------------------------------------------------------------

    async def _resolve(self, room_id_or_alias: str) -> tuple[str, list[str]]:
        if is_valid_room_id(room_id_or_alias):
            return room_id_or_alias, []
        if not is_valid_room_alias(room_id_or_alias):
            raise InvalidParam(f"{room_id_or_alias[:100]!r} is neither a room ID nor a room alias")
        room_id = self._db.glance(lambda tx: _room_of_alias(tx, room_id_or_alias))
        if room_id is not None:
            return room_id, []
        if self._remote is not None and domain_of(room_id_or_alias) != self._server_name:
            return await self._remote.resolve_alias(room_id_or_alias)
        if await self._on_demand.alias(room_id_or_alias):
            room_id = self._db.glance(lambda tx: _room_of_alias(tx, room_id_or_alias))
            if room_id is not None:
                return room_id, []
        raise NotFound(f"There is no room with the alias {room_id_or_alias[:255]}")


_ROOMS_PER_STEP = 20


def _room_of_alias(tx: ReadTransaction, alias: str) -> str | None:
    found = rooms.of_alias(tx, alias)
    return None if found is None else rooms.get(tx, found[0]).room_id
