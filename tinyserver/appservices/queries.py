"""Asks services for users and aliases in their namespaces that do not exist here: they may make them then.

spec: application-service-api#querying
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import quote

from tinyserver.appservices.client import ServiceClient
from tinyserver.appservices.services import Service, Services
from tinyserver.outgoing.errors import HttpError, OutgoingError, TimedOut
from tinyserver.protocol.errors import Unknown
from tinyserver.protocol.identifiers import domain_of, is_valid_room_alias, is_valid_user_id
from tinyserver.storage import accounts, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for one try."""
TRIES = 2
MAX_AT_ONCE = 100
MAX_REMEMBERED = 1000
FORGET_AFTER = 5.0
"""Seconds for which a service's no is believed."""

_IsThere = Callable[[ReadTransaction], bool]


class ServiceQueries:
    """Implements `OnDemand` of rooms.

    Args:
        server_name: this server.
        monotonic: seconds.
    """

    def __init__(
        self,
        db: Database,
        services: Services,
        client: ServiceClient,
        server_name: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._db = db
        self._services = services
        self._client = client
        self._server_name = server_name
        self._monotonic = monotonic
        self._asking: dict[str, asyncio.Task[bool]] = {}
        self._refused: dict[str, float] = {}
        """Until when a no is believed."""
        services.on_change.append(self._refused.clear)

    async def user(self, user_id: str) -> bool:
        """Whether there is such a local user, after a service was asked for an unknown one.

        Raises:
            Unknown (408): the service does not answer in time.
        """
        services = [service for service in self._services.listening if service.owns_user(user_id)]
        if not services or not is_valid_user_id(user_id):
            return False
        path = f"/users/{quote(user_id, safe='')}"
        return await self._find(user_id, services, path, lambda tx: accounts.find(tx, user_id) is not None)

    async def alias(self, alias: str) -> bool:
        """Whether there is such an alias of this server, after a service was asked for an unknown one.

        Raises:
            Unknown (408): the service does not answer in time.
        """
        services = [service for service in self._services.listening if service.owns_alias(alias)]
        if not services or not is_valid_room_alias(alias) or domain_of(alias) != self._server_name:
            return False
        path = f"/rooms/{quote(alias, safe='')}"
        return await self._find(alias, services, path, lambda tx: rooms.of_alias(tx, alias) is not None)

    async def _find(self, name: str, services: list[Service], path: str, is_there: _IsThere) -> bool:
        if self._db.glance(is_there):
            return True
        if self._refused.get(name, 0.0) > self._monotonic():
            return False
        asking = self._asking.get(name)
        if asking is None:
            if len(self._asking) >= MAX_AT_ONCE:
                return False
            asking = self._asking[name] = asyncio.ensure_future(self._ask_all(name, services, path, is_there))
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
        # Others may wait for the same answer, and the service goes on making what it was asked for.
        return await asyncio.shield(asking)

    async def _ask_all(self, name: str, services: list[Service], path: str, is_there: _IsThere) -> bool:
        for service in services:
            if await self._ask(service, path) and self._db.glance(is_there):
                return True
        if self._db.glance(is_there):
            return True
        if len(self._refused) >= MAX_REMEMBERED:
            self._refused.clear()
        self._refused[name] = self._monotonic() + FORGET_AFTER
        return False

    async def _ask(self, service: Service, path: str) -> bool:
        for left in reversed(range(TRIES)):
            try:
                await self._client.ask(service, "GET", path, old_path=path, timeout=TIMEOUT)
            except TimedOut as error:
                if not left:
                    raise Unknown("The application service does not answer. Try again later.", status=408) from error
            except HttpError as error:
                if error.status < 500 or not left:
                    return False
            except OutgoingError as error:
                log.info("the application service %s cannot be asked: %s", service.id, error)
                return False
            else:
                return True
        return False

    async def close(self) -> None:
        """Ask nobody any more."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
