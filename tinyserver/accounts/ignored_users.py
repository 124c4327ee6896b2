"""Whom a user ignores.

spec: client-server-api#ignoring-users
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from tinyserver.storage import account_data, names
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.transaction import ReadTransaction

IGNORED_USER_LIST = "m.ignored_user_list"

_NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _Known:
    content: bytes
    users: frozenset[int]


class IgnoredUsers:
    """The lists of all local users, as sets, those used lately kept in memory.

    Args:
        budget: bytes for what is kept.
    """

    def __init__(self, budget: int = 256 * 1024) -> None:
        self._known: BoundedCache[int, _Known] = BoundedCache(
            budget, lambda known: 200 + len(known.content) + 60 * len(known.users)
        )

    def of_user(self, tx: ReadTransaction, user: int) -> frozenset[int]:
        """The nids of the users whom a user ignores, never themselves. Who was never heard of here is left out."""
        content = account_data.get(tx, user, None, IGNORED_USER_LIST)
        if content is None:
            return _NOBODY
        known = self._known.get(user)
        if known is not None and known.content == content:
            return known.users
        user_ids = ignored_user_ids(content)
        found = {names.find(tx, user_id) for user_id in user_ids}
        users = frozenset(nid for nid in found if nid is not None and nid != user)
        if None not in found:  # one who is not known yet may become so
            self._known.put(user, _Known(content, users))
        return users


def ignored_user_ids(content: bytes) -> list[str]:
    """The user IDs in the content (a JSON object) of `m.ignored_user_list`, whatever a client has put there."""
    value = msgspec.json.decode(content)
    ignored = value.get("ignored_users") if isinstance(value, dict) else None
    return list(ignored) if isinstance(ignored, dict) else []
