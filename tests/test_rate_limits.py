"""Token buckets with a clock of our own."""

from __future__ import annotations

import pytest

from tinyserver.api.rate_limits import Limit, RateLimiter, address_key
from tinyserver.config import Bucket, RateLimits
from tinyserver.protocol.errors import LimitExceeded


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def limiter(clock: Clock, *, enabled: bool = True, admins_exempt: bool = True, capacity: int = 100) -> RateLimiter:
    limits = RateLimits(enabled=enabled, admins_exempt=admins_exempt, message=Bucket(2, 5), login_failed=Bucket(0.1, 2))
    return RateLimiter(limits, clock, capacity=capacity)


def spend_until_refused(buckets: RateLimiter, limit: Limit, key: str) -> tuple[int, int]:
    """How many requests were allowed, and for how many milliseconds the next one was put off."""
    for count in range(10_000):
        try:
            buckets.spend(limit, key)
        except LimitExceeded as error:
            return count, error.retry_after_ms or 0
    raise AssertionError("never refused")


def test_a_burst_then_the_long_run() -> None:
    clock = Clock()
    buckets = limiter(clock)
    assert spend_until_refused(buckets, Limit.MESSAGE, "@a:x") == (5, 500)
    clock.now += 0.499
    with pytest.raises(LimitExceeded) as caught:
        buckets.spend(Limit.MESSAGE, "@a:x")
    assert caught.value.retry_after_ms == 1
    assert caught.value.headers["Retry-After"] == "1"
    clock.now += 0.001
    assert spend_until_refused(buckets, Limit.MESSAGE, "@a:x") == (1, 500)
    clock.now += 1000
    assert spend_until_refused(buckets, Limit.MESSAGE, "@a:x") == (5, 500)


def test_the_told_wait_is_enough_and_not_more_than_needed() -> None:
    clock = Clock()
    buckets = limiter(clock)
    _, wait = spend_until_refused(buckets, Limit.LOGIN_FAILED, "@a:x")
    assert wait == 10_000
    clock.now += wait / 1000
    buckets.spend(Limit.LOGIN_FAILED, "@a:x")


def test_keys_and_kinds_are_apart() -> None:
    buckets = limiter(Clock())
    assert spend_until_refused(buckets, Limit.MESSAGE, "@a:x")[0] == 5
    assert spend_until_refused(buckets, Limit.MESSAGE, "@b:x")[0] == 5
    assert spend_until_refused(buckets, Limit.LOGIN_FAILED, "@a:x")[0] == 2


def test_check_takes_nothing() -> None:
    buckets = limiter(Clock())
    for _ in range(100):
        buckets.check(Limit.LOGIN_FAILED, "@a:x")
    assert spend_until_refused(buckets, Limit.LOGIN_FAILED, "@a:x")[0] == 2
    with pytest.raises(LimitExceeded):
        buckets.check(Limit.LOGIN_FAILED, "@a:x")


def test_admins_and_switched_off() -> None:
    exempt, strict, off = limiter(Clock()), limiter(Clock(), admins_exempt=False), limiter(Clock(), enabled=False)
    for _ in range(100):
        exempt.spend(Limit.MESSAGE, "@a:x", is_admin=True)
        off.spend(Limit.MESSAGE, "@a:x")
    for _ in range(5):
        strict.spend(Limit.MESSAGE, "@a:x", is_admin=True)
    with pytest.raises(LimitExceeded):
        strict.spend(Limit.MESSAGE, "@a:x", is_admin=True)


def test_the_table_is_bounded_and_forgets_the_longest_unused() -> None:
    clock = Clock()
    buckets = limiter(clock, capacity=10)
    spend_until_refused(buckets, Limit.MESSAGE, "busy")
    for number in range(1000):
        buckets.spend(Limit.MESSAGE, f"address {number}")
        with pytest.raises(LimitExceeded):  # still in use, so still remembered
            buckets.spend(Limit.MESSAGE, "busy")
        assert len(buckets) <= 10


def test_a_clock_that_stands_still_or_steps_back_lets_nobody_in_for_free() -> None:
    clock = Clock()
    buckets = limiter(clock)
    spend_until_refused(buckets, Limit.MESSAGE, "@a:x")
    clock.now -= 500
    with pytest.raises(LimitExceeded):
        buckets.spend(Limit.MESSAGE, "@a:x")


def test_every_limit_has_its_configuration() -> None:
    for limit in Limit:
        assert isinstance(getattr(RateLimits(), limit.value), Bucket)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_address_keys(address: str, key: str) -> None:
    assert address_key(address) == key
