"""Who may replace their cross-signing keys for a few minutes, because they agreed to it on the server's own page.

spec: client-server-api#oauth-authentication
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from tinyserver.accounts.uia import UserInteractionRequired

RESET_SECONDS = 600.0
_STAGES = ("m.oauth", "org.matrix.cross_signing_reset")  # the second is its name from before it was specified
_MAX_ALLOWED = 1000


class IdentityResets:
    """All of them, in memory.

    Args:
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until: dict[int, float] = {}

    def allow(self, user: int) -> None:
        """Let a user (by number) replace the keys within the next minutes, once."""
        now = self._monotonic()
        for known, until in list(self._until.items()):  # the oldest first
            if until > now and len(self._until) < _MAX_ALLOWED:
                break
            del self._until[known]
        self._until.pop(user, None)
        self._until[user] = now + RESET_SECONDS

    def check(self, user: int, auth: Mapping[str, Any] | None, url: str) -> None:
        """Let a user through who has agreed lately.

        Clients ask again and again until the user has, some of them without naming the session: so none is kept.

        Args:
            auth: the `auth` object of the request.
            url: the page on which the user can agree.

        Raises:
            UserInteractionRequired: the user has not agreed, or too long ago.
        """
        if self._until.get(user, 0.0) > self._monotonic():
            return
        session = (auth or {}).get("session")
        challenge = {
            "flows": [{"stages": [stage]} for stage in _STAGES],
            "params": {stage: {"url": url} for stage in _STAGES},
            "session": session if isinstance(session, str) and len(session) <= 255 else secrets.token_urlsafe(18),
        }
        raise UserInteractionRequired(challenge)

    def end(self, user: int) -> None:
        """It was done."""
        self._until.pop(user, None)
