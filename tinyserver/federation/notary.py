"""Telling others the keys of servers that we know, with our signature on what those servers signed.

spec: server-server-api#querying-keys-through-another-server
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tinyserver.clock import Clock
from tinyserver.federation.key_ring import KeyRing
from tinyserver.federation.key_store import KeyStore
from tinyserver.federation.signing_identity import SigningIdentity
from tinyserver.protocol import canonical_json
from tinyserver.protocol.errors import InvalidParam
from tinyserver.protocol.identifiers import is_valid_server_name
from tinyserver.storage.server_keys import KeyDocumentRow

MAX_SERVERS = 100
TIMEOUT = 20.0
ALL_KEYS = ""
"""In place of a key ID: how long all keys of the server should be valid."""


class Notary:
    """Answers what keys a server has.

    Args:
        identity: signs the answers.
        key_ring: asks the servers themselves.
        store: what they said last.
        clock: the time.
    """

    def __init__(self, identity: SigningIdentity, key_ring: KeyRing, store: KeyStore, clock: Clock) -> None:
        self._identity = identity
        self._key_ring = key_ring
        self._store = store
        self._clock = clock

    async def query(self, wanted: Mapping[str, Mapping[str, int | None]]) -> list[dict[str, Any]]:
        """The signed lists of keys of servers, without those that nobody knows.

        Args:
            wanted: server name -> key ID -> until when (ms) the list should be valid (None: until now). Without key
                IDs, all keys of the server.

        Raises:
            InvalidParam: too many servers.
        """
        if len(wanted) > MAX_SERVERS:
            raise InvalidParam(f"At most {MAX_SERVERS} servers can be asked about at once.")
        found = await asyncio.gather(*(self._of_server(server, keys) for server, keys in wanted.items()))
        return [document for document in found if document is not None]

    async def _of_server(self, server: str, keys: Mapping[str, int | None]) -> dict[str, Any] | None:
        if server == self._identity.server_name:
            return self._identity.document()
        if not is_valid_server_name(server):
            return None
        now = self._clock.now_ms()
        until = max((now if at is None else at for at in keys.values()), default=now)
        row = self._store.document_of(server)
        document = _parsed(row)
        if row is None or document is None or not self._is_good(row, document, keys, until, now):
            try:
                async with asyncio.timeout(TIMEOUT):
                    fetched = await self._key_ring.refresh(server)
            except TimeoutError:
                fetched = None
            if fetched is not None:
                document = dict(fetched.document)
        return None if document is None else self._identity.sign(document)

    @staticmethod
    def _is_good(
        row: KeyDocumentRow, document: Mapping[str, Any], keys: Mapping[str, int | None], until: int, now: int
    ) -> bool:
        """Whether what is kept can be told: valid for long enough, in the first half of its life, with those keys."""
        if row.valid_until < until or now > row.fetched + (row.valid_until - row.fetched) // 2:
            return False
        listed = {**document.get("verify_keys", {}), **(document.get("old_verify_keys") or {})}
        return all(key_id in listed for key_id in keys if key_id != ALL_KEYS)


def _parsed(row: KeyDocumentRow | None) -> dict[str, Any] | None:
    if row is None or not row.document:
        return None
    document: dict[str, Any] = canonical_json.loads(row.document)
    return document
