"""Signatures of other servers, checked with the right keys.

A key may be used for an event if it was in use at the event's time, in the room versions that want that. What is not
known is asked for once, for all who need it, and not too often. This machine's clock has no say in it: times of events
are compared with what the server says about its keys.

spec: server-server-api#retrieving-server-keys, rooms/v5#signing-key-validity-period
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from tinyserver.clock import Clock
from tinyserver.federation.client import FederationClient
from tinyserver.federation.key_fetching import KeyFetcher
from tinyserver.federation.key_store import FetchedKeys, KeyStore
from tinyserver.federation.signing_identity import SigningIdentity
from tinyserver.protocol import base64
from tinyserver.protocol.errors import bare
from tinyserver.protocol.event_hashes import required_signers, verify_event_signature
from tinyserver.protocol.identifiers import InvalidIdentifier, is_valid_server_key_id
from tinyserver.protocol.request_auth import XMatrix, signed_object
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.protocol.signing import SignatureError, signed_bytes, verify_bytes, verify_json
from tinyserver.storage.server_keys import ServerKeyRow

FETCHES_AT_ONCE = 20
"""How many servers are asked at a time for those who make requests, and as many for those who are named in events:
anybody can name servers there that never answer."""
MANY_SERVERS = 10
"""From this many unknown servers on, trusted key servers are asked first: one question instead of hundreds."""
REASK_SECONDS = 30.0
"""A server is not asked for its keys again within this time, whatever is signed with."""
FRESH_SECONDS = 3600.0
"""A list that came from the server itself within this time is in force, even if by our clock it has run out."""
MAX_REMEMBERED = 5000
ON_LOOP = 8
"""More signatures than this are checked on a thread: each takes 50 to 100 us."""
PER_STEP = 100
"""So many events are prepared and checked together."""
_MAX_SIGNATURES = 50  # of one server on one object

Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Need:
    """What has to be known of a server: one of these keys, in use at a time (ms; None: at any time), or in use now."""

    key_ids: frozenset[str]
    at: int | None = None
    now: bool = False


Needs = Mapping[str, Set[Need]]
"""By server name."""


class KeyRing:
    """Checks signatures; the pipeline's `Signatures`.

    Args:
        identity: this server, whose own keys need no fetching.
        store: what is known already.
        client: requests to other servers.
        clock: the time as this machine believes.
        notaries: servers that are trusted to tell the keys of others.
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(
        self,
        identity: SigningIdentity,
        store: KeyStore,
        client: FederationClient,
        clock: Clock,
        notaries: Sequence[str],
        monotonic: Callable[[], float],
    ) -> None:
        self._identity = identity
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._fetcher = KeyFetcher(client, clock, notaries, self._keys_of_notary)
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._turns_of_callers = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._fresh: OrderedDict[str, float] = OrderedDict()

    # -- events ----------------------------------------------------------------------------------

    async def check(self, pdu: Mapping[str, Any], version: RoomVersion) -> None:
        """Check an event that has been parsed.

        Raises:
            SignatureError: a server whose signature it needs has not signed it, or its keys cannot be had.

        spec: server-server-api#validating-hashes-and-signatures-on-received-events
        """
        (error,) = await self.check_many([pdu], version)
        if error is not None:
            raise error

    async def check_many(self, pdus: Sequence[Mapping[str, Any]], version: RoomVersion) -> list[SignatureError | None]:
        """Check many parsed events together: what is wrong with each, or None. Keys are asked for once for all."""
        signers: list[set[str]] = []
        latest: dict[tuple[str, frozenset[str]], int | None] = {}
        for number, pdu in enumerate(pdus):
            if number % PER_STEP == PER_STEP - 1:
                await asyncio.sleep(0)  # others have their turn between the steps
            signers.append(_signers(pdu, version))
            for server in signers[-1]:
                key = (server, frozenset(_signed_with(pdu, server)))
                at = max(_timestamp(pdu), latest.get(key) or 0) if version.enforce_key_validity else None
                latest[key] = at  # a key that is good for the latest event is good for those before
        needs: dict[str, set[Need]] = {}
        for (server, key_ids), at in latest.items():
            needs.setdefault(server, set()).add(Need(key_ids, at))
        await self._obtain(needs)
        outcomes: list[SignatureError | None] = []
        for start in range(0, len(pdus), PER_STEP):
            step = zip(pdus[start : start + PER_STEP], signers[start : start + PER_STEP], strict=True)
            outcomes += await _run([self._checks(pdu, version, servers) for pdu, servers in step])
        return outcomes

    def _checks(
        self, pdu: Mapping[str, Any], version: RoomVersion, servers: Iterable[str]
    ) -> list[Check] | SignatureError:
        try:
            return [check for server in servers for check in self._event_checks(pdu, version, server)]
        except SignatureError as error:
            return bare(error)

    def _event_checks(self, pdu: Mapping[str, Any], version: RoomVersion, server: str) -> list[Check]:
        """The signatures of a server that must be right. Raises SignatureError if there is none to look at."""
        need = Need(frozenset(_signed_with(pdu, server)), _timestamp(pdu) if version.enforce_key_validity else None)
        usable = self._usable(server, need)
        if not usable:
            raise SignatureError(self._why_not(server, need))

        def checker(key_id: str, public_key: str) -> Check:
            return lambda: verify_event_signature(pdu, version, server, key_id, public_key)

        return [checker(key_id, public_key) for key_id, public_key in usable.items()]

    # -- requests and other objects --------------------------------------------------------------

    async def check_request(self, claim: XMatrix, method: str, uri: str, content: Any, *, large: bool = False) -> None:
        """Check that a request comes from the server that its header names.

        Args:
            uri: the target as it came, with the query.
            content: the parsed body; None without a body.
            large: the body is so large that it should not be encoded on the event loop.

        Raises:
            SignatureError: it does not, or the server's keys cannot be had.

        spec: server-server-api#request-authentication
        """
        need = Need(frozenset((claim.key_id,)), now=True)
        await self._obtain({claim.origin: {need}})
        public_key = self._usable(claim.origin, need).get(claim.key_id)
        if public_key is None:
            raise SignatureError(self._why_not(claim.origin, need))
        signed = signed_object(method, uri, claim.origin, self._identity.server_name, content)
        try:
            message = await asyncio.to_thread(signed_bytes, signed) if large else signed_bytes(signed)
            signature = base64.decode(claim.signature)
        except ValueError as error:
            raise SignatureError("the request or its signature is malformed") from error
        verify_bytes(message, signature, public_key)

    def knows(self, server: str, key_id: str) -> bool:
        """Whether a request signed so can be checked without asking anybody."""
        return bool(self._usable(server, Need(frozenset((key_id,)), now=True)))

    async def check_json(self, obj: Mapping[str, Any], server: str) -> None:
        """Check that a server has signed a JSON object, with a key of whatever time.

        Raises:
            SignatureError: it has not, or its keys cannot be had.
        """
        need = Need(frozenset(_signed_with(obj, server)))
        await self._obtain({server: {need}})
        usable = self._usable(server, need)
        if not usable:
            raise SignatureError(self._why_not(server, need))
        for key_id, public_key in usable.items():
            verify_json(obj, server, key_id, public_key)

    async def close(self) -> None:
        """Give up what is being fetched."""
        for task in list(self._fetching.values()):
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)

    # -- which keys ------------------------------------------------------------------------------

    def _usable(self, server: str, need: Need) -> dict[str, str]:
        """The needed keys that may be used, in Base64 by ID."""
        if server == self._identity.server_name:
            own = self._identity.keys()
            return {
                key_id: own[key_id].public_key
                for key_id in need.key_ids & own.keys()
                if _in_time(need, own[key_id].expired_ts)
            }
        known = self._store.keys_of(server)
        return {
            key_id: base64.encode(known[key_id].public_key)
            for key_id in need.key_ids & known.keys()
            if self._may_use(server, known[key_id], need)
        }

    def _may_use(self, server: str, key: ServerKeyRow, need: Need) -> bool:
        if need.at is not None and need.at > key.valid_until:
            return False
        if not need.now:
            return True
        if key.expired is not None:
            return False
        fresh_since = self._fresh.get(server)
        fresh = fresh_since is not None and self._monotonic() < fresh_since + FRESH_SECONDS
        return fresh or key.valid_until >= self._clock.now_ms()

    def _why_not(self, server: str, need: Need) -> str:
        if not need.key_ids:
            return f"not signed by {server}"
        if server != self._identity.server_name and not self._store.keys_of(server):
            return f"the keys of {server} cannot be had"
        return f"signed by {server} only with keys that it does not have, or had at another time"

    # -- getting them ----------------------------------------------------------------------------

    async def _obtain(self, needs: Needs) -> None:
        """Have what is needed, as far as it can be had."""
        missing = self._missing(needs)
        if not missing:
            return
        if len(missing) >= MANY_SERVERS and self._fetcher.notaries:
            await self._ask_notaries(missing)
            missing = self._missing(missing)
        tasks = [self._fetch(server, wanted) for server, wanted in missing.items()]
        if tasks:
            await asyncio.wait(tasks)
            for task in tasks:
                task.result()

    def _missing(self, needs: Needs) -> dict[str, set[Need]]:
        """The needs that what is known does not satisfy, of servers that can be asked."""
        missing = {}
        for server, wanted in needs.items():
            if server == self._identity.server_name:
                continue
            unsatisfied = {need for need in wanted if need.key_ids and not self._usable(server, need)}
            if unsatisfied:
                missing[server] = unsatisfied
        return missing

    def _fetch(self, server: str, wanted: Set[Need]) -> asyncio.Task[None]:
        task = self._fetching.get(server)
        if task is None:
            task = self._fetching[server] = asyncio.ensure_future(self._fetch_one(server, wanted))
            task.add_done_callback(lambda _: self._fetching.pop(server, None))
        return task

    async def _fetch_one(self, server: str, wanted: Set[Need]) -> None:
        if self._asked_lately(server):
            return
        # Who signs a request is there, even if it could not be reached lately.
        await self._ask_server(server, is_calling=any(need.now for need in wanted))
        missing = self._missing({server: wanted})
        if missing and self._fetcher.notaries:
            await self._ask_notaries(missing)

    async def _ask_server(self, server: str, *, is_calling: bool = False) -> FetchedKeys | None:
        async with self._turns_of_callers if is_calling else self._turns:
            fetched = await self._fetcher.from_server(server, ignore_backoff=is_calling)
            _put(self._asked, server, self._monotonic())
            if fetched is not None:
                _put(self._fresh, server, self._monotonic())
                await self._store.add([fetched])
        return fetched

    def _asked_lately(self, server: str) -> bool:
        asked_at = self._asked.get(server)
        return asked_at is not None and self._monotonic() < asked_at + REASK_SECONDS

    async def _ask_notaries(self, needs: Needs) -> None:
        now = self._clock.now_ms()
        wanted: dict[str, dict[str, int]] = {}
        for server, of_server in needs.items():
            until = wanted.setdefault(server, {})
            for need in of_server:
                at = now if need.at is None else need.at
                for key_id in need.key_ids:
                    until[key_id] = max(at, until.get(key_id, 0))
        fetched = await self._fetcher.from_notaries(wanted)
        if fetched:
            await self._store.add(fetched)

    async def refresh(self, server: str) -> FetchedKeys | None:
        """The list of keys as the server gives it now, taken into the store; None where it gives none.

        At most once in `REASK_SECONDS` for each server: for those who ask this server about others.
        """
        return None if self._asked_lately(server) else await self._ask_server(server)

    async def _keys_of_notary(self, notary: str) -> Mapping[str, str]:
        known = self._store.keys_of(notary)
        if not any(self._may_use(notary, key, Need(frozenset(), now=True)) for key in known.values()):
            await self.refresh(notary)
            known = self._store.keys_of(notary)
        return {key_id: base64.encode(key.public_key) for key_id, key in known.items() if key.expired is None}


