"""Getting the keys of servers: from themselves, or from servers that are trusted to tell.

spec: server-server-api#retrieving-server-keys
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from tinyserver.clock import Clock
from tinyserver.federation.client import FederationClient
from tinyserver.federation.key_store import FetchedKeys
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.outgoing.http_dates import http_date_ms
from tinyserver.protocol.server_keys import BadKeyDocument, parse_key_document
from tinyserver.protocol.signing import SignatureError, verify_json

log = logging.getLogger(__name__)

PATH = "/_matrix/key/v2/server"
QUERY_PATH = "/_matrix/key/v2/query"
TIMEOUT = 15.0
MAX_BYTES = 256 * 1024
MAX_NOTARY_BYTES = 4 * 1024 * 1024
SERVERS_PER_QUERY = 100
_MAX_CLOCK_ERROR_MS = 10 * 366 * 24 * 3600 * 1000

Wanted = Mapping[str, Mapping[str, int]]
"""What is wanted of whom: server name -> key ID -> until when (ms) the key must be valid."""


class KeyFetcher:
    """Asks for keys.

    Args:
        client: requests to other servers.
        clock: the time as this machine believes.
        notaries: servers that are trusted to tell the keys of others.
        keys_of_notary: the public keys (Base64, by ID) that a notary signs with.
    """

    def __init__(
        self,
        client: FederationClient,
        clock: Clock,
        notaries: Sequence[str],
        keys_of_notary: Callable[[str], Awaitable[Mapping[str, str]]],
    ) -> None:
        self._client = client
        self._clock = clock
        self._keys_of_notary = keys_of_notary
        self.notaries = tuple(notaries)

    async def from_server(self, server: str, *, ignore_backoff: bool = False) -> FetchedKeys | None:
        """What the server itself says, or None where it says nothing usable."""
        try:
            answer = await self._client.send(
                "GET",
                server,
                PATH,
                timeout=TIMEOUT,
                max_bytes=MAX_BYTES,
                ignore_backoff=ignore_backoff,
                signed=False,
            )
            keys = parse_key_document(answer.content, server)
        except (OutgoingError, BadKeyDocument) as error:
            log.debug("no keys from %s: %s", server, error)  # anybody can make us ask: not for the usual log
            return None
        return FetchedKeys(answer.content, keys, self._time(answer.headers), direct=True)

    async def from_notaries(self, wanted: Wanted) -> list[FetchedKeys]:
        """What the trusted servers tell, the first of them that knows a server; perhaps several lists of one."""
        found: list[FetchedKeys] = []
        missing = dict(wanted)
        for notary in self.notaries:
            servers = [server for server in missing if server != notary]
            for start in range(0, len(servers), SERVERS_PER_QUERY):
                asked = {server: missing[server] for server in servers[start : start + SERVERS_PER_QUERY]}
                found += await self._from_notary(notary, asked)
            for each in found:
                missing.pop(each.keys.server_name, None)
        return found

    async def _from_notary(self, notary: str, wanted: Wanted) -> list[FetchedKeys]:
        query = {
            server: {key_id: {"minimum_valid_until_ts": until} for key_id, until in keys.items()}
            for server, keys in wanted.items()
        }
        try:
            answer = await self._client.send(
                "POST",
                notary,
                QUERY_PATH,
                content={"server_keys": query},
                timeout=2 * TIMEOUT,
                max_bytes=MAX_NOTARY_BYTES,
                signed=False,
            )
        except OutgoingError as error:
            log.info("the key server %s does not help: %s", notary, error)
            return []
        documents = answer.content.get("server_keys") if isinstance(answer.content, dict) else None
        notary_keys = await self._keys_of_notary(notary)
        seen_at = self._time(answer.headers)
        found = []
        for document in documents[: 5 * SERVERS_PER_QUERY] if isinstance(documents, list) else ():
            server = document.get("server_name") if isinstance(document, dict) else None
            if not isinstance(server, str) or server not in wanted:
                continue
            try:
                _check_notary(document, notary, notary_keys)
                found.append(FetchedKeys(document, parse_key_document(document, server), seen_at, direct=False))
            except (SignatureError, BadKeyDocument) as error:
                log.info("the key server %s told wrong keys of %s: %s", notary, server, error)
        return found

    def _time(self, headers: Mapping[str, str]) -> int:
        """The time as well as it can be known at an answer, ms.

        A board without a clock would take the lists of all servers for lists from the far future, and their events
        too: where the other side's time is later than ours, it is believed.
        """
        now = self._clock.now_ms()
        told = http_date_ms(headers.get("date", ""))
        if told is None or told < now or (told > now + _MAX_CLOCK_ERROR_MS and now > _MAX_CLOCK_ERROR_MS):
            return now
        return told


def _check_notary(document: dict[str, Any], notary: str, keys: Mapping[str, str]) -> None:
    """Raise SignatureError unless the notary has signed the document with one of its keys, and with none wrongly."""
    signatures = document.get("signatures")
    by_notary = signatures.get(notary) if isinstance(signatures, dict) else None
    known = [key_id for key_id in by_notary if key_id in keys] if isinstance(by_notary, dict) else []
    if not known:
        raise SignatureError(f"no signature by {notary}")
    for key_id in known:
        verify_json(document, notary, key_id, keys[key_id])
