"""What the rest of the server may ask about local accounts."""

from __future__ import annotations

from tinyserver.storage import accounts
from tinyserver.storage.accounts import UserRow
from tinyserver.storage.database import Database


class AccountsDirectory:
    """Looks accounts up by user ID; each question costs one indexed look-up on the event loop."""

    def __init__(self, db: Database, server_name: str) -> None:
        self._db = db
        self._suffix = f":{server_name}"

    def is_local(self, user_id: str) -> bool:
        """Whether the user ID belongs to this server, whether or not there is such an account."""
        return user_id.endswith(self._suffix) and user_id.find(":") == len(user_id) - len(self._suffix)

    def get(self, user_id: str) -> UserRow | None:
        """The account, deactivated ones included, or None."""
        return self._db.glance(lambda tx: accounts.find(tx, user_id)) if self.is_local(user_id) else None

    def exists(self, user_id: str) -> bool:
        """Whether there is an account with this user ID that can be used."""
        account = self.get(user_id)
        return account is not None and not account.is_deactivated

    def is_deactivated(self, user_id: str) -> bool:
        """Whether there was an account that is closed now."""
        account = self.get(user_id)
        return account is not None and account.is_deactivated

    def is_guest(self, user_id: str) -> bool:
        """Whether it is a guest's account."""
        account = self.get(user_id)
        return account is not None and account.is_guest

    def is_admin(self, user_id: str) -> bool:
        """Whether the account administers this server."""
        account = self.get(user_id)
        return account is not None and account.is_admin