def _signers(pdu: Mapping[str, Any], version: RoomVersion) -> set[str]:
    try:
        return required_signers(pdu, version)
    except InvalidIdentifier:
        # No server can be named: the empty name has no keys.
        return {""}


def _signed_with(obj: Mapping[str, Any], server: str) -> list[str]:
    """The IDs of the keys with which a server has signed an object."""
    signatures = obj.get("signatures")
    of_server = signatures.get(server) if isinstance(signatures, dict) else None
    if not isinstance(of_server, dict):
        return []
    return [key_id for key_id in of_server if is_valid_server_key_id(key_id)][:_MAX_SIGNATURES]


def _timestamp(pdu: Mapping[str, Any]) -> int:
    return int(pdu["origin_server_ts"])


def _in_time(need: Need, expired: int | None) -> bool:
    return expired is None or (not need.now and (need.at is None or need.at <= expired))


def _put(times: OrderedDict[str, float], server: str, when: float) -> None:
    times[server] = when
    times.move_to_end(server)
    if len(times) > MAX_REMEMBERED:
        times.popitem(last=False)


async def _run(checks: Sequence[list[Check] | SignatureError]) -> list[SignatureError | None]:
    """Do the checks of each event: on the spot where they are few, on a thread where they are many."""
    if sum(len(each) for each in checks if isinstance(each, list)) <= ON_LOOP:
        return _outcomes(checks)
    return await asyncio.to_thread(_outcomes, checks)


def _outcomes(checks: Iterable[list[Check] | SignatureError]) -> list[SignatureError | None]:
    return [each if isinstance(each, SignatureError) else _first_error(each) for each in checks]


def _first_error(checks: Iterable[Check]) -> SignatureError | None:
    try:
        for check in checks:
            check()
    except SignatureError as error:
        return bare(error)
    return None
