"""Commands about the mail addresses of accounts."""

from __future__ import annotations

from tinyserver.accounts.administration import AccountAdministration
from tinyserver.administration.commands import Argument, Caller, Column, Reply, Unit, command
from tinyserver.threepids.contacts import Contacts

_USER = Argument("user", 'whose: "alice", or the whole "@alice:example.org"')
_ADDRESS = Argument("address", "the mail address")


class EmailCommands:
    """Mail addresses: with one, an account can get another password by mail.

    Args:
        accounts: says whose account may be changed.
        contacts: has the addresses.
        server_name: this server.
    """

    def __init__(self, accounts: AccountAdministration, contacts: Contacts, server_name: str) -> None:
        self._accounts = accounts
        self._contacts = contacts
        self._server_name = server_name

    @command("email list", "show the mail addresses of an account", _USER)
    async def list_emails(self, caller: Caller, user: str) -> Reply:
        """All addresses of an account."""
        found = self._contacts.all_of(self._user(caller, user))
        rows = tuple((each["address"], each["added_at"]) for each in found)
        return Reply("" if rows else "There are none.", (Column("address"), Column("added", Unit.TIME)), rows)

    @command("email add", "give an account a mail address; nobody is asked whether it is right", _USER, _ADDRESS)
    async def add(self, caller: Caller, user: str, address: str) -> Reply:
        """Give an account an address."""
        canonical = await self._contacts.put_trusted(self._user(caller, user), address)
        return Reply(f"{canonical} belongs to {self._user_id(user)}")

    @command("email remove", "take a mail address from an account", _USER, _ADDRESS)
    async def remove(self, caller: Caller, user: str, address: str) -> Reply:
        """Take an address from an account."""
        if not await self._contacts.remove(self._user(caller, user), "email", address):
            return Reply(f"{self._user_id(user)} has no such mail address")
        return Reply(f"{address} belongs to {self._user_id(user)} no more")

    def _user(self, caller: Caller, given: str) -> int:
        # Whoever sets the address of another administrator could have their password sent there.
        return self._accounts.state(self._user_id(given), caller.requester).nid

    def _user_id(self, given: str) -> str:
        return given if given.startswith("@") else f"@{given.lower()}:{self._server_name}"
