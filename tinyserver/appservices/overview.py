"""What an administrator sees of application services."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.appservices.delivery import Delivery
from tinyserver.appservices.services import Services
from tinyserver.storage import appservices, events
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A service: `user` is its own, `url` where it listens (None: nowhere), `is_configured` whether it stands in the
    configuration. `events` wait for it, the oldest of which was made at `oldest_ts` (ms since 1970), and it fails for
    the reason `error` (None: it does not)."""

    id: str
    user: str
    url: str | None
    is_configured: bool
    events: int
    oldest_ts: int | None
    error: str | None


class ServicesOverview:
    """Says it.

    Args:
        delivery: knows which services fail.
    """

    def __init__(self, db: Database, services: Services, delivery: Delivery) -> None:
        self._db = db
        self._services = services
        self._delivery = delivery

    async def services(self) -> list[ServiceState]:
        """All services, by their IDs."""

        def step(tx: ReadTransaction) -> list[ServiceState]:
            found = []
            for service in sorted(self._services.all, key=lambda each: each.id):
                waiting, oldest = appservices.waiting(tx, service.nid)
                first = None if oldest is None else events.get_many(tx, [oldest]).get(oldest)
                found.append(
                    ServiceState(
                        service.id,
                        service.sender,
                        service.registration.url,
                        service.is_configured,
                        waiting,
                        None if first is None else first.event.origin_server_ts,
                        self._delivery.error_of(service),
                    )
                )
            return found

        return await self._db.read(step)
