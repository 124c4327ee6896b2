"""Logging in: by password, or by a token that another device of the user has made.

spec: client-server-api#legacy-login
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tinyserver.accounts.password_check import PasswordCheck, PasswordStage
from tinyserver.accounts.requester import Requester
from tinyserver.accounts.sessions import NewSession, Sessions, Tokens
from tinyserver.accounts.tokens import digest, new_login_token
from tinyserver.accounts.uia import UserInteractiveAuth
from tinyserver.protocol.errors import Forbidden, UserLocked
from tinyserver.storage import accounts, names
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import WriteTransaction

LOGIN_TOKEN_SECONDS = 120.0
_MAX_LOGIN_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A user ID and the tokens of its new session."""

    user_id: str
    tokens: Tokens


class Login:
    """Opens sessions for those who prove who they are.

    Args:
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(
        self,
        db: Database,
        sessions: Sessions,
        passwords: PasswordCheck,
        uia: UserInteractiveAuth,
        monotonic: Callable[[], float],
    ) -> None:
        self._db = db
        self._sessions = sessions
        self._passwords = passwords
        self._uia = uia
        self._monotonic = monotonic
        self._login_tokens: dict[bytes, tuple[int, float]] = {}

    async def with_password(self, identifier: Mapping[str, Any], password: str, wanted: NewSession) -> LoggedIn:
        """Log in with a user identifier object and a password.

        Raises:
            Forbidden: the user or the password is wrong.
            UserLocked, LimitExceeded, InvalidParam, MissingParam, BadJson, Unknown.
        """
        wanted.check()
        _, user = await self._passwords.check(identifier, password)
        return await self.open(user.nid, wanted)

    async def with_token(self, token: str, wanted: NewSession) -> LoggedIn:
        """Log in with a token from :meth:`new_token`; it is spent by that.

        Raises:
            Forbidden: never made, spent, or expired.
        """
        wanted.check()
        user, expires = self._login_tokens.pop(digest(token), (0, 0.0))
        if expires <= self._monotonic():
            raise Forbidden("The login token is not known, was used already, or has expired. Get a new one.")
        return await self.open(user, wanted)

    async def new_token(self, requester: Requester, auth: Mapping[str, Any] | None) -> tuple[str, int]:
        """A token with which another device can log in once, and its lifetime in milliseconds.

        Raises:
            UserInteractionRequired: the user must first prove again who they are.
        """
        await self._uia.authorise(
            auth,
            operation=f"login token for {requester.user_id}",
            parameters=None,
            flows=[("m.login.password",)],
            stages={"m.login.password": PasswordStage(self._passwords, requester.user_nid)},
        )
        return self.issue_token(requester.user_nid, LOGIN_TOKEN_SECONDS), int(LOGIN_TOKEN_SECONDS * 1000)

    def issue_token(self, user: int, seconds: float) -> str:
        """A token for one login of a user (by number) who has just proved who they are."""
        now = self._monotonic()
        for token_hash, (_, expires) in list(self._login_tokens.items()):  # about the oldest first
            if expires > now and len(self._login_tokens) < _MAX_LOGIN_TOKENS:
                break
            del self._login_tokens[token_hash]
        token = new_login_token()
        self._login_tokens[digest(token)] = (user, now + seconds)
        return token

    async def open(self, user: int, wanted: NewSession) -> LoggedIn:
        """Open a session for a user (by number) who has proved who they are, or whose application service has.

        Raises:
            Forbidden: the account is closed.
            UserLocked.
        """

        def step(tx: WriteTransaction) -> LoggedIn:
            account = accounts.get(tx, user)
            if account is None or account.is_deactivated:
                raise Forbidden("This account has been deactivated.")
            if account.is_locked:
                raise UserLocked
            return LoggedIn(names.text(tx, user), self._sessions.open(tx, user, wanted))

        return await self._db.write(step)
