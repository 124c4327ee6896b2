"""Proving to another service who one is: a token that is good for nothing else.

spec: client-server-api#openid, server-server-api#openid
"""

from __future__ import annotations

from tinyserver.accounts.requester import Requester
from tinyserver.accounts.tokens import digest, new_openid_token
from tinyserver.clock import Clock
from tinyserver.protocol.errors import Forbidden, UnknownToken
from tinyserver.storage import accounts, names, openid_tokens
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction

LIFETIME_SECONDS = 3600
"""How long a token is valid."""


class OpenIdTokens:
    """Gives out tokens and tells whose they are.

    Args:
        db: where they are stored.
        clock: for their expiry.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def create(self, requester: Requester, user_id: str) -> str:
        """A token for the requester.

        Args:
            user_id: whom the token is to be for.

        Raises:
            Forbidden: that is somebody else.
        """
        if user_id != requester.user_id:
            raise Forbidden("You can only get a token for yourself")
        token, now = new_openid_token(), self._clock.now_ms()
        expires = now + LIFETIME_SECONDS * 1000
        await self._db.write(lambda tx: openid_tokens.add(tx, digest(token), requester.user_nid, expires, now))
        return token

    def owner(self, token: str) -> str:
        """The user ID behind a token.

        Raises:
            UnknownToken: there is no such token, it has expired, or the account is no more.
        """
        now = self._clock.now_ms()

        def step(tx: ReadTransaction) -> str:
            user = openid_tokens.user_of(tx, digest(token), now)
            account = None if user is None else accounts.get(tx, user)
            if user is None or account is None or account.is_deactivated:
                raise UnknownToken("The token is unknown or has expired")
            return names.text(tx, user)

        return self._db.glance(step)
