"""Tells a service whether it can be reached.

spec: application-service-api#pinging
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from tinyserver.accounts.requester import Requester
from tinyserver.appservices.client import ServiceClient
from tinyserver.appservices.services import Services
from tinyserver.outgoing.errors import HttpError, OutgoingError, TimedOut
from tinyserver.protocol.errors import BadStatus, ConnectionFailed, ConnectionTimeout, Forbidden, UrlNotSet

TIMEOUT = 30.0


class Ping:
    """Pings services when they ask for it.

    Args:
        monotonic: seconds.
    """

    def __init__(self, services: Services, client: ServiceClient, monotonic: Callable[[], float]) -> None:
        self._services = services
        self._client = client
        self._monotonic = monotonic

    async def ping(self, requester: Requester, service_id: str, txn_id: str | None) -> int:
        """Ask a service for a sign of life, as it wishes; how long that took, in milliseconds.

        Raises:
            Forbidden: the requester is not that service.
            UrlNotSet, BadStatus, ConnectionFailed, ConnectionTimeout: why there was no good answer.
        """
        service = None if requester.appservice != service_id else self._services.find(service_id)
        if service is None:
            raise Forbidden("The access token is not that of this application service.")
        if service.registration.url is None:
            raise UrlNotSet
        body = orjson.dumps({} if txn_id is None else {"transaction_id": txn_id})
        begun = self._monotonic()
        try:
            await self._client.ask(service, "POST", "/ping", body, timeout=TIMEOUT)
        except HttpError as error:
            message = f"The application service answered with {error.status}."
            raise BadStatus(error.status, error.message, message) from error
        except TimedOut as error:
            raise ConnectionTimeout from error
        except OutgoingError as error:
            raise ConnectionFailed(f"The application service could not be reached: {error}") from error
        return int((self._monotonic() - begun) * 1000)
