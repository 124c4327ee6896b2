"""Mails, and the addresses that they go to."""

from __future__ import annotations

from tinyserver.accounts.password_check import PasswordCheck
from tinyserver.accounts.registration import Registration
from tinyserver.accounts.uia import UserInteractiveAuth
from tinyserver.api.client.threepids import ThreepidsApi
from tinyserver.api.oauth import locations
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Router
from tinyserver.mail.mailer import Mailer
from tinyserver.server.core import Core
from tinyserver.server.transport import Transport
from tinyserver.threepids.contacts import Contacts
from tinyserver.threepids.validation import EmailValidation


class MailParts:
    """The parts: `mailer` sends, `validation` proves addresses, `contacts` are those of accounts."""

    def __init__(self, core: Core, transport: Transport) -> None:
        self._core = core
        config, limiter = core.config, core.limiter
        self.mailer = Mailer(config.smtp, core.server_name, transport.resolver, transport.tls)
        self.validation = EmailValidation(
            core.db,
            core.clock,
            self.mailer,
            core.server_name,
            config.public_url.rstrip("/") + locations.EMAIL,
            lambda address: limiter.spend(Limit.MAIL, address),
            config.registration.email_domains,
        )

    def serve(
        self, router: Router, registration: Registration, passwords: PasswordCheck, uia: UserInteractiveAuth
    ) -> None:
        """Give the endpoints to the router. Nothing of it needs to be started or stopped."""
        self.contacts = Contacts(self._core.db, self._core.clock, self.validation, passwords, uia)
        router.add(ThreepidsApi(self.contacts, self.validation, registration))
