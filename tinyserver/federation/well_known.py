"""`/.well-known/matrix/server`: where a server says that it is to be found.

spec: server-server-api#resolving-server-names (3)
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tinyserver.outgoing.errors import OutgoingError
from tinyserver.outgoing.http import HttpClient
from tinyserver.outgoing.http_dates import http_date_ms
from tinyserver.protocol import canonical_json
from tinyserver.protocol.identifiers import InvalidIdentifier, ServerName, parse_server_name

MAX_BYTES = 50 * 1024
MAX_REDIRECTS = 5
TIMEOUT = 10.0
DEFAULT_LIFETIME = 24 * 3600.0
MIN_LIFETIME, MAX_LIFETIME = 300.0, 48 * 3600.0
FIRST_ERROR_LIFETIME, MAX_ERROR_LIFETIME = 300.0, 3600.0
STALE_SECONDS = 7 * 24 * 3600.0
"""How long a delegation is still followed when its page cannot be had any more."""
MAX_CACHED = 1000
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_NO_CACHE = re.compile(r"(?:^|[,\s])no-(?:store|cache)(?=$|[,\s=])", re.IGNORECASE)


@dataclass(slots=True)
class _Known:
    """What a host said last (`server` None: nothing), until when that holds, and how often it failed since."""

    server: ServerName | None
    until: float
    said_at: float
    failures: int = 0


class WellKnown:
    """Asks hosts for their delegation, and remembers what they said.

    Args:
        http: the client to ask with.
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, http: HttpClient, monotonic: Callable[[], float]) -> None:
        self._http = http
        self._monotonic = monotonic
        self._cache: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Known]] = {}

    async def delegated(self, host: str) -> ServerName | None:
        """The server that `host` delegates to, or None."""
        host = host.lower()
        known = self._cache.get(host)
        if known is None or self._monotonic() >= known.until:
            asking = self._asking.get(host)
            if asking is None:
                asking = self._asking[host] = asyncio.ensure_future(self._ask(host, known))
                asking.add_done_callback(lambda _: self._asking.pop(host, None))
            known = await asyncio.shield(asking)
        else:
            self._cache.move_to_end(host)
        return known.server

    async def close(self) -> None:
        """Give up what is being asked."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _ask(self, host: str, before: _Known | None) -> _Known:
        now = self._monotonic()
        try:
            answer = await self._http.fetch(
                f"https://{host}/.well-known/matrix/server",
                timeout=TIMEOUT,
                max_bytes=MAX_BYTES,
                max_redirects=MAX_REDIRECTS,
            )
            server = _delegation(answer.status, answer.body)
        except OutgoingError:
            server, answer = None, None
        if server is not None and answer is not None:
            known = _Known(server, now + lifetime(answer.headers), now)
        else:
            known = _failed(before, now, still_there=answer is None)
        self._cache[host] = known
        self._cache.move_to_end(host)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return known


def lifetime(headers: Mapping[str, str]) -> float:
    """For how many seconds an answer may be remembered, by its headers and within sensible bounds."""
    control = headers.get("cache-control", "")
    if _NO_CACHE.search(control):
        return MIN_LIFETIME
    max_age = _MAX_AGE.search(control)
    seconds = DEFAULT_LIFETIME
    if max_age:
        seconds = float(max_age[1])
    elif "expires" in headers and (date := http_date_ms(headers.get("date", ""))) is not None:
        # Against the other side's own clock: ours may be wrong. What is no date means "in the past".
        expires = http_date_ms(headers["expires"])
        seconds = 0.0 if expires is None else (expires - date) / 1000
    return min(max(seconds, MIN_LIFETIME), MAX_LIFETIME)


def _delegation(status: int, body: bytes) -> ServerName | None:
    """The server in a page, or None where it is not what it should be."""
    if status != 200:
        return None
    try:
        page = canonical_json.loads(body)
        delegate = page.get("m.server") if isinstance(page, dict) else None
        return parse_server_name(delegate) if isinstance(delegate, str) else None
    except (canonical_json.JsonSyntaxError, InvalidIdentifier):
        return None


def _failed(before: _Known | None, now: float, *, still_there: bool) -> _Known:
    """After a failure: each further one is remembered longer, up to an hour.

    Args:
        still_there: nothing at all was answered. Then a delegation that was known is followed on for some days: the
            host's web server is down, but its Matrix server need not be.
    """
    failures = 0 if before is None else before.failures
    pause = min(FIRST_ERROR_LIFETIME * 2 ** min(failures, 10), MAX_ERROR_LIFETIME)
    if still_there and before is not None and before.server is not None and now - before.said_at < STALE_SECONDS:
        return _Known(before.server, now + pause, before.said_at, failures + 1)
    return _Known(None, now + pause, now, failures + 1)
