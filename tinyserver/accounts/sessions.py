"""Sessions: opening one for a device, refreshing its tokens, ending it.

spec: client-server-api#relationship-between-access-tokens-and-devices
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from tinyserver.accounts.authentication import TokenCache
from tinyserver.accounts.requester import Requester
from tinyserver.accounts.tokens import digest, family_of, new_access_token, new_device_id, new_family, new_refresh_token
from tinyserver.clock import Clock
from tinyserver.protocol.errors import Forbidden, InvalidParam, UnknownToken, UserLocked
from tinyserver.storage import accounts, cross_signing, devices, sessions
from tinyserver.storage.database import Database
from tinyserver.storage.devices import Seen
from tinyserver.storage.transaction import WriteTransaction

MAX_DEVICE_ID_BYTES = 255
MAX_DISPLAY_NAME = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """From where, and with what program, a client talks to the server."""

    address: str
    agent: str


@dataclass(frozen=True, slots=True)
class OAuthGrant:
    """To which client (by number) a user granted which scope."""

    client: int
    scope: str


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a client wants: a device of its choice (None: a new one), the display name if that device is new, and
    whether it can refresh tokens. `grant` is there where it was the user who let it in, by OAuth."""

    device_id: str | None
    display_name: str | None
    can_refresh: bool
    origin: Origin
    grant: OAuthGrant | None = None

    def check(self) -> None:
        """Raises InvalidParam for a device ID or a name that cannot be kept."""
        if self.device_id is not None:
            check_device_id(self.device_id)
        if self.display_name is not None:
            check_device_name(self.display_name)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the client gets. `refresh_token` and `expires_in_ms` are None for access tokens that do not expire."""

    device_id: str
    access_token: str
    refresh_token: str | None
    expires_in_ms: int | None


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long tokens are valid, in milliseconds; a refresh token of None for ever."""

    access: int
    refresh: int | None


class DeviceListener(Protocol):
    """Whoever keeps something for devices (keys, messages to them), or tells others of them."""

    def devices_removed(self, tx: WriteTransaction, user: int, removed: Sequence[int]) -> None:
        """Devices (by number) of a user are about to go, in the same step."""
        ...

    def device_renamed(self, tx: WriteTransaction, user: int, device: int) -> None:
        """A device has another display name, in the same step."""
        ...


def check_device_id(device_id: str) -> None:
    """Raises InvalidParam for an empty or overlong device ID, or one with control characters."""
    if not device_id or len(device_id.encode("utf-8")) > MAX_DEVICE_ID_BYTES or not device_id.isprintable():
        raise InvalidParam(f"A device ID has 1 to {MAX_DEVICE_ID_BYTES} bytes, all of them printable.")


def check_device_name(display_name: str) -> None:
    """Raises InvalidParam for an overlong display name of a device."""
    if len(display_name) > MAX_DISPLAY_NAME:
        raise InvalidParam(f"The display name of a device cannot be longer than {MAX_DISPLAY_NAME} characters.")


