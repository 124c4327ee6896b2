"""Turning invites by address into invites of users: an identity server tells the server of a user who has proved an
address (`bound`), and that one asks the server of the inviter for the invite (`exchange`).

spec: server-server-api#third-party-invites
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tinyserver.federation.client import FederationClient
from tinyserver.federation.participation.errors import error_for_user
from tinyserver.outgoing.errors import HttpError, OutgoingError
from tinyserver.protocol.errors import BadJson, Forbidden, InvalidParam, MatrixError, TooLarge, Unknown
from tinyserver.protocol.identifiers import domain_of, is_valid_room_id, is_valid_user_id
from tinyserver.protocol.request_auth import path_of
from tinyserver.protocol.third_party_invites import signing_keys
from tinyserver.rooms.access import known_room, membership_of
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.membership import RoomMembership
from tinyserver.rooms.out_of_band import is_resident
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.rooms.server_acls import allows
from tinyserver.storage import accounts, room_state, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

log = logging.getLogger(__name__)

MAX_INVITES = 100
AT_ONCE = 5
TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Proof:
    """That the invite with a token in a room, which `sender` sent, is for a user: `signed` by an identity server."""

    room_id: str
    sender: str
    user_id: str
    signed: Mapping[str, Any]


class KeyValidity(Protocol):
    """Asks identity servers for their keys."""

    async def is_valid_key(self, url: str, public_key: str) -> bool:
        """Whether the key is still good, as the URL says."""
        ...


class ThirdPartyExchange:
    """Exchanges invites by address for invites of users.

    Args:
        db: where rooms are stored.
        client: asks other servers.
        membership, pipeline: invite.
        keys: asks identity servers.
        server_name: this server.
    """

    def __init__(
        self,
        db: Database,
        client: FederationClient,
        membership: RoomMembership,
        pipeline: EventPipeline,
        keys: KeyValidity,
        server_name: str,
    ) -> None:
        self._db = db
        self._client = client
        self._membership = membership
        self._pipeline = pipeline
        self._keys = keys
        self._server_name = server_name

    async def exchange(self, origin: str, room_id: str, event: Mapping[str, Any]) -> None:
        """Invite a user of the origin who was invited by address by a user of this server.

        Args:
            event: the member event that the origin wants, as far as it can make it.

        Raises:
            BadJson, InvalidParam: it is no such event.
            NotFound: this server is not in the room.
            Forbidden: it is not for the origin to ask, or the proof is none (any more).
            MatrixError: the invite cannot be issued.
        """
        proof = _proof_of(room_id, event)
        if domain_of(proof.user_id) != origin:
            raise Forbidden("This is a user of another server")

        def check(tx: ReadTransaction) -> None:
            if not allows(tx, known_room(tx, room_id), origin):
                raise Forbidden("The server is not allowed to take part in this room")

        self._db.glance(check)
        await self._issue(proof)

    async def bound(self, user_id: str, invites: Sequence[Any]) -> None:
        """A user of this server has proved an address; see that the invites that waited for it become theirs.

        What is wrong with an invite is logged, and does not keep the others back.

        Raises:
            InvalidParam: no user of this server.
            TooLarge: too many invites.
            Unknown (502): some cannot be had at present: the identity server may tell of them again.
        """
        if not is_valid_user_id(user_id) or domain_of(user_id) != self._server_name:
            raise InvalidParam("This is no user of this server.")
        account = self._db.glance(lambda tx: accounts.find(tx, user_id))
        if account is None or account.is_deactivated:
            raise InvalidParam("There is no such user.")
        if len(invites) > MAX_INVITES:
            raise TooLarge(f"At most {MAX_INVITES} invites are taken at once.")
        turns = asyncio.Semaphore(AT_ONCE)

        async def take(invite: Any) -> bool:
            async with turns:
                return await self._take(user_id, invite)

        if not all(await asyncio.gather(*(take(invite) for invite in invites))):
            raise Unknown("A server could not be reached. Tell of the invites again later.", status=502)

    async def redeem(self, user_id: str, room_id: str, signed: Mapping[str, Any]) -> None:
        """Have the proof of a user of this server turned into an invite, if this server is not in the room and the user
        is not invited (the `ThirdPartyProofs` of rooms).

        Raises:
            BadJson, Forbidden: it is no proof, or is refused.
            Unknown: the inviter's server cannot be reached (502).
        """

        def is_of_use(tx: ReadTransaction) -> bool:
            room = rooms.find(tx, room_id)
            return room is None or not (is_resident(tx, room) or membership_of(tx, room, user_id) is Membership.INVITE)

        proof = _proof(room_id, signed.get("sender"), user_id, signed)
        server = domain_of(proof.sender)
        if server == self._server_name or not self._db.glance(is_of_use):
            return
        try:
            await self._ask(proof)
        except OutgoingError as error:
            raise error_for_user(error, server) from error

    async def _take(self, user_id: str, invite: Any) -> bool:
        """Have one invite made; False when it may succeed later."""
        try:
            proof = _proof_in(user_id, invite)
            if domain_of(proof.sender) == self._server_name:
                await self._issue(proof)
            else:
                await self._ask(proof)
        except OutgoingError as error:
            lasting = isinstance(error, HttpError) and 400 <= error.status < 500 and error.status != 429
            told = error_for_user(error, domain_of(proof.sender)).message
            log.info("an invite by address could not be had: %s", told)
            return lasting
        except MatrixError as error:
            log.info("an invite by address is of no use: %s", error.message)
        return True

    async def _ask(self, proof: Proof) -> None:
        """Have the inviter's server issue the invite. Raises OutgoingError."""
        # A name that tells nothing of the address; the inviter's server knows the one of the invite.
        name = proof.user_id[1:].partition(":")[0]
        content = {"membership": "invite", "third_party_invite": {"display_name": name, "signed": dict(proof.signed)}}
        event = {
            "type": "m.room.member",
            "room_id": proof.room_id,
            "sender": proof.sender,
            "state_key": proof.user_id,
            "content": content,
        }
        path = path_of("_matrix", "federation", "v1", "exchange_third_party_invite", proof.room_id)
        await self._client.put(domain_of(proof.sender), path, event, timeout=TIMEOUT, ignore_backoff=True)

    async def _issue(self, proof: Proof) -> None:
        """Send the invite of a user in the name of the inviter, who is of this server."""
        await self._membership.partial.whole(proof.room_id)
        found = self._db.glance(lambda tx: self._read(tx, proof))
        if found is None:
            return  # invited already
        _, _, keys = found
        for public_key, url in keys:
            if not url or await self._keys.is_valid_key(url, public_key):
                break
        else:
            raise Forbidden("The identity server does not stand by its key any more")
        if self._membership.is_elsewhere(proof.user_id):
            room, draft, _ = found
            await self._membership.invite_elsewhere(room, draft)
            return

        def step(tx: WriteTransaction) -> None:
            again = self._read(tx, proof)
            if again is not None:
                self._pipeline.send(tx, again[0].nid, again[1])

        await self._membership.partial.write(proof.room_id, step)

    def _read(
        self, tx: ReadTransaction, proof: Proof
    ) -> tuple[RoomRow, EventDraft, list[tuple[str, str | None]]] | None:
        """The room, the invite to be sent, and the keys that have signed the proof; None for who is invited already."""
        room = known_room(tx, proof.room_id)
        if not is_resident(tx, room):
            raise Forbidden("This server is not in the room")
        membership = membership_of(tx, room, proof.user_id)
        if membership is Membership.INVITE:
            return None
        if membership is Membership.JOIN:
            raise Forbidden(f"{proof.user_id} is in the room already")
        token = proof.signed["token"]
        issued = room_state.event_at(tx, room.state, "m.room.third_party_invite", token)
        keys = [] if issued is None else signing_keys(proof.signed, issued.event.content)
        if issued is None or not keys:
            raise Forbidden("This is no proof of a pending invite to this room")
        sender = issued.event.sender
        if sender != proof.sender or domain_of(sender) != self._server_name:
            raise Forbidden("This is the invite of somebody else")
        shown = issued.event.content.get("display_name")
        invite = {"display_name": shown if isinstance(shown, str) else "", "signed": dict(proof.signed)}
        content = {"membership": "invite", "third_party_invite": invite}
        draft = EventDraft("m.room.member", sender, content, state_key=proof.user_id)
        return room, self._membership.checks.checked(tx, room, draft), keys


