"""Names to addresses, kindly to a weak home router.

Answers are cached for as long as they say. An answer that has run out is still used when no newer one comes soon: most
servers keep their addresses for years, and a router that hangs for a minute must not cut off all conversations.
Questions are asked one at a time for each name, and not faster than the router likes.

c-ares (aiodns) asks; it is imported with the first question. Names that only the system knows (mDNS, other
name services) are asked of the system.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tinyserver.outgoing.errors import Unreachable

if TYPE_CHECKING:
    import aiodns

Answer = TypeVar("Answer")

QUERIES_PER_SECOND = 10.0
BURST = 20
MAX_WAITING_SECONDS = 10.0
"""A question that would wait longer than this for its turn is not asked."""
MAX_CACHED = 1000
MIN_TTL, MAX_TTL = 30.0, 86400.0
NEGATIVE_TTL = 300.0
FAILURE_TTL = 10.0
STALE_SECONDS = 3 * 86400.0
PATIENCE_WITH_STALE = 1.0
"""How long a newer answer is waited for while an old one is there."""
MAX_ADDRESSES = 16
_TIMEOUT, _TRIES = 2.5, 2


@dataclass(frozen=True, slots=True)
class SrvRecord:
    """Where a service is: a host name and a port, in the order of trying."""

    host: str
    port: int


@dataclass(slots=True)
class _Cached(Generic[Answer]):
    answer: Answer
    fresh_until: float
    stale_until: float


class _NoAnswer(Exception):
    """The name does not exist, or has no records of the kind."""


class Resolver:
    """Looks names up.

    Args:
        servers: addresses of DNS servers, "192.0.2.1" or "192.0.2.1:53"; empty: those of the system.
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, servers: Sequence[str], monotonic: Callable[[], float]) -> None:
        self._servers = list(servers)
        self._monotonic = monotonic
        self._ares: aiodns.DNSResolver | None = None
        self._cache: OrderedDict[tuple[str, str], _Cached[Any]] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self._next_turn = 0.0

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The IP addresses of a host, IPv6 and IPv4 by turns.

        Raises:
            Unreachable: it has none, or nobody answers.
        """
        host = host.lower().rstrip(".")
        found: tuple[str, ...] = await self._answer(("addresses", host), lambda: self._ask_addresses(host), ())
        if not found:
            raise Unreachable(f"the host {host} has no address")
        return found

    async def services(self, name: str) -> tuple[SrvRecord, ...]:
        """The SRV records of a name such as `_matrix-fed._tcp.example.org`, in the order of trying; empty if none.

        Raises:
            Unreachable: nobody answers.
        """
        name = name.lower().rstrip(".")
        records: tuple[SrvRecord, ...]
        records = await self._answer(("services", name), lambda: self._ask_services(name), ())
        return records

    async def close(self) -> None:
        """Give up what is being asked."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        if self._ares is not None:
            await self._ares.close()
            self._ares = None

    # -- the cache -------------------------------------------------------------------------------

    async def _answer(
        self, key: tuple[str, str], ask: Callable[[], Awaitable[tuple[Answer, float]]], nothing: Answer
    ) -> Answer:
        """From the cache, or asked now. `ask` gives an answer and its lifetime in seconds."""
        now = self._monotonic()
        cached: _Cached[Answer] | None = self._cache.get(key)
        if cached is not None:
            self._cache.move_to_end(key)
            if now < cached.fresh_until:
                return cached.answer
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.ensure_future(self._ask(key, ask, nothing))
            self._asking[key] = asking
            asking.add_done_callback(lambda done: self._finished(key, done))
        if cached is None or now >= cached.stale_until:
            return await asyncio.shield(asking)
        try:
            return await asyncio.wait_for(asyncio.shield(asking), PATIENCE_WITH_STALE)
        except (TimeoutError, Unreachable):
            return cached.answer

    async def _ask(
        self, key: tuple[str, str], ask: Callable[[], Awaitable[tuple[Answer, float]]], nothing: Answer
    ) -> Answer:
        stale = self._cache.get(key)
        try:
            await self._take_turn()
            answer, ttl = await ask()
            lifetime = min(max(ttl, MIN_TTL), MAX_TTL)
            keep = STALE_SECONDS
        except _NoAnswer:
            answer, lifetime, keep = nothing, NEGATIVE_TTL, 0.0
        except Unreachable:
            if stale is not None:  # the old answer serves on; the next question comes after a pause
                stale.fresh_until = self._monotonic() + FAILURE_TTL
            raise
        now = self._monotonic()
        self._cache[key] = _Cached(answer, now + lifetime, now + lifetime + keep)
        self._cache.move_to_end(key)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return answer

    def _finished(self, key: tuple[str, str], task: asyncio.Task[Any]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen: whoever waited for it has raised it

    async def _take_turn(self) -> None:
        """Wait until another question may be asked. Raises Unreachable when too many wait already."""
        now = self._monotonic()
        interval = 1 / QUERIES_PER_SECOND
        self._next_turn = max(self._next_turn, now - BURST * interval)
        wait = self._next_turn - now
        if wait > MAX_WAITING_SECONDS:
            raise Unreachable("too many names are being looked up", local=True)
        self._next_turn += interval
        if wait > 0:
            await asyncio.sleep(wait)

    # -- asking ----------------------------------------------------------------------------------

    async def _ask_addresses(self, host: str) -> tuple[tuple[str, ...], float]:
        try:
            found = await self._channel().getaddrinfo(host, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except Exception as error:
            reason = _translated(error, host)
            if host.endswith(".local") or "." not in host:
                return await self._ask_system(host, reason)
            raise reason from error
        addresses = [(node.family, _text(node.addr[0])) for node in found.nodes]
        ttls = [node.ttl for node in found.nodes if node.ttl > 0]
        return _interleaved(addresses), float(min(ttls, default=0))

    async def _ask_system(self, host: str, reason: Exception) -> tuple[tuple[str, ...], float]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise reason from error
        return _interleaved([(family, str(address[0])) for family, *_, address in found]), 0.0

    async def _ask_services(self, name: str) -> tuple[tuple[SrvRecord, ...], float]:
        try:
            result = await self._channel().query_dns(name, "SRV")
        except Exception as error:
            raise _translated(error, name) from error
        records, ttls = [], []
        for record in result.answer:
            data: Any = record.data
            if not hasattr(data, "priority") or not hasattr(data, "port"):  # a CNAME on the way
                continue
            host = _text(data.target).rstrip(".")
            records.append((int(data.priority), int(data.weight), SrvRecord(host, int(data.port))))
            ttls.append(record.ttl)
        if not records:
            raise _NoAnswer
        return _in_order(records[:MAX_ADDRESSES]), float(min(ttls))

    def _channel(self) -> aiodns.DNSResolver:
        if self._ares is None:
            import aiodns
            import pycares

            self._ares = aiodns.DNSResolver(
                nameservers=self._servers or None,
                timeout=_TIMEOUT,
                tries=_TRIES,
                flags=pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_EDNS,
            )
        return self._ares


def _translated(error: Exception, name: str) -> Exception:
    """What an error of c-ares means: that there is nothing, or that nobody answers."""
    import aiodns
    from aiodns.error import ARES_EBADNAME, ARES_ENODATA, ARES_ENONAME, ARES_ENOTFOUND, ARES_EREFUSED, ARES_ESERVFAIL

    if not isinstance(error, aiodns.error.DNSError):
        return Unreachable(f"{name} cannot be looked up: {error}")
    code = error.args[0] if error.args else None
    if code in (ARES_ENODATA, ARES_ENONAME, ARES_ENOTFOUND, ARES_EBADNAME):
        return _NoAnswer()
    answered = code in (ARES_ESERVFAIL, ARES_EREFUSED)
    return Unreachable(f"{name} cannot be looked up: {error.args[-1] if error.args else error}", local=not answered)


def _interleaved(addresses: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    """IPv6 and IPv4 by turns, without repetitions, so that a dead family costs one attempt."""
    by_family: dict[bool, list[str]] = {True: [], False: []}
    for family, address in dict.fromkeys(addresses):
        if family in (socket.AF_INET, socket.AF_INET6):
            by_family[family == socket.AF_INET6].append(address)
    first, second = by_family[True], by_family[False]
    mixed = [address for pair in zip(first, second, strict=False) for address in pair]
    shorter = min(len(first), len(second))
    return tuple([*mixed, *first[shorter:], *second[shorter:]][:MAX_ADDRESSES])


def _in_order(records: Sequence[tuple[int, int, SrvRecord]]) -> tuple[SrvRecord, ...]:
    """By priority; among equals at random, those with more weight more often first. (RFC 2782)"""
    keyed = [
        (priority, random.random() ** (1 / weight) if weight else -random.random(), record)
        for priority, weight, record in records
    ]
    return tuple(record for _, _, record in sorted(keyed, key=lambda entry: (entry[0], -entry[1])))


def _text(value: str | bytes) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value
