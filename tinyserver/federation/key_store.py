"""What is known of the keys of other servers: in the database, and in memory for the servers of the hour."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinyserver.protocol import base64, canonical_json
from tinyserver.protocol.server_keys import MAX_VALIDITY_MS, ServerKeys
from tinyserver.storage import server_keys
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.server_keys import KeyDocumentRow, ServerKeyRow
from tinyserver.storage.transaction import WriteTransaction

log = logging.getLogger(__name__)

MAX_IN_MEMORY = 500
"""Servers."""
MAX_STORED = 20_000
"""Servers. Keys of more can be asked for again when they are needed."""
MAX_DOCUMENT = 16 * 1024
"""Bytes of a list of keys that is kept for others; a longer one is used, but not kept."""
_TRIM_EVERY = 200

Keys = Mapping[str, ServerKeyRow]


@dataclass(frozen=True, slots=True)
class FetchedKeys:
    """A list of keys that has just come.

    `seen_at` is the time as well as it is known (ms); `direct` whether the server itself gave it.
    """

    document: Mapping[str, Any]
    keys: ServerKeys
    seen_at: int
    direct: bool


class KeyStore:
    """Remembers keys.

    Args:
        db: where they are kept.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._memory: OrderedDict[str, Keys] = OrderedDict()
        self._stored = 0

    def keys_of(self, server: str) -> Keys:
        """The keys of a server by ID, as far as they are known."""
        known = self._memory.get(server)
        if known is None:
            rows = self._db.glance(lambda tx: server_keys.of_server(tx, server))
            known = {row.key_id: row for row in rows}
            if known:
                self._remember(server, known)
        else:
            self._memory.move_to_end(server)
        return known

    def document_of(self, server: str) -> KeyDocumentRow | None:
        """The last list that the server signed, or None."""
        return self._db.glance(lambda tx: server_keys.document(tx, server))

    async def add(self, fetched: Sequence[FetchedKeys]) -> None:
        """Take in what was fetched: it can be used at once, and is stored when this returns."""
        changed: dict[str, Keys] = {}
        for each in fetched:
            server = each.keys.server_name
            changed[server] = merged(self.keys_of(server), each)
            self._remember(server, changed[server])
        documents = {each.keys.server_name: row for each in fetched if (row := self._document_row(each)) is not None}
        self._stored += len(changed)
        trim = self._stored >= _TRIM_EVERY
        if trim:
            self._stored = 0

        def step(tx: WriteTransaction) -> None:
            for server, keys in changed.items():
                server_keys.put(tx, server, keys.values())
            for server, row in documents.items():
                server_keys.put_document(tx, server, row)
            if trim:
                server_keys.forget_oldest(tx, MAX_STORED)

        try:
            await self._db.write(step)
        except StorageError as error:  # they can still be used, and fetched again after a restart
            log.warning("keys of other servers could not be stored: %s", error)

    def _document_row(self, fetched: FetchedKeys) -> KeyDocumentRow | None:
        """How the list is kept; an empty one where it is too long, which then only marks the age of the keys."""
        known = self.document_of(fetched.keys.server_name)
        if known is not None and known.valid_until > fetched.keys.valid_until_ts and not fetched.direct:
            return None
        text = canonical_json.encode_lenient(fetched.document).decode()
        kept = text if len(text) <= MAX_DOCUMENT else ""
        return KeyDocumentRow(kept, fetched.keys.valid_until_ts, fetched.seen_at)

    def _remember(self, server: str, keys: Keys) -> None:
        self._memory[server] = keys
        self._memory.move_to_end(server)
        if len(self._memory) > MAX_IN_MEMORY:
            self._memory.popitem(last=False)


def merged(known: Keys, fetched: FetchedKeys) -> Keys:
    """The keys of a server after a new list.

    One of the list's present keys may sign events up to the end of the list's validity, at most for seven days more;
    an old key up to its end. A key that the server itself no longer lists has ended. What a notary tells may be an
    older list: it adds and prolongs, but ends nothing.
    """
    result = dict(known)
    valid_until = min(fetched.keys.valid_until_ts, fetched.seen_at + MAX_VALIDITY_MS)
    for key_id, key in fetched.keys.keys.items():
        before = known.get(key_id)
        public_key = base64.decode(key.public_key)
        if before is not None and not fetched.direct:
            if before.public_key != public_key or before.expired is not None or key.expired_ts is not None:
                continue
            valid_until_of_key = max(valid_until, before.valid_until)
        else:
            valid_until_of_key = valid_until if key.expired_ts is None else key.expired_ts
        result[key_id] = ServerKeyRow(key_id, public_key, valid_until_of_key, key.expired_ts, fetched.seen_at)
    if fetched.direct:
        for key_id, row in known.items():
            if key_id not in fetched.keys.keys and row.expired is None:
                result[key_id] = replace(
                    row, expired=fetched.seen_at, valid_until=min(row.valid_until, fetched.seen_at)
                )
    return result