def _proof_of(room_id: str, event: Mapping[str, Any]) -> Proof:
    """The proof in a member event."""
    content = event.get("content")
    invite = content.get("third_party_invite") if isinstance(content, dict) else None
    if event.get("type") != "m.room.member" or not isinstance(content, dict) or content.get("membership") != "invite":
        raise InvalidParam("This is no invite")
    if event.get("room_id") != room_id:
        raise InvalidParam("The event is of another room")
    signed = invite.get("signed") if isinstance(invite, dict) else None
    return _proof(room_id, event.get("sender"), event.get("state_key"), signed)


def _proof_in(user_id: str, invite: Any) -> Proof:
    """The proof that an identity server tells of."""
    if not isinstance(invite, dict):
        raise BadJson("An invite must be an object")
    return _proof(invite.get("room_id"), invite.get("sender"), user_id, invite.get("signed"))


def _proof(room_id: Any, sender: Any, user_id: Any, signed: Any) -> Proof:
    if not isinstance(signed, dict) or not isinstance(signed.get("token"), str):
        raise BadJson("third_party_invite needs what an identity server has signed")
    if not isinstance(room_id, str) or not is_valid_room_id(room_id):
        raise BadJson("This is no room ID")
    for each in (sender, user_id):
        if not isinstance(each, str) or not is_valid_user_id(each):
            raise BadJson("The invite needs a sender and an invited user")
    if signed.get("mxid") != user_id:
        raise Forbidden("The proof is for somebody else")
    return Proof(room_id, sender, user_id, signed)
