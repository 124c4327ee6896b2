"""Registration tokens: who has one may make an account. The very first one makes the administrator's.

spec: client-server-api#token-authenticated-registration
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyserver.accounts.tokens import new_registration_token
from tinyserver.accounts.uia import StageFailed
from tinyserver.clock import Clock
from tinyserver.protocol.errors import Forbidden, InvalidParam, MissingParam, Unauthorized
from tinyserver.protocol.identifiers import is_valid_opaque_id
from tinyserver.storage import accounts, registration_tokens
from tinyserver.storage.database import Database
from tinyserver.storage.registration_tokens import RegistrationTokenRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_TOKEN_LENGTH = 64
_INVALID = "The registration token is not valid, or no longer. Ask the administrator of the server for one."


class RegistrationTokens:
    """Makes registration tokens, checks them, and counts their uses."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def first(self) -> str | None:
        """The one-time token that makes the first account, an administrator's; None when there are accounts.

        The same token is given until it is used.
        """
        if self._db.glance(accounts.any_registered):
            return None

        def step(tx: WriteTransaction) -> str | None:
            if accounts.any_registered(tx):
                return None
            for row in registration_tokens.all_tokens(tx):
                if row.makes_admin:
                    return row.token
            token = new_registration_token()
            registration_tokens.add(tx, token, uses_allowed=1, expires=None, makes_admin=True)
            return token

        return await self._db.write(step)

    async def create(
        self, token: str | None = None, *, uses_allowed: int | None = None, expires: int | None = None
    ) -> str:
        """Make a token.

        Args:
            token: its text; None for a random one.
            uses_allowed: how many accounts it is good for; None for any number.
            expires: ms since 1970; None for never.

        Raises:
            InvalidParam: the text is too long, has wrong characters, or is taken.
        """
        if token is not None and not (len(token) <= MAX_TOKEN_LENGTH and is_valid_opaque_id(token)):
            raise InvalidParam(f"A registration token has up to {MAX_TOKEN_LENGTH} characters of a-z A-Z 0-9 . _ ~ -")
        text = token or new_registration_token()

        def step(tx: WriteTransaction) -> None:
            if registration_tokens.get(tx, text) is not None:
                raise InvalidParam("There is such a registration token already.")
            registration_tokens.add(tx, text, uses_allowed=uses_allowed, expires=expires)

        await self._db.write(step)
        return text

    async def all(self) -> list[RegistrationTokenRow]:
        """Every token that was made and not removed, also used-up and expired ones."""
        return await self._db.read(registration_tokens.all_tokens)

    async def remove(self, token: str) -> bool:
        """Take a token back; False when there was none."""
        return await self._db.write(lambda tx: registration_tokens.remove(tx, token))

    def is_valid(self, token: str) -> bool:
        """Whether an account could be made with the token now."""
        return self._db.glance(lambda tx: self.find_valid(tx, token)) is not None

    def find_valid(self, tx: ReadTransaction, token: str) -> RegistrationTokenRow | None:
        """The token, or None when it cannot be used (any more). Those for the first account end with it."""
        row = registration_tokens.get(tx, token)
        if row is None or not row.is_valid(self._clock.now_ms()):
            return None
        return None if row.makes_admin and accounts.any_registered(tx) else row

    def spend(self, tx: WriteTransaction, token: str) -> bool:
        """Count a use inside the step that makes the account; returns whether that becomes an administrator.

        Raises:
            Forbidden: the token is no longer valid.
        """
        row = self.check(tx, token)
        registration_tokens.count_use(tx, token)
        return row.makes_admin

    def check(self, tx: ReadTransaction, token: str) -> RegistrationTokenRow:
        """The token. Raises Forbidden for one that cannot be used (any more)."""
        row = self.find_valid(tx, token)
        if row is None:
            raise Forbidden(_INVALID)
        return row


class RegistrationTokenStage:
    """The stage `m.login.registration_token`; its result is the token."""

    def __init__(self, tokens: RegistrationTokens) -> None:
        self._tokens = tokens

    async def check(self, auth: Mapping[str, Any]) -> str:
        """Look whether the token is valid. Raises StageFailed."""
        token = auth.get("token")
        if not isinstance(token, str):
            raise StageFailed(MissingParam("The stage needs a 'token'."))
        if not self._tokens.is_valid(token):
            raise StageFailed(Unauthorized(_INVALID))
        return token
