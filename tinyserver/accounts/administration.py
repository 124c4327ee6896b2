"""What administrators do with accounts.

spec: client-server-api#account-moderation
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tinyserver.accounts.authentication import TokenCache
from tinyserver.accounts.last_seen import LastSeen
from tinyserver.accounts.management import AccountManagement
from tinyserver.accounts.own import OwnAccount
from tinyserver.accounts.requester import Requester
from tinyserver.accounts.sessions import Sessions
from tinyserver.protocol.errors import Forbidden, InvalidParam, NotFound
from tinyserver.protocol.identifiers import domain_of, is_valid_user_id
from tinyserver.storage import accounts, devices, media, memberships, names, profiles
from tinyserver.storage.accounts import UserRow
from tinyserver.storage.database import Database
from tinyserver.storage.devices import DeviceRow, Seen
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class AccountDescription:
    """An account with what belongs to it: how many devices and joined rooms, bytes of uploads; `last_seen` in ms."""

    user_id: str
    account: UserRow
    display_name: str | None
    devices: int
    rooms: int
    uploaded: int
    last_seen: int | None


class AccountAdministration:
    """Acts on the word of an administrator (`by`), who cannot act on another administrator or on themselves; or on
    that of the machine's owner (None), who can do everything.

    Args:
        db: where accounts are stored.
        cache: tokens that are in use.
        sessions: ends them.
        management: passwords, and the end of accounts.
        last_seen: when devices were used.
        own: the server's own account, which nobody changes.
        server_name: this server.
    """

    def __init__(
        self,
        db: Database,
        cache: TokenCache,
        sessions: Sessions,
        management: AccountManagement,
        last_seen: LastSeen,
        own: OwnAccount,
        server_name: str,
    ) -> None:
        self._db = db
        self._cache = cache
        self._sessions = sessions
        self._management = management
        self._last_seen = last_seen
        self._own = own
        self._server_name = server_name

    # -- looking ---------------------------------------------------------------------------------

    def state(self, user_id: str, by: Requester | None) -> UserRow:
        """An account that is in use.

        Raises:
            InvalidParam: no user ID of this server.
            NotFound: no such account, or it is closed.
            Forbidden: another administrator's, or the server's own.
        """
        self._check_changeable(user_id)
        return self._db.glance(lambda tx: _in_use(tx, user_id, by))

    async def page(
        self, after: str | None, limit: int, *, everybody: bool, admins_only: bool
    ) -> list[tuple[str, UserRow]]:
        """Some accounts with their user IDs, those behind the user `after`.

        Args:
            everybody: also guests, and those without a password.

        Raises:
            NotFound: there is no user `after`.
        """

        def step(tx: ReadTransaction) -> list[tuple[str, UserRow]]:
            start = 0 if after is None else names.find(tx, after)
            if start is None:
                raise NotFound(f"There is no user {after}.")
            if admins_only:
                rows = accounts.administrators_after(tx, start, limit)
            elif everybody:
                rows = accounts.all_after(tx, start, limit)
            else:
                rows = accounts.people_after(tx, start, limit)
            return [(names.text(tx, row.nid), row) for row in rows]

        return await self._db.read(step)

    async def describe(self, user_id: str) -> AccountDescription:
        """All about an account, also a closed one. Raises InvalidParam, NotFound."""
        self._check_local(user_id)

        def step(tx: ReadTransaction) -> tuple[AccountDescription, list[DeviceRow]]:
            account = _existing(tx, user_id)
            own = devices.of_user(tx, account.nid)
            name, _ = profiles.shown_in_rooms(tx, account.nid)
            rooms = len(memberships.joined_rooms(tx, account.nid))
            uploaded = media.bytes_of(tx, account.nid)
            return AccountDescription(user_id, account, name, len(own), rooms, uploaded, None), own

        described, own = await self._db.read(step)
        times = [seen.ts for row in own if (seen := self._seen(row)) is not None]
        return replace(described, last_seen=max(times, default=None))

    async def devices(self, user_id: str) -> list[tuple[DeviceRow, Seen | None]]:
        """The devices of an account, and when each was used. Raises InvalidParam, NotFound."""
        self._check_local(user_id)
        rows = await self._db.read(lambda tx: devices.of_user(tx, _existing(tx, user_id).nid))
        return [(row, self._seen(row)) for row in rows]

    def _seen(self, row: DeviceRow) -> Seen | None:
        return self._last_seen.of(row.nid) or row.seen

    # -- changing --------------------------------------------------------------------------------

    async def set_suspended(self, user_id: str, suspended: bool, by: Requester | None) -> None:
        """Suspend an account, or lift that. Raises as :meth:`state`, and Forbidden for one's own account."""
        await self._change(user_id, by, lambda tx, user: accounts.set_suspended(tx, user.nid, suspended))

    async def set_locked(self, user_id: str, locked: bool, by: Requester | None) -> None:
        """Lock an account, or unlock it; its sessions stay. Raises as :meth:`set_suspended`."""
        await self._change(user_id, by, lambda tx, user: accounts.set_locked(tx, user.nid, locked))

    async def set_admin(self, user_id: str, admin: bool, by: Requester | None) -> None:
        """Make an account an administrator's, or an ordinary one again; here administrators may act on each other.

        Raises:
            InvalidParam: no user ID of this server, or a guest's.
            NotFound: no such account, or it is closed.
            Forbidden: one's own account.
        """

        def change(tx: WriteTransaction, user: UserRow) -> None:
            if user.is_guest:
                raise InvalidParam("A guest cannot be an administrator.")
            accounts.set_admin(tx, user.nid, admin)

        await self._change(user_id, by, change, equals=True)

    async def reset_password(self, user_id: str, password: str, by: Requester | None) -> None:
        """Replace a password; all sessions end. Raises as :meth:`state`, and WeakPassword."""
        self.state(user_id, by)
        await self._management.set_password(user_id, password)

    async def close(self, user_id: str, by: Requester | None, *, erase: bool) -> None:
        """Close an account for ever; it leaves its rooms. Raises as :meth:`set_suspended`."""
        account = self.state(user_id, by)
        _check_other(user_id, by)
        await self._management.close(user_id, account.nid, erase=erase)

    async def log_out(self, user_id: str, device_id: str | None, by: Requester | None) -> int:
        """End the sessions of a device, or (None) of all, and delete it or them; how many devices.

        Raises:
            As :meth:`state`, and NotFound for a device that is not there.
        """
        self._check_changeable(user_id)

        def step(tx: WriteTransaction) -> int:
            user = _in_use(tx, user_id, by).nid
            rows = [row for row in devices.of_user(tx, user) if device_id is None or row.device_id == device_id]
            if device_id is not None and not rows:
                raise NotFound("The user has no such device.")
            self._sessions.remove_devices(tx, user, [row.nid for row in rows])
            return len(rows)

        return await self._db.write(step)

    async def _change(
        self,
        user_id: str,
        by: Requester | None,
        change: Callable[[WriteTransaction, UserRow], None],
        *,
        equals: bool = False,
    ) -> None:
        """Change an account. `equals`: also that of another administrator."""
        self._check_changeable(user_id)

        def step(tx: WriteTransaction) -> None:
            _check_other(user_id, by)
            user = _in_use(tx, user_id, None if equals else by)
            change(tx, user)
            tx.on_commit(lambda: self._cache.drop_user(user.nid))

        await self._db.write(step)

    def _check_changeable(self, user_id: str) -> None:
        self._check_local(user_id)
        self._own.check_not_own(user_id)

    def _check_local(self, user_id: str) -> None:
        if not is_valid_user_id(user_id) or domain_of(user_id) != self._server_name:
            raise InvalidParam("This is no user of this server.")


def _check_other(user_id: str, by: Requester | None) -> None:
    if by is not None and by.user_id == user_id:
        raise Forbidden("You cannot do this to your own account.")


def _existing(tx: ReadTransaction, user_id: str) -> UserRow:
    account = accounts.find(tx, user_id)
    if account is None:
        raise NotFound("There is no such account.")
    return account


def _in_use(tx: ReadTransaction, user_id: str, by: Requester | None) -> UserRow:
    account = _existing(tx, user_id)
    if account.is_deactivated:
        raise NotFound("There is no such account.")
    if account.is_admin and by is not None and by.user_id != user_id:
        raise Forbidden("This user is an administrator, too.")
    return account
