"""What administrators do with accounts: suspend and lock them.

spec: client-server-api#account-moderation
"""

from __future__ import annotations

from collections.abc import Callable

from tinyserver.accounts.authentication import TokenCache
from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import Forbidden, InvalidParam, NotFound
from tinyserver.protocol.identifiers import domain_of, is_valid_user_id
from tinyserver.storage import accounts
from tinyserver.storage.accounts import UserRow
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


class AccountAdministration:
    """Acts on the word of an administrator (`by`), who cannot act on another administrator or on themselves."""

    def __init__(self, db: Database, cache: TokenCache, server_name: str) -> None:
        self._db = db
        self._cache = cache
        self._server_name = server_name

    def state(self, user_id: str, by: Requester) -> UserRow:
        """An account that is in use.

        Raises:
            InvalidParam: no user ID of this server.
            NotFound: no such account, or it is closed.
            Forbidden: another administrator's.
        """
        self._check_local(user_id)
        return self._db.glance(lambda tx: _in_use(tx, user_id, by))

    async def set_suspended(self, user_id: str, suspended: bool, by: Requester) -> None:
        """Suspend an account, or lift that. Raises as :meth:`state`, and Forbidden for one's own account."""
        await self._change(user_id, by, lambda tx, user: accounts.set_suspended(tx, user, suspended))

    async def set_locked(self, user_id: str, locked: bool, by: Requester) -> None:
        """Lock an account, or unlock it; its sessions stay. Raises as :meth:`set_suspended`."""
        await self._change(user_id, by, lambda tx, user: accounts.set_locked(tx, user, locked))

    async def _change(self, user_id: str, by: Requester, change: Callable[[WriteTransaction, int], None]) -> None:
        self._check_local(user_id)

        def step(tx: WriteTransaction) -> None:
            if by.user_id == user_id:
                raise Forbidden("You cannot do this to your own account.")
            user = _in_use(tx, user_id, by).nid
            change(tx, user)
            tx.on_commit(lambda: self._cache.drop_user(user))

        await self._db.write(step)

    def _check_local(self, user_id: str) -> None:
        if not is_valid_user_id(user_id) or domain_of(user_id) != self._server_name:
            raise InvalidParam("This is no user of this server.")


def _in_use(tx: ReadTransaction, user_id: str, by: Requester) -> UserRow:
    account = accounts.find(tx, user_id)
    if account is None or account.is_deactivated:
        raise NotFound("There is no such account.")
    if account.is_admin and by.user_id != user_id:
        raise Forbidden("This user is an administrator, too.")
    return account
