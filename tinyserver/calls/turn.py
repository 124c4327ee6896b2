"""Credentials for TURN servers that are good for a while, made of a secret that this server shares with them.

spec: client-server-api#voice-over-ip
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from tinyserver.clock import Clock


@dataclass(frozen=True, slots=True)
class TurnCredentials:
    """What a client shows to the TURN servers at `uris`, for `ttl` seconds."""

    username: str
    password: str
    uris: Sequence[str]
    ttl: int


class TurnServers:
    """The TURN servers of the configuration.

    Args:
        uris: where they are; none: there are none.
        secret: what is shared with them (coturn: `static-auth-secret`).
        lifetime: seconds that credentials are good for.
        clock: for their end.
    """

    def __init__(self, uris: Sequence[str], secret: str, lifetime: float, clock: Clock) -> None:
        self._uris = uris
        self._secret = secret.encode()
        self._lifetime = int(lifetime)
        self._clock = clock

    def credentials(self, user_id: str) -> TurnCredentials | None:
        """Credentials for a user, None where there are no servers."""
        if not self._uris or not self._secret:
            return None
        username = f"{self._clock.now_ms() // 1000 + self._lifetime}:{user_id}"
        password = base64.b64encode(hmac.new(self._secret, username.encode(), hashlib.sha1).digest()).decode()
        return TurnCredentials(username, password, self._uris, self._lifetime)
