"""Application services: their registrations, and what they do with accounts."""

from __future__ import annotations

from tinyserver.accounts.login import Login
from tinyserver.accounts.sessions import Sessions
from tinyserver.appservices.accounts import Masquerade, ServiceAccounts
from tinyserver.appservices.services import Services
from tinyserver.clock import Clock
from tinyserver.config import Config
from tinyserver.storage.database import Database


class AppserviceParts:
    """The parts. `services` says what is reserved, `tokens` whom a service acts for.

    Raises:
        ConfigError: a registration file cannot be read or used.
    """

    def __init__(self, config: Config, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._server_name = config.server_name
        self.services = Services(db, clock, config.server_name, config.appservices.files)
        self.tokens = Masquerade(db, self.services)

    def accounts(self, sessions: Sessions, login: Login) -> ServiceAccounts:
        """What makes accounts and sessions for services."""
        return ServiceAccounts(self._db, self._clock, self.services, sessions, login, self._server_name)

    async def start(self) -> None:
        """See that each service has its user."""
        await self.services.start()
