"""What people do with their account: change the password, close it, see its sessions.

spec: client-server-api#legacy-account-management, client-server-api#server-administration
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from tinyserver.accounts.authentication import TokenCache
from tinyserver.accounts.last_seen import LastSeen
from tinyserver.accounts.password_check import PasswordCheck, PasswordStage
from tinyserver.accounts.passwords import PasswordHasher, check_new_password
from tinyserver.accounts.requester import Requester
from tinyserver.accounts.sessions import Sessions
from tinyserver.accounts.tokens import digest
from tinyserver.accounts.uia import Stage, UserInteractiveAuth
from tinyserver.protocol.errors import Forbidden, NotFound, ThreepidAuthFailed
from tinyserver.protocol.threepids import EMAIL
from tinyserver.storage import account_data, accounts, devices, filters, names, profiles, pushers, threepids
from tinyserver.storage.accounts import UserRow
from tinyserver.storage.database import Database
from tinyserver.storage.devices import DeviceRow
from tinyserver.storage.email_sessions import EmailSessionRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction
from tinyserver.threepids.validation import STAGE as _EMAIL
from tinyserver.threepids.validation import EmailStage, EmailValidation, Purpose

log = logging.getLogger(__name__)

_PASSWORD = "m.login.password"


class AddressBindings(Protocol):
    """Addresses that are bound to users at identity servers."""

    async def unbind_all(self, user_id: str, user: int, server: str | None = None) -> bool:
        """Take back all bindings of a user (also by number), at one identity server or at all; whether none is left."""
        ...


class RoomDepartures(Protocol):
    """Takes a user out of all rooms."""

    async def leave_all_rooms(self, user_id: str) -> None:
        """Leave every room that the user is in, reject every invite, take back every knock.

        Called again after an interruption, so it must do with rooms that are left already.
        """
        ...


class AccountManagement:
    """Passwords, deactivation, and who is logged in where.

    Args:
        departures: takes users out of their rooms when their account is closed.
        bindings: taken back when an account is closed.
        emails: mail addresses, which can be proved instead of a password.
    """

    def __init__(
        self,
        db: Database,
        cache: TokenCache,
        sessions: Sessions,
        hasher: PasswordHasher,
        passwords: PasswordCheck,
        uia: UserInteractiveAuth,
        last_seen: LastSeen,
        departures: RoomDepartures | None = None,
        bindings: AddressBindings | None = None,
        emails: EmailValidation | None = None,
    ) -> None:
        self._db = db
        self._cache = cache
        self._sessions = sessions
        self._hasher = hasher
        self._passwords = passwords
        self._uia = uia
        self._last_seen = last_seen
        self._departures = departures
        self._bindings = bindings
        self._emails = emails

    async def change_password(
        self, requester: Requester | None, new_password: str, auth: Mapping[str, Any] | None, *, logout_devices: bool
    ) -> None:
        """Replace the password of the requester, or without one of whoever proves to be a user: by the old password, or
        by reading the mails of an address that the account has.

        Args:
            logout_devices: whether all other sessions end and their devices go.

        Raises:
            WeakPassword, UserInteractionRequired.
            ThreepidAuthFailed: the mail address belongs to the account no more.
        """
        check_new_password(new_password)
        parameters = [digest(new_password).hex(), logout_devices]
        results = await self._authorise(requester, "change the password", parameters, auth, by_mail=requester is None)
        if _PASSWORD not in results:
            await self.reset_password(results[_EMAIL], new_password, logout_devices=logout_devices)
            return
        _, account = results[_PASSWORD]
        keep = None if requester is None else requester.device_nid
        await self.replace_password(account.nid, new_password, logout_devices=logout_devices, keep=keep)

    async def reset_password(self, session: EmailSessionRow, new_password: str, *, logout_devices: bool) -> str:
        """Replace the password of whom a mail address belongs to that was proved in a session; their user ID.

        Raises:
            WeakPassword.
            ThreepidAuthFailed: the session was used already, or the address belongs to no account (any more).
        """
        check_new_password(new_password)
        hashed = await self._hasher.hash(new_password)
        assert self._emails is not None  # whoever has such a session got it there
        emails = self._emails

        def step(tx: WriteTransaction) -> str:
            emails.spend(tx, session)
            user = threepids.user_of(tx, EMAIL, session.address)
            if user is None:
                raise ThreepidAuthFailed("This mail address belongs to no account any more.")
            self._set_password(tx, user, hashed, logout_devices=logout_devices)
            return names.text(tx, user)

        return await self._db.write(step)

    async def replace_password(
        self, user: int, new_password: str, *, logout_devices: bool, keep: int | None = None
    ) -> None:
        """Replace the password of a user (by number) who has just proved who they are.

        Args:
            logout_devices: whether all sessions end and their devices go, but for the device with the number `keep`.

        Raises:
            WeakPassword.
        """
        check_new_password(new_password)
        hashed = await self._hasher.hash(new_password)

        await self._db.write(lambda tx: self._set_password(tx, user, hashed, logout_devices=logout_devices, keep=keep))

    def _set_password(
        self, tx: WriteTransaction, user: int, hashed: str, *, logout_devices: bool, keep: int | None = None
    ) -> None:
        _check_in_use(tx, user)
        accounts.set_password(tx, user, hashed)
        if logout_devices:
            self._sessions.remove_all_devices(tx, user, keep=keep)

    async def set_password(self, user_id: str, new_password: str) -> None:
        """Replace a user's password on the word of an administrator; all sessions end.

        Raises:
            WeakPassword, NotFound.
        """
        check_new_password(new_password)
        hashed = await self._hasher.hash(new_password)

        def step(tx: WriteTransaction) -> None:
            account = accounts.find(tx, user_id)
            if account is None or account.is_deactivated or account.is_guest:
                raise NotFound("There is no such account.")
            accounts.set_password(tx, account.nid, hashed)
            self._sessions.remove_all_devices(tx, account.nid)

        await self._db.write(step)

    async def deactivate(
        self,
        requester: Requester | None,
        auth: Mapping[str, Any] | None,
        *,
        erase: bool,
        id_server: str | None = None,
    ) -> bool:
        """Close the account of the requester, or without one of whoever proves to be a user.

        Args:
            erase: also forget the profile and the account data, and redact old events for newcomers.
            id_server: the identity server at which bindings are taken back; None: where they were made.

        Returns:
            Whether no address is bound to the user at an identity server any more.

        Raises:
            UserInteractionRequired.
        """
        user_id, account = await self._prove(requester, "deactivate", [erase], auth)
        return await self.close(user_id, account.nid, erase=erase, id_server=id_server)

    async def close(self, user_id: str, user: int, *, erase: bool, id_server: str | None = None) -> bool:
        """Close the account of a user (also by number) who has just proved who they are; see :meth:`deactivate`."""

        def step(tx: WriteTransaction) -> None:
            _check_in_use(tx, user)
            accounts.deactivate(tx, user, erase=erase)
            self._sessions.remove_all_devices(tx, user)
            filters.remove_all(tx, user)
            threepids.remove_all(tx, user)
            pushers.remove_emails(tx, user)
            if erase:
                profiles.remove(tx, user)
                account_data.remove_all(tx, user)
            tx.on_commit(lambda: self._cache.drop_user(user))

        await self._db.write(step)
        if self._departures is not None:
            await self._departures.leave_all_rooms(user_id)
        return self._bindings is None or await self._bindings.unbind_all(user_id, user, id_server)

    async def resume_departures(self) -> None:
        """Finish what a stop of the server interrupted: closed accounts leave the rooms that they are still in."""
        if self._departures is None:
            return
        left = await self._db.read(lambda tx: [names.text(tx, nid) for nid in accounts.deactivated_members(tx)])
        for user_id in left:
            log.info("the closed account %s leaves its rooms", user_id)
            await self._departures.leave_all_rooms(user_id)

    async def whois(self, requester: Requester, user_id: str) -> dict[str, Any]:
        """The sessions of a user as `GET /admin/whois` shows them: to the user and to administrators.

        Raises:
            Forbidden: another user's.
            NotFound: no such account.
        """
        if requester.user_id != user_id and not requester.is_admin:
            raise Forbidden("Only the user and administrators of the server can see this.")

        def step(tx: ReadTransaction) -> list[DeviceRow]:
            account = accounts.find(tx, user_id)
            if account is None:
                raise NotFound("There is no such account.")
            return devices.of_user(tx, account.nid)

        rows = await self._db.read(step)
        return {"user_id": user_id, "devices": {row.device_id: self._sessions_of(row) for row in rows}}

    def _sessions_of(self, device: DeviceRow) -> dict[str, Any]:
        seen = self._last_seen.of(device.nid) or device.seen
        connections = [] if seen is None else [{"ip": seen.ip, "last_seen": seen.ts, "user_agent": seen.agent}]
        return {"sessions": [{"connections": connections}]}

    async def _prove(
        self, requester: Requester | None, what: str, parameters: list[Any], auth: Mapping[str, Any] | None
    ) -> tuple[str, UserRow]:
        """Have the password stage completed; the account that it was."""
        proved: tuple[str, UserRow] = (await self._authorise(requester, what, parameters, auth))[_PASSWORD]
        return proved

    async def _authorise(
        self,
        requester: Requester | None,
        what: str,
        parameters: list[Any],
        auth: Mapping[str, Any] | None,
        *,
        by_mail: bool = False,
    ) -> dict[str, Any]:
        """Have the password stage completed, or that of mail; their results."""
        stages: dict[str, Stage] = {
            _PASSWORD: PasswordStage(self._passwords, None if requester is None else requester.user_nid)
        }
        if by_mail and self._emails is not None and self._emails.is_offered:
            stages[_EMAIL] = EmailStage(self._emails, Purpose.PASSWORD)
        return await self._uia.authorise(
            auth,
            operation=f"{what} of {'anybody' if requester is None else requester.user_id}",
            parameters=parameters,
            flows=[(stage,) for stage in stages],
            stages=stages,
        )


def _check_in_use(tx: ReadTransaction, user: int) -> None:
    account = accounts.get(tx, user)
    if account is None or account.is_deactivated:
        raise Forbidden("This account has been deactivated.")
