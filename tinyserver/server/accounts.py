"""Who uses this server: registration, login, sessions, devices, profiles, and what clients keep here."""

from __future__ import annotations

import time

from tinyserver.accounts.account_data import AccountData, DeviceSettings
from tinyserver.accounts.administration import AccountAdministration
from tinyserver.accounts.authentication import TokenAuthenticator, TokenCache
from tinyserver.accounts.capabilities import Capabilities, account_capabilities, moderation_capability, room_versions
from tinyserver.accounts.devices import Devices
from tinyserver.accounts.directory import AccountsDirectory
from tinyserver.accounts.filters import Filters
from tinyserver.accounts.last_seen import LastSeen
from tinyserver.accounts.login import Login
from tinyserver.accounts.management import AccountManagement
from tinyserver.accounts.openid import OpenIdTokens
from tinyserver.accounts.password_check import PasswordCheck
from tinyserver.accounts.passwords import PasswordHasher
from tinyserver.accounts.profiles import Profiles
from tinyserver.accounts.registration import Registration
from tinyserver.accounts.registration_tokens import RegistrationTokens
from tinyserver.accounts.sessions import DeviceListener, Lifetimes, Sessions
from tinyserver.accounts.shared_secret import SharedSecretRegistration
from tinyserver.accounts.uia import UserInteractiveAuth
from tinyserver.api.admin.registration import SharedSecretApi
from tinyserver.api.client.account import AccountApi
from tinyserver.api.client.account_data import AccountDataApi
from tinyserver.api.client.capabilities import CapabilitiesApi
from tinyserver.api.client.delayed_events import delayed_events_capability
from tinyserver.api.client.devices import DevicesApi
from tinyserver.api.client.fallback import FallbackApi
from tinyserver.api.client.filters import FiltersApi
from tinyserver.api.client.login import LoginApi
from tinyserver.api.client.moderation import ModerationApi
from tinyserver.api.client.openid import OpenIdApi, UserInfoApi
from tinyserver.api.client.profile import ProfileApi
from tinyserver.api.client.registration import RegistrationApi
from tinyserver.api.login_attempts import LimitedLoginAttempts
from tinyserver.encryption.removed_devices import RemovedDevices
from tinyserver.server.appservices import AppserviceParts
from tinyserver.server.calls import add_calls
from tinyserver.server.core import Core
from tinyserver.server.mail import MailParts
from tinyserver.server.push import build_pushers
from tinyserver.server.rooms import RoomParts
from tinyserver.server.transport import Transport
from tinyserver.threepids.contacts import threepid_capability


class AccountParts:
    """All parts of accounts."""

    def __init__(self, core: Core, transport: Transport, rooms: RoomParts, appservices: AppserviceParts) -> None:
        config, db, clock = core.config, core.db, core.clock
        self._token_cache = TokenCache()
        self.last_seen = LastSeen(db, time.monotonic)
        self.authenticator = TokenAuthenticator(db, clock, self._token_cache, self.last_seen, appservices.tokens)
        self.hasher = PasswordHasher(config.passwords.memory, config.passwords.iterations)
        self.pushers = build_pushers(config, db, clock)
        lifetimes = Lifetimes(
            access=int(config.sessions.access_token_lifetime * 1000),
            refresh=int(config.sessions.refresh_token_lifetime * 1000) or None,
        )
        listeners: list[DeviceListener] = [RemovedDevices(), self.pushers, DeviceSettings()]
        self.sessions = Sessions(db, clock, self._token_cache, lifetimes, listeners)
        self.passwords = PasswordCheck(db, self.hasher, LimitedLoginAttempts(core.limiter), core.server_name)
        self.uia = UserInteractiveAuth(time.monotonic)
        self.mail = MailParts(core, transport)
        self._build_registration(core, rooms, appservices)
        self._build_management(core, rooms)
        self._add_belongings(core, transport, rooms, appservices)

    def _build_registration(self, core: Core, rooms: RoomParts, appservices: AppserviceParts) -> None:
        """How accounts are made, and how one gets into them."""
        config, router = core.config.registration, core.router
        self.registration_tokens = RegistrationTokens(core.db, core.clock)
        self.registration = Registration(
            core.db,
            core.clock,
            self._token_cache,
            self.sessions,
            self.hasher,
            self.uia,
            self.registration_tokens,
            server_name=core.server_name,
            mode=config.mode,
            allow_guests=config.allow_guests,
            reservations=[appservices.services, core.own_account],
            emails=self.mail.validation,
            email_mode=config.email,
        )
        self.login = Login(core.db, self.sessions, self.passwords, self.uia, time.monotonic)
        service_accounts = appservices.accounts(self.sessions, self.login)
        router.add(RegistrationApi(self.registration, service_accounts))
        router.add(SharedSecretApi(SharedSecretRegistration(self.registration, config.shared_secret, time.monotonic)))
        router.add(LoginApi(self.login, service_accounts, self.sessions, core.server_name))
        router.add(FallbackApi(self.uia, self.mail.validation, core.limiter))
        self.mail.serve(router, self.registration, self.passwords, self.uia)
        rooms.identity.serve(core, self.mail.contacts)

    def _build_management(self, core: Core, rooms: RoomParts) -> None:
        """What people and administrators change of accounts."""
        db, router = core.db, core.router
        self.management = AccountManagement(
            db,
            self._token_cache,
            self.sessions,
            self.hasher,
            self.passwords,
            self.uia,
            self.last_seen,
            departures=rooms.membership,
            bindings=rooms.identity.bindings,
            emails=self.mail.validation,
        )
        router.add(AccountApi(self.management))
        self.administration = AccountAdministration(
            db, self._token_cache, self.sessions, self.management, self.last_seen, core.own_account, core.server_name
        )
        router.add(ModerationApi(self.administration))
        self.devices = Devices(db, self.sessions, self.passwords, self.uia, self.last_seen)
        router.add(DevicesApi(self.devices))

    def _add_belongings(self, core: Core, transport: Transport, rooms: RoomParts, appservices: AppserviceParts) -> None:
        """Profiles, account data, and what clients may know of themselves."""
        db, router = core.db, core.router
        directory = AccountsDirectory(db, core.server_name)
        self.profiles = Profiles(
            db,
            directory,
            propagator=rooms.membership,
            remote=rooms.fetching.queries,
            on_demand=appservices.queries,
        )
        router.add(ProfileApi(self.profiles))
        router.add(AccountDataApi(AccountData(db, {"m.push_rules": core.push_rules.content})))
        router.add(FiltersApi(Filters(db)))
        openid_tokens = OpenIdTokens(db, core.clock)
        router.add(OpenIdApi(openid_tokens, core.server_name))
        router.add(UserInfoApi(openid_tokens))
        add_calls(router, core.config, db, core.clock, openid_tokens, transport.client)
        told = [
            room_versions(core.config.rooms.default_version),
            account_capabilities,
            threepid_capability(self.mail.validation),
            moderation_capability,
            delayed_events_capability(rooms.delayed_events.limits),
        ]
        router.add(CapabilitiesApi(Capabilities(told)))

    async def start(self) -> None:
        """Finish what an earlier run has begun: leaving rooms, telling rooms of a new name."""
        await self.management.resume_departures()
        await self.profiles.resume()

    async def stop(self) -> None:
        """Store when devices were last seen."""
        self.hasher.close()
        await self.last_seen.close()
