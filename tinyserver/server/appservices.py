"""Application services: their registrations, what they do with accounts, and what they are told."""

from __future__ import annotations

import time

from tinyserver.accounts.login import Login
from tinyserver.accounts.sessions import Sessions
from tinyserver.api.client.appservices import AppservicesApi
from tinyserver.api.client.third_party import ThirdPartyApi
from tinyserver.appservices.accounts import Masquerade, ServiceAccounts
from tinyserver.appservices.client import ServiceClient
from tinyserver.appservices.delivery import Delivery
from tinyserver.appservices.ephemeral import EphemeralNews
from tinyserver.appservices.interests import Interests
from tinyserver.appservices.networks import Networks
from tinyserver.appservices.overview import ServicesOverview
from tinyserver.appservices.ping import Ping
from tinyserver.appservices.queries import ServiceQueries
from tinyserver.appservices.services import Services
from tinyserver.appservices.transactions import TransactionMaker
from tinyserver.outgoing.addresses import AddressPolicy
from tinyserver.outgoing.http import HttpClient
from tinyserver.presence.presence import Presence
from tinyserver.rooms.typing import Typing
from tinyserver.server.core import Core
from tinyserver.server.transport import Transport


class AppserviceParts:
    """The parts. `services` says what is reserved, `tokens` whom a service acts for, and `followers` are to be told of
    events, receipts and messages to devices. `queries` makes users and aliases on demand, `networks` lists rooms.

    Raises:
        ConfigError: a registration file cannot be read or used.
    """

    def __init__(self, core: Core, transport: Transport) -> None:
        db, name = core.db, core.server_name
        self._core = core
        self.services = Services(db, core.clock, name, core.config.appservices.files, core.own_account.user_id)
        self.tokens = Masquerade(db, self.services)
        interests = self._interests = Interests(self.services, name)
        self.followers = (interests,)
        # Where services listen is the administrator's choice; nothing else is asked with this client.
        self._http = HttpClient(transport.resolver, AddressPolicy(allow_private=True), transport.tls)
        client = ServiceClient(self._http)
        maker = TransactionMaker(core.clock, interests)
        self._delivery = Delivery(db, core.bell, self.services, maker, client)
        self.services.on_call = self._delivery.is_alive
        self.overview = ServicesOverview(db, self.services, self._delivery)
        self.queries = ServiceQueries(db, self.services, client, name, time.monotonic)
        self.networks = Networks(db, self.services, client, time.monotonic)
        core.router.add(AppservicesApi(Ping(self.services, client, time.monotonic), self.networks))
        core.router.add(ThirdPartyApi(self.networks))

    def accounts(self, sessions: Sessions, login: Login) -> ServiceAccounts:
        """What makes accounts and sessions for services."""
        return ServiceAccounts(self._core.db, self._core.clock, self.services, sessions, login, self._core.server_name)

    async def start(self, typing: Typing, presence: Presence) -> None:
        """See that each service has its user, and go on with what they were not told yet."""
        await self.services.load()
        ephemeral = EphemeralNews(
            self._core.db,
            self._core.bell,
            self.services,
            self._interests,
            typing,
            presence,
            self._delivery.wake,
        )
        self._delivery.start(ephemeral)

    async def stop(self) -> None:
        """Tell nobody any more."""
        await self._delivery.close()
        await self.queries.close()
        await self._http.close()
