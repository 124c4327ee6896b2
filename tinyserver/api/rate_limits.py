"""Rate limits: a token bucket for each (kind of request, user or address), in a table that cannot grow without bound.

spec: client-server-api#rate-limiting
"""

from collections.abc import Callable, Mapping
from enum import Enum
from ipaddress import IPv6Address, ip_address

from tinyserver.config import Bucket, RateLimits
from tinyserver.protocol.errors import LimitExceeded

_MAX_BUCKETS = 10_000  # about 1.5 MB when full


class Limit(Enum):
    """The kinds of requests that have a bucket of their own; each value is a key of ``[rate_limits]``."""

    MESSAGE = "message"
    REDACTION = "redaction"
    LOGIN_ADDRESS = "login_address"
    LOGIN_ACCOUNT = "login_account"
    LOGIN_FAILED = "login_failed"
    REGISTRATION = "registration"
    MAIL = "mail"
    JOIN = "join"
    INVITE = "invite"
    CREATE_ROOM = "create_room"
    PROFILE = "profile"
    MEDIA = "media"
    SEARCH = "search"
    REPORT = "report"
    FEDERATION = "federation"
    KEY_QUERY = "key_query"
    OTHER = "other"


class RateLimiter:
    """All buckets.

    A bucket is kept as one number, the moment at which it will be full again. Spending one request moves that moment
    on by the bucket's interval; a request is refused while the moment is further away than a whole burst.

    :param limits: the ``[rate_limits]`` section of the configuration.
    :param clock: seconds, monotonic.
    """

    def __init__(self, limits: RateLimits, clock: Callable[[], float], *, capacity: int = _MAX_BUCKETS) -> None:
        self._enabled = limits.enabled
        self._admins_exempt = limits.admins_exempt
        self._buckets: Mapping[Limit, Bucket] = {limit: getattr(limits, limit.value) for limit in Limit}
        self._clock = clock
        self._capacity = capacity
        self._full_at: dict[tuple[Limit, str], float] = {}

    def __len__(self) -> int:
        """How many buckets are remembered; never more than the capacity."""
        return len(self._full_at)

    def spend(self, limit: Limit, key: str, *, is_admin: bool = False) -> None:
        """Take one request out of the bucket of ``key`` (a user ID, or an address from :func:`address_key`).

        Raises LimitExceeded with the time until the next request is allowed.
        """
        self._take(limit, key, is_admin, cost=1)

    def check(self, limit: Limit, key: str, *, is_admin: bool = False) -> None:
        """As :meth:`spend`, but nothing is taken: for limits on failures, spent only once something has failed."""
        self._take(limit, key, is_admin, cost=0)

    def _take(self, limit: Limit, key: str, is_admin: bool, cost: int) -> None:
        if not self._enabled or (is_admin and self._admins_exempt):
            return
        bucket = self._buckets[limit]
        interval = 1.0 / bucket.per_second
        now = self._clock()
        full_at = max(self._full_at.pop((limit, key), now), now)
        wait = full_at + interval - now - bucket.burst * interval
        refused = wait > 1e-9  # not 0: the sums above are floats
        if not refused:
            full_at += interval * cost
        if full_at > now:  # a full bucket need not be remembered
            self._full_at[(limit, key)] = full_at  # re-inserted last: the first one is the longest unused
            if len(self._full_at) > self._capacity:
                del self._full_at[next(iter(self._full_at))]
        if refused:
            raise LimitExceeded(retry_after_ms=max(1, round(wait * 1000)))


def address_key(address: str) -> str:
    """The bucket of an address: an IPv4 address itself, of an IPv6 one its /64 (which one subscriber has whole)."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64)) + "/64"
    return str(parsed)
