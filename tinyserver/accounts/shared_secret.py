"""Registration by tools that know a secret of the server: they prove it with an HMAC over a nonce.

It works as the existing tools expect: `GET` a nonce, then `POST` user name, password and HMAC-SHA1.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

from tinyserver.accounts.registration import Registered, Registration
from tinyserver.accounts.sessions import NewSession
from tinyserver.protocol.errors import Forbidden, InvalidParam

NONCE_SECONDS = 60.0
_MAX_NONCES = 200


class SharedSecretRegistration:
    """Checks the proof, then makes the account whatever the registration mode is.

    Args:
        secret: the shared secret; empty: this way of registration is not offered.
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, registration: Registration, secret: str, monotonic: Callable[[], float]) -> None:
        self._registration = registration
        self._secret = secret.encode("utf-8")
        self._monotonic = monotonic
        self._nonces: dict[str, float] = {}

    def new_nonce(self) -> str:
        """A nonce for one registration within a minute. Raises Forbidden when this is not offered."""
        self._check_offered()
        now = self._monotonic()
        for nonce, expires in list(self._nonces.items()):  # the oldest first
            if expires > now and len(self._nonces) < _MAX_NONCES:
                break
            del self._nonces[nonce]
        nonce = secrets.token_hex(32)
        self._nonces[nonce] = now + NONCE_SECONDS
        return nonce

    async def register(
        self,
        nonce: str,
        username: str,
        password: str,
        mac: str,
        *,
        displayname: str | None,
        admin: bool,
        user_type: str | None,
        session: NewSession | None,
    ) -> Registered:
        """Make an account, or an administrator's.

        Args:
            mac: hexadecimal HMAC-SHA1 with the secret over nonce, user name, password, "admin" or "notadmin" and, if
                there is one, the user type, with NUL between them.

        Raises:
            Forbidden: not offered, or the proof is wrong.
            InvalidParam: the nonce is unknown, spent or too old.
            InvalidUsername, UserInUse, Exclusive, WeakPassword.
        """
        self._check_offered()
        if self._nonces.pop(nonce, 0.0) <= self._monotonic():
            raise InvalidParam("The nonce is not known, was used already, or is too old. Get a new one.")
        parts = [nonce, username, password, "admin" if admin else "notadmin"]
        if user_type is not None:
            parts.append(user_type)
        if any("\0" in part for part in parts):
            raise InvalidParam("User name and password cannot contain NUL.")
        wanted = hmac.new(self._secret, "\0".join(parts).encode("utf-8"), hashlib.sha1).hexdigest()
        if not hmac.compare_digest(wanted.encode("ascii"), mac.encode("utf-8")):
            raise Forbidden("The HMAC is wrong: check the shared secret.")
        return await self._registration.register_trusted(
            username, password, session, displayname=displayname, admin=admin
        )

    def _check_offered(self) -> None:
        if not self._secret:
            raise Forbidden("Registration by shared secret is not enabled on this server.")
