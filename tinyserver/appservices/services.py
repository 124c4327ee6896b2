"""The application services that are registered, and what belongs to which of them.

The set can change while the server runs. It is read by the writer thread, too, so it is replaced as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyserver.accounts.tokens import digest
from tinyserver.appservices.registration import (
    MAX_BYTES,
    Namespace,
    Registration,
    RegistrationError,
    parse_registration,
)
from tinyserver.clock import Clock
from tinyserver.config import ConfigError
from tinyserver.protocol.errors import Exclusive, InvalidParam, NotFound
from tinyserver.protocol.identifiers import domain_of
from tinyserver.storage import accounts, appservices
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import WriteTransaction

log = logging.getLogger(__name__)

_CACHE_BYTES = 200_000
_ENTRY_BYTES = 200


class Service:
    """A registered service.

    Attributes:
        registration: as it stands in its file.
        nid: its number in storage.
        sender: its own user.
        is_configured: it stands in the configuration, hence cannot be removed by a command.
    """

    def __init__(self, registration: Registration, nid: int, server_name: str, *, is_configured: bool) -> None:
        self.registration = registration
        self.nid = nid
        self.sender = f"@{registration.sender_localpart}:{server_name}"
        self.is_configured = is_configured
        self._server_name = server_name
        self._users: BoundedCache[str, bool] = BoundedCache(_CACHE_BYTES, lambda _: _ENTRY_BYTES)

    @property
    def id(self) -> str:
        """Its ID."""
        return self.registration.id

    def owns_user(self, user_id: str) -> bool:
        """Whether a user is the service's own, or a local one in its namespaces."""
        known = self._users.get(user_id)
        if known is None:
            known = user_id == self.sender or (
                domain_of(user_id) == self._server_name and _any_matches(self.registration.users, user_id)
            )
            self._users.put(user_id, known)
        return known

    def owns_alias(self, alias: str) -> bool:
        """Whether an alias is in its namespaces."""
        return _any_matches(self.registration.aliases, alias)

    def owns_room(self, room_id: str) -> bool:
        """Whether a room's ID is in its namespaces."""
        return _any_matches(self.registration.rooms, room_id)

    def reserves_user(self, user_id: str) -> bool:
        """Whether nobody else may have this local user ID."""
        return user_id == self.sender or _any_matches(_exclusive(self.registration.users), user_id)

    def reserves_alias(self, alias: str) -> bool:
        """Whether nobody else may make or remove this alias."""
        return _any_matches(_exclusive(self.registration.aliases), alias)


@dataclass(frozen=True, slots=True)
class ListedService:
    """A service as an administrator sees it."""

    id: str
    url: str | None
    sender: str
    is_configured: bool


