"""Signing in with a web browser, and by QR code."""

from __future__ import annotations

import time

from tinyserver.accounts.devices import Devices
from tinyserver.accounts.login import Login
from tinyserver.accounts.management import AccountManagement
from tinyserver.accounts.password_check import PasswordCheck
from tinyserver.accounts.profiles import Profiles
from tinyserver.accounts.registration import Registration
from tinyserver.accounts.sessions import Sessions
from tinyserver.api.client.rendezvous import EtaggedRendezvousApi, RendezvousApi
from tinyserver.api.oauth.metadata import MetadataApi
from tinyserver.api.oauth.tokens import OAuthApi
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.rate_limits import RateLimiter
from tinyserver.api.routing import Router
from tinyserver.api.web.account import AccountPages, InvitationPages
from tinyserver.api.web.account_emails import EmailSettings
from tinyserver.api.web.authorization import AuthorizationPages
from tinyserver.api.web.by_mail import ByMail
from tinyserver.api.web.email import EmailPages
from tinyserver.api.web.gate import Gate
from tinyserver.api.web.sso import SsoPages
from tinyserver.clock import Clock
from tinyserver.encryption.identity_resets import IdentityResets
from tinyserver.oauth.browser_sessions import BrowserSessions
from tinyserver.oauth.clients import OAuthClients
from tinyserver.oauth.codes import AuthorizationCodes, DeviceGrants
from tinyserver.oauth.rendezvous import Mailboxes
from tinyserver.oauth.tokens import OAuthTokens
from tinyserver.storage.database import Database
from tinyserver.threepids.contacts import Contacts
from tinyserver.threepids.validation import EmailValidation


def add_oauth(
    router: Router,
    db: Database,
    clock: Clock,
    limiter: RateLimiter,
    public_url: PublicUrl,
    server_name: str,
    *,
    sessions: Sessions,
    passwords: PasswordCheck,
    registration: Registration,
    login: Login,
    management: AccountManagement,
    devices: Devices,
    profiles: Profiles,
    identity_resets: IdentityResets,
    emails: EmailValidation,
    contacts: Contacts,
) -> None:
    """Build the parts and give their endpoints to the router. Nothing of it needs to be started or stopped."""
    clients = OAuthClients(db, clock)
    codes, device_grants = AuthorizationCodes(time.monotonic), DeviceGrants(time.monotonic)
    tokens = OAuthTokens(db, sessions, codes, device_grants, time.monotonic)
    router.add(MetadataApi(public_url))
    router.add(OAuthApi(clients, tokens, device_grants, public_url))
    by_mail = ByMail(emails, management, limiter, public_url)
    browsers = BrowserSessions(db, time.monotonic)
    gate = Gate(browsers, passwords, registration, limiter, server_name, public_url, by_mail)
    router.add(AuthorizationPages(gate, clients, codes, device_grants, public_url))
    router.add(SsoPages(gate, login, public_url))
    router.add(InvitationPages(gate))
    router.add(EmailPages(gate, emails))
    settings = EmailSettings(gate, contacts, emails, limiter, public_url)
    router.add(AccountPages(gate, management, devices, profiles, identity_resets, settings))
    router.add(EtaggedRendezvousApi(Mailboxes(time.monotonic, clock.now_ms), public_url))
    router.add(RendezvousApi(Mailboxes(time.monotonic, clock.now_ms)))
