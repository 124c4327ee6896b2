"""The server's own account. It exists from the first time that it is needed, has no password and no devices, and acts
from inside only: no rate limit and no login concerns it."""

from __future__ import annotations

import json

from tinyserver.clock import Clock
from tinyserver.protocol.errors import Forbidden, UserInUse
from tinyserver.storage import accounts, own_account, profiles
from tinyserver.storage.own_account import OwnAccountRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


class OwnAccount:
    """The account.

    Args:
        clock: for when it was made.
        name: what stands before the colon.
        server_name: this server.

    Attributes:
        user_id: its user ID, whether it exists yet or not.
    """

    def __init__(self, clock: Clock, name: str, server_name: str) -> None:
        self._clock = clock
        self._server_name = server_name
        self.user_id = f"@{name}:{server_name}"

    def is_reserved(self, user_id: str) -> bool:
        """Whether nobody else may register this user ID."""
        return user_id == self.user_id

    def check_not_own(self, user_id: str) -> None:
        """Raises Forbidden for the account itself: nobody changes it."""
        if user_id == self.user_id:
            raise Forbidden("This is the server's own account.")

    def find(self, tx: ReadTransaction) -> OwnAccountRow | None:
        """The account with its room, or None where it has not been needed yet."""
        row = own_account.get(tx)
        account = accounts.find(tx, self.user_id)
        return row if row is not None and account is not None and account.nid == row.account else None

    def ensure(self, tx: WriteTransaction) -> OwnAccountRow:
        """The account with its room, made now where it has not been needed yet.

        Raises:
            UserInUse: somebody has an account with this name already.
        """
        row = self.find(tx)
        if row is not None:
            return row
        account = accounts.find(tx, self.user_id)
        if account is not None and (account.password or account.is_admin or account.is_guest or account.is_deactivated):
            raise UserInUse(
                f"{self.user_id} is somebody's account: choose another administration.account in the configuration."
            )
        nid = accounts.add(tx, self.user_id, None, self._clock.now_ms()) if account is None else account.nid
        profiles.put(tx, nid, json.dumps({"displayname": self._server_name}), "displayname", untold=False)
        own_account.set_account(tx, nid)
        return OwnAccountRow(nid, None, 0, None, 0)