class Services:
    """All of them.

    Args:
        files: the registration files of the configuration. They are read at once.

    Raises:
        ConfigError: a file cannot be read or used.
    """

    def __init__(self, db: Database, clock: Clock, server_name: str, files: Sequence[str]) -> None:
        self._db = db
        self._clock = clock
        self._server_name = server_name
        self._configured = [_read(file, server_name) for file in files]
        self._check_distinct(self._configured)
        self.all: tuple[Service, ...] = ()
        self._by_token: dict[bytes, Service] = {}
        self.on_change: list[Callable[[], None]] = []
        """Called on the event loop when a service was added or removed."""

    async def start(self) -> None:
        """Know all services, and see that each has its user.

        Raises:
            ConfigError: a file says what a service says that was added by command.
        """
        configured = {registration.id: registration for registration in self._configured}

        def step(tx: WriteTransaction) -> list[Service]:
            found = [
                self._service(tx, registration, appservices.put(tx, registration.id, None), is_configured=True)
                for registration in self._configured
            ]
            for row in appservices.all_services(tx):
                if row.registration is not None and row.service_id not in configured:
                    try:
                        registration = parse_registration(row.registration, self._server_name)
                    except RegistrationError as error:
                        log.warning("the application service %s cannot be used any more: %s", row.service_id, error)
                        continue
                    found.append(self._service(tx, registration, row.nid, is_configured=False))
            return found

        if not configured and not self._db.glance(appservices.all_services):
            return
        found = await self._db.write(step)
        self._check_distinct([service.registration for service in found])
        self._set(found)

    def of_token(self, token_hash: bytes) -> Service | None:
        """The service whose `as_token` has this SHA-256, or None."""
        return self._by_token.get(token_hash)

    def find(self, service_id: str) -> Service | None:
        """A service by its ID."""
        return next((service for service in self.all if service.id == service_id), None)

    def is_reserved(self, user_id: str) -> bool:
        """Whether a local user ID belongs to a service alone."""
        return any(service.reserves_user(user_id) for service in self.all)

    def check_alias(self, alias: str, service_id: str | None) -> None:
        """See that an alias may be made or removed by a service, or (None) by somebody else.

        Raises:
            Exclusive: it is in a namespace that another service has for itself, or not in those of this service.
        """
        own = None if service_id is None else self.find(service_id)
        if any(service is not own and service.reserves_alias(alias) for service in self.all):
            raise Exclusive("This alias is reserved by an application service.")
        if own is not None and own.registration.aliases and not own.owns_alias(alias):
            raise Exclusive("This alias is not in the namespaces of the application service.")

    def listed(self) -> list[ListedService]:
        """All services, for an administrator."""
        return [
            ListedService(service.id, service.registration.url, service.sender, service.is_configured)
            for service in sorted(self.all, key=lambda service: service.id)
        ]

    async def add(self, text: str) -> ListedService:
        """Register a service from the text of its file, or give it another registration.

        Raises:
            InvalidParam: it cannot be used, or is in the way of another one.
        """
        try:
            registration = parse_registration(text, self._server_name)
            others = [service for service in self.all if service.id != registration.id]
            self._check_distinct([*(service.registration for service in others), registration])
        except (RegistrationError, ConfigError) as error:
            raise InvalidParam(f"The registration cannot be used: {error}.") from error
        known = self.find(registration.id)
        if known is not None and known.is_configured:
            raise InvalidParam(f"{registration.id} stands in the configuration (appservices.files).")

        def step(tx: WriteTransaction) -> Service:
            nid = appservices.put(tx, registration.id, text)
            return self._service(tx, registration, nid, is_configured=False)

        service = await self._db.write(step)
        self._set([*(each for each in self.all if each.id != registration.id), service])
        return ListedService(service.id, registration.url, service.sender, False)

    async def remove(self, service_id: str) -> None:
        """Forget a service, with all that it is owed. Its users stay.

        Raises:
            NotFound: there is none.
            InvalidParam: it stands in the configuration.
        """
        service = self.find(service_id)
        if service is None:
            raise NotFound(f"There is no application service {service_id}.")
        if service.is_configured:
            raise InvalidParam(f"{service_id} stands in the configuration: take it out of appservices.files.")
        self._set([each for each in self.all if each is not service])
        await self._db.write(lambda tx: appservices.remove(tx, service.nid))

    def _service(self, tx: WriteTransaction, registration: Registration, nid: int, *, is_configured: bool) -> Service:
        service = Service(registration, nid, self._server_name, is_configured=is_configured)
        if accounts.find(tx, service.sender) is None:
            accounts.add(tx, service.sender, None, self._clock.now_ms())
        return service

    def _set(self, services: Iterable[Service]) -> None:
        self.all = tuple(services)
        self._by_token = {digest(service.registration.as_token): service for service in self.all}
        for listener in self.on_change:
            listener()

    @staticmethod
    def _check_distinct(registrations: Sequence[Registration]) -> None:
        ids: set[str] = set()
        tokens: dict[str, str] = {}
        for each in registrations:
            if each.id in ids:
                raise ConfigError(f"two application services have the id {each.id}")
            if each.as_token in tokens:
                raise ConfigError(f"{tokens[each.as_token]} and {each.id} have the same as_token")
            ids.add(each.id)
            tokens[each.as_token] = each.id


def _read(file: str, server_name: str) -> Registration:
    try:
        with Path(file).open("rb") as opened:
            text = opened.read(MAX_BYTES + 1).decode("utf-8")
        return parse_registration(text, server_name)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"appservices.files: {file} cannot be read: {error}") from error
    except RegistrationError as error:
        raise ConfigError(f"appservices.files: {file} cannot be used: {error}") from error


def _exclusive(namespaces: Iterable[Namespace]) -> Iterable[Namespace]:
    return (each for each in namespaces if each.is_exclusive)


def _any_matches(namespaces: Iterable[Namespace], value: str) -> bool:
    return any(each.pattern.matches(value) for each in namespaces)
