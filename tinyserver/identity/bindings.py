"""Binding addresses to users at identity servers, so that others find them by these, and taking that back.

spec: client-server-api#notes-on-identity-servers
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tinyserver.accounts.requester import Requester
from tinyserver.identity.client import IdentityClient, NotSupported
from tinyserver.protocol.errors import InvalidParam, MatrixError, ThreepidDenied, Unknown
from tinyserver.protocol.threepids import canonical_address, is_valid_client_secret
from tinyserver.storage import threepid_bindings
from tinyserver.storage.database import Database

MAX_BINDINGS = 100


@dataclass(frozen=True, slots=True)
class Proof:
    """A session at an identity server in which an address was proved, and the user's access token there."""

    server: str
    token: str
    sid: str
    client_secret: str


class Bindings:
    """Binds and unbinds; what was bound through this server is kept on disk."""

    def __init__(self, db: Database, client: IdentityClient) -> None:
        self._db = db
        self._client = client

    async def bind(self, requester: Requester, proof: Proof) -> None:
        """Bind an address that the requester has proved.

        Raises:
            ServerNotTrusted: users may not use this identity server.
            InvalidParam: the proof cannot be one.
            ThreepidDenied: the user has too many already.
            MatrixError: the identity server refuses.
        """
        if not is_valid_client_secret(proof.sid) or not is_valid_client_secret(proof.client_secret):
            raise InvalidParam("'sid' and 'client_secret' have 1 to 255 characters of 0-9 a-z A-Z . = _ -")
        self._client.check_trusted(proof.server)
        if len(self._db.glance(lambda tx: threepid_bindings.of_user(tx, requester.user_nid))) >= MAX_BINDINGS:
            raise ThreepidDenied(f"You have bound {MAX_BINDINGS} addresses already. Unbind one first.")
        medium, address = await self._client.bind(
            proof.server, proof.token, proof.sid, proof.client_secret, requester.user_id
        )
        canonical = canonical_address(medium, address)
        if canonical is None:
            raise Unknown(f"The identity server {proof.server} answered nonsense.", status=502)
        await self._db.write(lambda tx: threepid_bindings.put(tx, requester.user_nid, medium, canonical, proof.server))

    async def unbind(self, user_id: str, user: int, medium: str, address: str, server: str | None) -> bool:
        """Unbind an address of a user (also by number); whether that is done.

        Args:
            server: the identity server; None: those where it was bound through this server.

        Raises:
            InvalidParam: no address.
        """
        canonical = canonical_address(medium, address)
        if canonical is None:
            raise InvalidParam("This is no mail address or telephone number.")
        known = self._db.glance(lambda tx: threepid_bindings.servers(tx, user, medium, canonical))
        servers = known
        if server is not None:
            servers = [server] if server in known or self._client.is_trusted(server) else []
        done = await asyncio.gather(*(self._unbind(user_id, user, medium, canonical, each) for each in servers))
        return bool(done) and all(done)

    async def unbind_all(self, user_id: str, user: int, server: str | None = None) -> bool:
        """Take back all bindings of a user (also by number), who is about to go; whether none is left.

        Args:
            server: the identity server; None: where each address was bound through this server.
        """
        known = self._db.glance(lambda tx: threepid_bindings.of_user(tx, user))
        if server is not None:
            if not (self._client.is_trusted(server) or any(each[2] == server for each in known)):
                return False
            known = [(*each, server) for each in dict.fromkeys((medium, address) for medium, address, _ in known)]
        return all(await asyncio.gather(*(self._unbind(user_id, user, *each) for each in known)))

    async def _unbind(self, user_id: str, user: int, medium: str, address: str, server: str) -> bool:
        try:
            await self._client.unbind(server, user_id, medium, address)
        except (NotSupported, MatrixError):
            return False
        await self._db.write(lambda tx: threepid_bindings.remove(tx, user, medium, address, server))
        return True
