"""Who is signed in with a web browser, on the server's own pages. In memory, for an hour after the last use.

spec: client-server-api#oauth-20-api
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from tinyserver.accounts.tokens import digest
from tinyserver.storage import accounts
from tinyserver.storage.accounts import UserRow
from tinyserver.storage.database import Database

IDLE_SECONDS = 3600.0
_MAX_SESSIONS = 1000


@dataclass(slots=True)
class BrowserSession:
    """A signed-in browser: the user, and when it is forgotten."""

    user_id: str
    user: int
    password: str
    expires: float


class BrowserSessions:
    """All of them, by the SHA-256 of their cookie. One ends when the password changes or the account is closed.

    Args:
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, db: Database, monotonic: Callable[[], float]) -> None:
        self._db = db
        self._monotonic = monotonic
        self._sessions: dict[bytes, BrowserSession] = {}

    def open(self, user_id: str) -> str:
        """Sign a browser in for a user who has just proved who they are; the secret for its cookie."""
        now = self._monotonic()
        for key, session in list(self._sessions.items()):  # the longest unused first
            if session.expires > now and len(self._sessions) < _MAX_SESSIONS:
                break
            del self._sessions[key]
        cookie = secrets.token_urlsafe(32)
        account = self._account(user_id)
        if account is not None:
            password = account.password or ""
            self._sessions[digest(cookie)] = BrowserSession(user_id, account.nid, password, now + IDLE_SECONDS)
        return cookie

    def find(self, cookie: str) -> BrowserSession | None:
        """The session of a cookie, or None. It lives on from now."""
        key = digest(cookie)
        session = self._sessions.pop(key, None)
        if session is None or session.expires <= self._monotonic():
            return None
        account = self._account(session.user_id)
        if account is None or account.is_locked or account.password != session.password:
            return None
        session.expires = self._monotonic() + IDLE_SECONDS
        self._sessions[key] = session
        return session

    def close(self, cookie: str) -> None:
        """Sign a browser out."""
        self._sessions.pop(digest(cookie), None)

    def _account(self, user_id: str) -> UserRow | None:
        account = self._db.glance(lambda tx: accounts.find(tx, user_id))
        return None if account is None or account.is_deactivated or account.is_guest else account
