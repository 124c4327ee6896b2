"""From an access token to the requester. In the ordinary case that is one look into a table in memory.

spec: client-server-api#using-access-tokens
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from tinyserver.accounts.last_seen import MAX_AGENT, LastSeen
from tinyserver.accounts.requester import Requester
from tinyserver.accounts.tokens import digest
from tinyserver.clock import Clock
from tinyserver.protocol.errors import UnknownToken, UserLocked
from tinyserver.storage import accounts, devices, names, sessions
from tinyserver.storage.database import Database
from tinyserver.storage.devices import Seen
from tinyserver.storage.errors import StorageError
from tinyserver.storage.sessions import SessionRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

log = logging.getLogger(__name__)

_MAX_CACHED = 5000
_LOGOUTS = frozenset(f"/_matrix/client/{version}/logout{every}" for version in ("v3", "r0") for every in ("", "/all"))


class IncomingCall(Protocol):
    """What authentication looks at besides the token."""

    @property
    def client_address(self) -> str:
        """The address of the client."""
        ...

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers by lower-case name."""
        ...

    @property
    def scope(self) -> MutableMapping[str, Any]:
        """The ASGI scope."""
        ...

    @property
    def query_parameters(self) -> dict[str, list[str]]:
        """The values of each query parameter. Raises InvalidParam."""
        ...


class ServiceTokens(Protocol):
    """Who else gives out access tokens: application services, which act for users of theirs."""

    def requester_of(self, token_hash: bytes, call: IncomingCall) -> Requester | None:
        """The requester of a service's token (by its SHA-256), or None where it is no service's.

        Raises:
            Forbidden, UnknownDevice, UserDeactivated, UserLocked.
        """
        ...

    def is_known(self, token_hash: bytes) -> bool:
        """Whether a token (by its SHA-256) is a service's."""
        ...


@dataclass(frozen=True, slots=True)
class Authenticated:
    """What is known of a valid access token; `expires` is in ms since 1970, None is never."""

    requester: Requester
    expires: int | None
    is_locked: bool


class TokenCache:
    """Access tokens (by their SHA-256) that were used lately. Whoever ends one drops it here, after the commit."""

    def __init__(self, capacity: int = _MAX_CACHED) -> None:
        self._capacity = capacity
        self._entries: dict[bytes, Authenticated] = {}

    def get(self, access_hash: bytes) -> Authenticated | None:
        """What is known of a token, or None."""
        return self._entries.get(access_hash)

    def put(self, access_hash: bytes, entry: Authenticated) -> None:
        """Remember a token; the one that was remembered first makes room."""
        if len(self._entries) >= self._capacity:
            del self._entries[next(iter(self._entries))]
        self._entries[access_hash] = entry

    def drop_device(self, device: int) -> None:
        """Forget the tokens of a device."""
        self._drop(lambda requester: requester.device_nid == device)

    def drop_user(self, user: int) -> None:
        """Forget the tokens of a user."""
        self._drop(lambda requester: requester.user_nid == user)

    def _drop(self, ended: Callable[[Requester], bool]) -> None:
        for access_hash in [key for key, entry in self._entries.items() if ended(entry.requester)]:
            del self._entries[access_hash]


class TokenAuthenticator:
    """Implements the HTTP floor's `Authenticator` for the access tokens of local users."""

    def __init__(
        self, db: Database, clock: Clock, cache: TokenCache, last_seen: LastSeen, services: ServiceTokens
    ) -> None:
        self._db = db
        self._clock = clock
        self._cache = cache
        self._last_seen = last_seen
        self._services = services

    async def authenticate(self, token: str, call: IncomingCall) -> Requester:
        """The requester of an access token.

        Raises:
            UnknownToken: never given out, logged out, or expired (then with `soft_logout`).
            UserLocked: the account is locked and this is not a logout.
            Forbidden, UnknownDevice, UserDeactivated: an application service may not act for whom it names.
        """
        access_hash = digest(token)
        entry = self._cache.get(access_hash)
        if entry is None:
            acting = self._services.requester_of(access_hash, call)
            if acting is not None:
                return acting
            entry = await self._look_up(access_hash)
        now = self._clock.now_ms()
        if entry.expires is not None and entry.expires <= now:
            raise UnknownToken("The access token has expired. Refresh it or log in again.", soft_logout=True)
        if entry.is_locked and call.scope["path"] not in _LOGOUTS:
            raise UserLocked
        requester = entry.requester
        if requester.device_nid is not None:
            agent = call.headers.get("user-agent", "")[:MAX_AGENT]
            self._last_seen.note(requester.device_nid, Seen(now, call.client_address, agent))
        return requester

    def is_exempt(self, token: str) -> bool:
        """Whether requests that need no access token, but have this one, are free of rate limits."""
        return self._services.is_known(digest(token))

    async def _look_up(self, access_hash: bytes) -> Authenticated:
        found = self._db.glance(lambda tx: _find(tx, access_hash))
        if found is None:
            raise UnknownToken
        session, entry = found
        if session.replaces is not None:
            await self._confirm(session)
        else:
            # Nothing is awaited between the look-up and this, so no logout can have been missed.
            self._cache.put(access_hash, entry)
        return entry

    async def _confirm(self, session: SessionRow) -> None:
        def step(tx: WriteTransaction) -> None:
            sessions.confirm(tx, session)
            tx.on_commit(lambda: self._cache.drop_device(session.device))

        try:
            await self._db.write(step)
        except StorageError as error:
            log.warning("a refreshed session could not be confirmed, its old tokens stay valid: %s", error)


def _find(tx: ReadTransaction, access_hash: bytes) -> tuple[SessionRow, Authenticated] | None:
    session = sessions.of_access_token(tx, access_hash)
    if session is None:
        return None
    user = accounts.get(tx, session.user)
    device = devices.get(tx, session.device)
    if user is None or device is None or user.is_deactivated:
        return None
    requester = Requester(
        user_id=names.text(tx, session.user),
        user_nid=session.user,
        device_id=device.device_id,
        device_nid=session.device,
        is_guest=user.is_guest,
        is_admin=user.is_admin,
        is_suspended=user.is_suspended,
        token_nid=session.nid,
    )
    return session, Authenticated(requester, session.access_expires, user.is_locked)