class Sessions:
    """Opens, refreshes and ends sessions.

    Args:
        listeners: told of every device that goes or is renamed, inside the step that does it.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        cache: TokenCache,
        lifetimes: Lifetimes,
        listeners: Sequence[DeviceListener] = (),
    ) -> None:
        self._db = db
        self._clock = clock
        self._cache = cache
        self._lifetimes = lifetimes
        self._listeners = listeners

    def open(self, tx: WriteTransaction, user: int, wanted: NewSession) -> Tokens:
        """Open a session inside a step. Earlier sessions of the same device end.

        Raises:
            Forbidden: the device ID is that of one of the user's cross-signing keys.
        """
        now = self._clock.now_ms()
        device_id = wanted.device_id
        known = None if device_id is None else devices.find(tx, user, device_id)
        if known is not None:
            device, device_id = known.nid, known.device_id
            sessions.remove_of_device(tx, device)
            tx.on_commit(lambda: self._cache.drop_device(device))
        else:
            if device_id is not None and cross_signing.is_key_id(tx, user, device_id):
                raise Forbidden("One of your cross-signing keys has this ID: a device needs another one.")
            while device_id is None or devices.find(tx, user, device_id) is not None:
                device_id = new_device_id()
            seen = Seen(now, wanted.origin.address, wanted.origin.agent)
            device = devices.add(tx, user, device_id, wanted.display_name, seen)
        family = ""
        if wanted.grant is not None:
            family = new_family()
            grant = wanted.grant
            devices.set_oauth(tx, device, client=grant.client, scope=grant.scope, family_hash=digest(family))
        elif known is not None:
            devices.set_oauth(tx, device, client=None, scope=None, family_hash=None)
        return self._add(tx, user, device, device_id, now, can_refresh=wanted.can_refresh, family=family)

    async def refresh(self, refresh_token: str) -> Tokens:
        """New tokens for a refresh token, which stays valid until one of the new ones is used.

        Raises:
            UnknownToken: unknown or used up; with `soft_logout` when it has only expired.
            UserLocked: the account is locked.
        """
        return await self._db.write(lambda tx: self.refresh_in_step(tx, refresh_token, client=None))

    def refresh_in_step(self, tx: WriteTransaction, refresh_token: str, *, client: int | None) -> Tokens:
        """As :meth:`refresh`, inside a step, for a token that was given to this OAuth client (None: by a login)."""
        session = sessions.of_refresh_token(tx, digest(refresh_token))
        user = None if session is None else accounts.get(tx, session.user)
        device = None if session is None else devices.get(tx, session.device)
        if session is None or device is None or user is None or user.is_deactivated or device.oauth_client != client:
            raise UnknownToken("The refresh token is not known or was used already. Log in again.")
        now = self._clock.now_ms()
        if session.refresh_expires is not None and session.refresh_expires <= now:
            raise UnknownToken("The refresh token has expired. Log in again.", soft_logout=True)
        if user.is_locked:
            raise UserLocked
        if session.replaces is not None:
            sessions.confirm(tx, session)
            tx.on_commit(lambda: self._cache.drop_device(session.device))
        sessions.remove_unused(tx, session)
        family = family_of(refresh_token) or ""
        return self._add(
            tx,
            session.user,
            session.device,
            device.device_id,
            now,
            can_refresh=True,
            replaces=session.nid,
            family=family,
        )

    async def logout(self, requester: Requester) -> None:
        """End the requester's session and delete its device."""
        if requester.device_nid is not None:
            device = requester.device_nid
            await self._db.write(lambda tx: self.remove_devices(tx, requester.user_nid, [device]))

    async def logout_all(self, requester: Requester) -> None:
        """End all sessions of the requester and delete all devices."""
        await self._db.write(lambda tx: self.remove_all_devices(tx, requester.user_nid))

    def remove_devices(self, tx: WriteTransaction, user: int, removed: Collection[int]) -> None:
        """Delete devices (by number) of a user with their sessions, inside a step."""
        for listener in self._listeners:
            listener.devices_removed(tx, user, list(removed))
        for device in removed:
            devices.remove(tx, device)
        tx.on_commit(lambda: self._cache.drop_user(user))

    def device_renamed(self, tx: WriteTransaction, user: int, device: int) -> None:
        """Tell the listeners of a new display name, inside the step that stores it."""
        for listener in self._listeners:
            listener.device_renamed(tx, user, device)

    def remove_all_devices(self, tx: WriteTransaction, user: int, *, keep: int | None = None) -> None:
        """Delete all devices of a user but the one with the number `keep`, inside a step."""
        self.remove_devices(tx, user, [row.nid for row in devices.of_user(tx, user) if row.nid != keep])

    def _add(
        self,
        tx: WriteTransaction,
        user: int,
        device: int,
        device_id: str,
        now: int,
        *,
        can_refresh: bool,
        replaces: int | None = None,
        family: str = "",
    ) -> Tokens:
        access_token = new_access_token()
        refresh_token = new_refresh_token(family) if can_refresh else None
        expires_in = self._lifetimes.access if can_refresh else None
        refresh_in = self._lifetimes.refresh
        sessions.add(
            tx,
            user=user,
            device=device,
            access_hash=digest(access_token),
            access_expires=None if expires_in is None else now + expires_in,
            refresh_hash=None if refresh_token is None else digest(refresh_token),
            refresh_expires=None if refresh_token is None or refresh_in is None else now + refresh_in,
            replaces=replaces,
        )
        return Tokens(device_id, access_token, refresh_token, expires_in)
