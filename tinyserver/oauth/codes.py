"""What a client exchanges for tokens once the user has agreed: authorization codes and device codes.

They live in memory, for minutes, and only as SHA-256.

spec: client-server-api#authorisation-code-grant, client-server-api#device-authorisation-grant, RFC 8628
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from tinyserver.accounts.tokens import digest
from tinyserver.protocol.oauth.errors import OAuthError
from tinyserver.protocol.oauth.requests import AuthorizationRequest, Scope, is_proved

CODE_SECONDS = 60.0
DEVICE_CODE_SECONDS = 1200.0
POLL_SECONDS = 5
_MAX_CODES = 1000
_USER_CODE_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels: no words; spec: RFC 8628 section 6.1
_INVALID = "the code is not known, or no longer valid"


@dataclass(slots=True)
class CodeGrant:
    """What a user agreed to. `device` is the number of the device that was signed in by it, once it is used."""

    client: int
    user: int
    request: AuthorizationRequest
    expires: float
    used: bool = False
    revoked: bool = False
    device: int | None = None


class CodeReused(OAuthError):
    """A code came for the second time: somebody has stolen it, so what it was exchanged for is to be taken back."""

    def __init__(self, grant: CodeGrant) -> None:
        super().__init__("invalid_grant", _INVALID)
        self.grant = grant


class AuthorizationCodes:
    """Codes that go through the user's browser.

    Args:
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._grants: dict[bytes, CodeGrant] = {}

    def issue(self, client: int, user: int, request: AuthorizationRequest) -> str:
        """A code for a client (by number) to which a user (by number) agreed."""
        now = self._monotonic()
        for code_hash, grant in list(self._grants.items()):  # the oldest first
            if grant.expires > now and len(self._grants) < _MAX_CODES:
                break
            del self._grants[code_hash]
        code = "tsc_" + secrets.token_urlsafe(32)
        self._grants[digest(code)] = CodeGrant(client, user, request, now + CODE_SECONDS)
        return code

    def take(self, code: str, client: int, redirect_uri: str, verifier: str) -> CodeGrant:
        """What a code stands for; it is used up by that, also by a try with a wrong redirect URI or proof key.

        Raises:
            CodeReused: it was used already.
            OAuthError: `invalid_grant`.
        """
        grant = self._grants.get(digest(code))
        if grant is None or grant.expires <= self._monotonic() or grant.client != client:
            raise OAuthError("invalid_grant", _INVALID)
        if grant.used:
            raise CodeReused(grant)
        grant.used = True
        if grant.request.redirect_uri != redirect_uri:
            raise OAuthError("invalid_grant", "the redirect URI is not the one of the authorization request")
        if not is_proved(grant.request.challenge, verifier):
            raise OAuthError("invalid_grant", "the code_verifier does not belong to the code_challenge")
        return grant


@dataclass(slots=True)
class DeviceGrant:
    """A sign-in that a device asked for and its user is to agree to with a browser elsewhere.

    `address` is where the device is; `user` who agreed; times are seconds of the monotonic clock.
    """

    client: int
    scope: Scope
    user_code: str
    address: str
    asked: float
    expires: float
    interval: float = POLL_SECONDS
    polled: float | None = None
    user: int | None = None
    denied: bool = False


class DeviceGrants:
    """Device codes and the user codes that go with them.

    Args:
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._by_device_code: dict[bytes, DeviceGrant] = {}
        self._by_user_code: dict[str, DeviceGrant] = {}

    def issue(self, client: int, scope: Scope, address: str) -> tuple[str, DeviceGrant]:
        """A device code, and what it stands for with its user code."""
        now = self._monotonic()
        for code_hash, grant in list(self._by_device_code.items()):  # the oldest first
            if grant.expires > now and len(self._by_device_code) < _MAX_CODES:
                break
            self._drop(code_hash)
        user_code = ""
        while not user_code or user_code in self._by_user_code:
            user_code = "".join(secrets.choice(_USER_CODE_ALPHABET) for _ in range(8))
        device_code = "tsd_" + secrets.token_urlsafe(32)
        made = DeviceGrant(client, scope, user_code, address, now, now + DEVICE_CODE_SECONDS)
        self._by_device_code[digest(device_code)] = made
        self._by_user_code[user_code] = made
        return device_code, made

    def of_user_code(self, typed: str) -> DeviceGrant | None:
        """What a user code stands for, however it was typed; None for one that is unknown, expired or answered."""
        letters = "".join(letter for letter in typed.upper() if letter in _USER_CODE_ALPHABET)
        grant = self._by_user_code.get(letters)
        if grant is None or grant.expires <= self._monotonic() or grant.denied or grant.user is not None:
            return None
        return grant

    def minutes_ago(self, grant: DeviceGrant) -> int:
        """How long ago the device asked."""
        return int((self._monotonic() - grant.asked) / 60)

    def poll(self, device_code: str, client: int) -> tuple[DeviceGrant, int]:
        """What the user (by number) has agreed to; the code is used up by that.

        Raises:
            OAuthError: `authorization_pending`, `slow_down`, `access_denied`, `expired_token`, `invalid_grant`.
        """
        code_hash = digest(device_code)
        grant = self._by_device_code.get(code_hash)
        if grant is None or grant.client != client:
            raise OAuthError("invalid_grant", _INVALID)
        now = self._monotonic()
        if grant.expires <= now:
            self._drop(code_hash)
            raise OAuthError("expired_token", "the user did not agree in time")
        if grant.denied:
            self._drop(code_hash)
            raise OAuthError("access_denied", "the user has refused")
        if grant.user is not None:
            self._drop(code_hash)
            return grant, grant.user
        last, grant.polled = grant.polled, now
        if last is not None and now - last < grant.interval - 0.5:  # for the jitter of a network
            grant.interval += 5
            raise OAuthError("slow_down", "ask less often: the interval is 5 seconds longer now")
        raise OAuthError("authorization_pending", "the user has not agreed yet")

    def _drop(self, code_hash: bytes) -> None:
        grant = self._by_device_code.pop(code_hash)
        self._by_user_code.pop(grant.user_code, None)
