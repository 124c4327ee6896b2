"""Filters that clients upload once and then name by ID.

spec: client-server-api#filtering
"""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import Forbidden, NotFound, TooLarge
from tinyserver.protocol.filters import parse_filter
from tinyserver.storage import filters
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import WriteTransaction

MAX_FILTERS = 1000
MAX_FILTER_BYTES = 64 * 1024


class Filters:
    """Stores filters of users; the same one is stored once."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, requester: Requester, user_id: str, definition: dict[str, Any]) -> str:
        """Store a filter; returns its ID.

        Raises:
            Forbidden: for another user.
            BadJson: not a filter.
            TooLarge: too long, or the user has too many.
        """
        _check_owner(requester, user_id)
        parse_filter(definition)
        content = msgspec.json.encode(definition, order="deterministic")
        if len(content) > MAX_FILTER_BYTES:
            raise TooLarge(f"A filter can have {MAX_FILTER_BYTES} bytes.")

        def step(tx: WriteTransaction) -> int:
            if filters.count(tx, requester.user_nid) >= MAX_FILTERS:
                raise TooLarge(f"A user can have {MAX_FILTERS} filters.")
            return filters.add(tx, requester.user_nid, content)

        known = await self._db.read(lambda tx: filters.find(tx, requester.user_nid, content))
        return str(known if known is not None else await self._db.write(step))

    async def get(self, requester: Requester, user_id: str, filter_id: str) -> bytes:
        """The definition of a filter: a JSON object in UTF-8.

        Raises:
            Forbidden: another user's.
            NotFound: no such filter.
        """
        _check_owner(requester, user_id)
        content = None
        if filter_id.isascii() and filter_id.isdecimal() and len(filter_id) < 10:
            number = int(filter_id)
            content = self._db.glance(lambda tx: filters.get(tx, requester.user_nid, number))
        if content is None:
            raise NotFound("There is no filter with this ID.")
        return content


def _check_owner(requester: Requester, user_id: str) -> None:
    if requester.user_id != user_id:
        raise Forbidden("These are the filters of another user.")
