"""Tokens for clients that were let in with a browser: exchanged for codes, refreshed, revoked.

The sessions are the same as those of a login. What is added is that they belong to a client, and what a refresh token
is worth that comes once too often: it was stolen, and its session ends. A client that did not get the answer to its
refresh is no thief: it gets the same tokens again for a little while, and afterwards other ones as long as it has not
used any of them.

spec: client-server-api#refresh-token-grant, client-server-api#token-revocation
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinyserver.accounts.sessions import NewSession, OAuthGrant, Origin, Sessions, Tokens, check_device_id
from tinyserver.accounts.tokens import digest, family_of
from tinyserver.oauth.clients import OAuthClient
from tinyserver.oauth.codes import AuthorizationCodes, CodeGrant, CodeReused, DeviceGrants
from tinyserver.protocol.errors import InvalidParam, UnknownToken, UserLocked
from tinyserver.protocol.oauth.errors import OAuthError
from tinyserver.protocol.oauth.requests import Scope
from tinyserver.storage import accounts, devices, oauth_clients, sessions
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import WriteTransaction

REPEAT_SECONDS = 30.0
"""How long the same refresh is answered with the same tokens."""
_MAX_REPEATS = 500
_MAX_DEVICE_NAME = 100


@dataclass(frozen=True, slots=True)
class GrantedTokens:
    """Tokens, and the scope that they are good for."""

    tokens: Tokens
    scope: str


class OAuthTokens:
    """The token endpoint's work.

    Args:
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(
        self,
        db: Database,
        sessions_: Sessions,
        codes: AuthorizationCodes,
        device_grants: DeviceGrants,
        monotonic: Callable[[], float],
    ) -> None:
        self._db = db
        self._sessions = sessions_
        self._codes = codes
        self._device_grants = device_grants
        self._monotonic = monotonic
        self._repeats: dict[bytes, tuple[Tokens, float]] = {}

    async def exchange_code(
        self, client: OAuthClient, code: str, redirect_uri: str, verifier: str, origin: Origin
    ) -> GrantedTokens:
        """Tokens for an authorization code. Raises OAuthError."""
        try:
            grant = self._codes.take(code, client.nid, redirect_uri, verifier)
        except CodeReused as reused:
            await self._take_back(reused.grant)
            raise
        tokens = await self._sign_in(client, grant.user, grant.request.scope, origin, grant)
        return GrantedTokens(tokens, grant.request.scope.granted)

    async def exchange_device_code(self, client: OAuthClient, device_code: str, origin: Origin) -> GrantedTokens:
        """Tokens for a device code, once the user has agreed. Raises OAuthError."""
        grant, user = self._device_grants.poll(device_code, client.nid)
        tokens = await self._sign_in(client, user, grant.scope, origin, None)
        return GrantedTokens(tokens, grant.scope.granted)

    async def refresh(self, client: OAuthClient, refresh_token: str) -> GrantedTokens:
        """New tokens for a refresh token. A used-up one ends the session that it belongs to. Raises OAuthError."""
        try:
            return await self._db.write(lambda tx: self._refresh(tx, client, refresh_token))
        except UnknownToken as unknown:
            await self._end_family(client, refresh_token)
            raise OAuthError("invalid_grant", "the refresh token is not known, was used, or has expired") from unknown
        except UserLocked as locked:
            raise OAuthError("invalid_grant", "the account is locked") from locked

    async def revoke(self, token: str) -> None:
        """End the session of an access or a refresh token and delete its device; an unknown token is no error."""
        token_hash = digest(token)

        def step(tx: WriteTransaction) -> None:
            session = sessions.of_access_token(tx, token_hash) or sessions.of_refresh_token(tx, token_hash)
            if session is not None:
                self._sessions.remove_devices(tx, session.user, [session.device])

        await self._db.write(step)

    async def _sign_in(
        self, client: OAuthClient, user: int, scope: Scope, origin: Origin, code: CodeGrant | None
    ) -> Tokens:
        wanted = NewSession(
            scope.device_id,
            client.name[:_MAX_DEVICE_NAME],
            can_refresh=True,
            origin=origin,
            grant=OAuthGrant(client.nid, scope.granted),
        )

        def step(tx: WriteTransaction) -> Tokens:
            account = accounts.get(tx, user)
            if account is None or account.is_deactivated or account.is_locked or (code is not None and code.revoked):
                raise OAuthError("invalid_grant", "the account is closed or locked")
            if oauth_clients.get(tx, client.nid) is None:
                raise OAuthError("invalid_client", "there is no such client any more", status=401)
            tokens = self._sessions.open(tx, user, wanted)
            if code is not None:
                device = devices.find(tx, user, tokens.device_id)
                code.device = None if device is None else device.nid
            return tokens

        return await self._db.write(step)

    def _refresh(self, tx: WriteTransaction, client: OAuthClient, refresh_token: str) -> GrantedTokens:
        refresh_hash = digest(refresh_token)
        tokens = self._repeated(tx, client, refresh_hash)
        if tokens is None:
            tokens = self._sessions.refresh_in_step(tx, refresh_token, client=client.nid)
            self._remember(refresh_hash, tokens)
        session = sessions.of_access_token(tx, digest(tokens.access_token))
        device = None if session is None else devices.get(tx, session.device)
        if device is None or device.oauth_scope is None:
            raise UnknownToken
        return GrantedTokens(tokens, device.oauth_scope)

    def _repeated(self, tx: WriteTransaction, client: OAuthClient, refresh_hash: bytes) -> Tokens | None:
        """The answer that the same refresh had a moment ago, if those tokens are still good."""
        tokens, until = self._repeats.get(refresh_hash, (None, 0.0))
        if tokens is None or tokens.refresh_token is None or until <= self._monotonic():
            return None
        session = sessions.of_refresh_token(tx, digest(tokens.refresh_token))
        device = None if session is None else devices.get(tx, session.device)
        account = None if session is None else accounts.get(tx, session.user)
        if device is None or device.oauth_client != client.nid or account is None or account.is_locked:
            return None
        return tokens

    def _remember(self, refresh_hash: bytes, tokens: Tokens) -> None:
        # Also for a step that is not committed in the end: then nobody finds these tokens in the database.
        now = self._monotonic()
        for known, (_, until) in list(self._repeats.items()):  # the oldest first
            if until > now and len(self._repeats) < _MAX_REPEATS:
                break
            del self._repeats[known]
        self._repeats.pop(refresh_hash, None)
        self._repeats[refresh_hash] = (tokens, now + REPEAT_SECONDS)

    async def _take_back(self, grant: CodeGrant) -> None:
        """End what a stolen code was exchanged for."""

        def step(tx: WriteTransaction) -> None:
            grant.revoked = True
            if grant.device is not None:
                self._sessions.remove_devices(tx, grant.user, [grant.device])

        await self._db.write(step)

    async def _end_family(self, client: OAuthClient, refresh_token: str) -> None:
        """End the session to which a used-up refresh token once belonged."""
        family = family_of(refresh_token)
        if family is None:
            return
        family_hash, refresh_hash = digest(family), digest(refresh_token)

        def step(tx: WriteTransaction) -> None:
            device = devices.of_oauth_family(tx, family_hash)
            # A token that is still good was refused for another reason: its client, its age.
            if device is None or device.oauth_client != client.nid:
                return
            if sessions.of_refresh_token(tx, refresh_hash) is None:
                self._sessions.remove_devices(tx, device.user, [device.nid])

        await self._db.write(step)


def check_scope(scope: Scope) -> None:
    """Raises OAuthError, `invalid_scope`, for a device ID that cannot be kept."""
    try:
        check_device_id(scope.device_id)
    except InvalidParam as error:
        raise OAuthError("invalid_scope", error.message) from error
