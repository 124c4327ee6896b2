"""Commands about accounts."""

from __future__ import annotations

from tinyserver.accounts.administration import AccountAdministration
from tinyserver.accounts.registration import Registration
from tinyserver.accounts.tokens import new_registration_token
from tinyserver.administration.commands import (
    LIMIT,
    Argument,
    Caller,
    Column,
    Kind,
    Reply,
    Unit,
    command,
    flag,
    option,
    page_size,
)
from tinyserver.administration.rendering import listed, moment, size
from tinyserver.storage.accounts import UserRow

_USER = Argument("user", 'whose: "alice", or the whole "@alice:example.org"')
_PASSWORD = option("password", "the password", Kind.PASSWORD)


class UserCommands:
    """Accounts: making, showing, changing and closing them.

    Args:
        accounts: does it.
        registration: makes accounts.
        server_name: this server.
    """

    def __init__(self, accounts: AccountAdministration, registration: Registration, server_name: str) -> None:
        self._accounts = accounts
        self._registration = registration
        self._server_name = server_name

    @command(
        "user create",
        "make an account",
        Argument("name", '"alice", or the whole "@alice:example.org"'),
        flag("admin", "the account administers the server"),
        _PASSWORD,
    )
    async def create(self, caller: Caller, name: str, admin: bool = False, password: str | None = None) -> Reply:
        """Make an account; without a password it gets a random one."""
        localpart = name.removeprefix("@").removesuffix(f":{self._server_name}")
        chosen = password if password is not None else new_registration_token()
        made = await self._registration.register_trusted(localpart, chosen, None, admin=admin)
        told = f"Created {made.user_id}{' (administrator)' if admin else ''}"
        return Reply(told if password is not None else f"{told}\n{_random_password(chosen)}")

    @command(
        "user list",
        "show the accounts of people",
        flag("all", "also those of guests and of application services"),
        flag("admins", "administrators only"),
        option("after", "go on behind this user"),
        LIMIT,
    )
    async def list_users(
        self,
        caller: Caller,
        all: bool = False,
        admins: bool = False,
        after: str | None = None,
        limit: float | None = None,
    ) -> Reply:
        """A page of accounts, the oldest names first."""
        count = page_size(limit)
        start = None if after is None else self._user_id(after)
        rows = await self._accounts.page(start, count + 1, everybody=all, admins_only=admins)
        shown = rows[:count]
        more = ""
        if len(rows) > count:
            flags = f"{' --all' if all else ''}{' --admins' if admins else ''}"
            more = f"user list{flags} --after {shown[-1][0]} --limit {count}"
        return Reply(
            "" if shown else "There are none.",
            (Column("user"), Column("made", Unit.TIME), Column("is")),
            tuple((user_id, row.created, _kinds(row)) for user_id, row in shown),
            more,
        )

    @command("user show", "show what is known of an account", _USER)
    async def show(self, caller: Caller, user: str) -> Reply:
        """All about an account."""
        seen = await self._accounts.describe(self._user_id(user))
        account = seen.account
        facts = {
            "user": seen.user_id,
            "name": seen.display_name,
            "is": _kinds(account) or "an ordinary account",
            "made": moment(account.created),
            "last seen": None if seen.last_seen is None else moment(seen.last_seen),
            "devices": seen.devices,
            "rooms": seen.rooms,
            "uploads": size(seen.uploaded),
            "password": "yes" if account.password else "none",
        }
        return Reply(listed(facts))

    @command("user reset-password", "give an account another password; all of its sessions end", _USER, _PASSWORD)
    async def reset_password(self, caller: Caller, user: str, password: str | None = None) -> Reply:
        """Replace a password; without one a random one is made."""
        user_id = self._user_id(user)
        chosen = password if password is not None else new_registration_token()
        await self._accounts.reset_password(user_id, chosen, caller.requester)
        told = f"{user_id} has another password, and is signed out everywhere"
        return Reply(told if password is not None else f"{told}\n{_random_password(chosen)}")

    @command(
        "user deactivate",
        "close an account for ever",
        _USER,
        flag("erase", "also forget its profile and settings, and hide its old messages from newcomers"),
        is_dangerous=True,
    )
    async def deactivate(self, caller: Caller, user: str, erase: bool = False) -> Reply:
        """Close an account; it leaves all of its rooms."""
        user_id = self._user_id(user)
        await self._accounts.close(user_id, caller.requester, erase=erase)
        return Reply(f"{user_id} is closed and has left all rooms")

    @command("user suspend", "let an account read, but hardly do anything", _USER)
    async def suspend(self, caller: Caller, user: str) -> Reply:
        """Suspend an account."""
        return await self._suspend(caller, user, suspended=True)

    @command("user unsuspend", "let a suspended account do everything again", _USER)
    async def unsuspend(self, caller: Caller, user: str) -> Reply:
        """Lift a suspension."""
        return await self._suspend(caller, user, suspended=False)

    async def _suspend(self, caller: Caller, user: str, *, suspended: bool) -> Reply:
        user_id = self._user_id(user)
        await self._accounts.set_suspended(user_id, suspended, caller.requester)
        return Reply(f"{user_id} is {'suspended' if suspended else 'not suspended any more'}")

    @command("user lock", "shut an account out; its sessions stay for later", _USER)
    async def lock(self, caller: Caller, user: str) -> Reply:
        """Lock an account."""
        return await self._lock(caller, user, locked=True)

    @command("user unlock", "let a locked account in again", _USER)
    async def unlock(self, caller: Caller, user: str) -> Reply:
        """Unlock an account."""
        return await self._lock(caller, user, locked=False)

    async def _lock(self, caller: Caller, user: str, *, locked: bool) -> Reply:
        user_id = self._user_id(user)
        await self._accounts.set_locked(user_id, locked, caller.requester)
        return Reply(f"{user_id} is {'locked' if locked else 'not locked any more'}")

    @command("user promote", "make an account an administrator's", _USER, is_dangerous=True)
    async def promote(self, caller: Caller, user: str) -> Reply:
        """Make an administrator."""
        user_id = self._user_id(user)
        await self._accounts.set_admin(user_id, True, caller.requester)
        return Reply(f"{user_id} is an administrator")

    @command("user demote", "take the rights of an administrator from an account", _USER, is_dangerous=True)
    async def demote(self, caller: Caller, user: str) -> Reply:
        """End the rights of an administrator."""
        user_id = self._user_id(user)
        await self._accounts.set_admin(user_id, False, caller.requester)
        return Reply(f"{user_id} is no administrator")

    @command("user devices", "show where an account is signed in", _USER)
    async def devices(self, caller: Caller, user: str) -> Reply:
        """The devices of an account."""
        rows = await self._accounts.devices(self._user_id(user))
        return Reply(
            "" if rows else "There are none.",
            (Column("device"), Column("name"), Column("last seen", Unit.TIME), Column("address")),
            tuple(
                (row.device_id, row.display_name, None if seen is None else seen.ts, None if seen is None else seen.ip)
                for row, seen in rows
            ),
        )

    @command("user logout", "sign an account out", _USER, option("device", "of this device only; otherwise everywhere"))
    async def logout(self, caller: Caller, user: str, device: str | None = None) -> Reply:
        """End sessions."""
        user_id = self._user_id(user)
        count = await self._accounts.log_out(user_id, device, caller.requester)
        return Reply(f"{user_id} is signed out of {count} device{'' if count == 1 else 's'}")

    def _user_id(self, given: str) -> str:
        return given if given.startswith("@") else f"@{given.lower()}:{self._server_name}"


def _kinds(row: UserRow) -> str:
    kinds = {
        "administrator": row.is_admin,
        "guest": row.is_guest,
        "closed": row.is_deactivated,
        "erased": row.is_erased,
        "locked": row.is_locked,
        "suspended": row.is_suspended,
    }
    return ", ".join(name for name, value in kinds.items() if value)


def _random_password(password: str) -> str:
    return f"The password is {password} : it should be changed at the first login."
