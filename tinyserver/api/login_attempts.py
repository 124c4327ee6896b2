"""Slowing down those who try passwords, with the buckets of the rate limiter."""

from __future__ import annotations

from tinyserver.api.rate_limits import Limit, RateLimiter
from tinyserver.protocol.errors import LimitExceeded


class LimitedLoginAttempts:
    """The accounts' `LoginAttempts`: each account has a bucket for attempts and a smaller one for wrong passwords."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    def begin(self, user_id: str) -> None:
        """Raises LimitExceeded when this account was tried too often."""
        self._limiter.check(Limit.LOGIN_FAILED, user_id)
        self._limiter.spend(Limit.LOGIN_ACCOUNT, user_id)

    def failed(self, user_id: str) -> None:
        """Take one out of the bucket of wrong passwords; an empty one only shows at the next attempt."""
        try:
            self._limiter.spend(Limit.LOGIN_FAILED, user_id)
        except LimitExceeded:
            return
