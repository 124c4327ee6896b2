"""The application services that are registered, and what belongs to which of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tinyserver.appservices.registration import (
    MAX_BYTES,
    Namespace,
    Registration,
    RegistrationError,
    parse_registration,
    stored_registration,
)
from tinyserver.clock import Clock
from tinyserver.config import ConfigError
from tinyserver.protocol.errors import Exclusive
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
        sender: its own user.
        nid: its number in the database, 0 before `Services.load`.
        is_configured: whether it stands in the configuration (else it was added while the server ran).
        not_owned: a user ID that is no service's, whatever its namespaces are.
    """

    def __init__(
        self, registration: Registration, server_name: str, nid: int = 0, *, is_configured: bool = True
    ) -> None:
        self.registration = registration
        self.nid = nid
        self.is_configured = is_configured
        self.sender = f"@{registration.sender_localpart}:{server_name}"
        self.not_owned = ""
        self._server_name = server_name
        self._users: BoundedCache[str, bool] = BoundedCache(_CACHE_BYTES, lambda _: _ENTRY_BYTES)
        self._rooms: BoundedCache[str, bool] = BoundedCache(_CACHE_BYTES, lambda _: _ENTRY_BYTES)

    @property
    def id(self) -> str:
        """Its ID."""
        return self.registration.id

    def owns_user(self, user_id: str) -> bool:
        """Whether a user is the service's own, or a local one in its namespaces."""
        known = self._users.get(user_id)
        if known is None:
            known = user_id != self.not_owned and (
                user_id == self.sender
                or (domain_of(user_id) == self._server_name and _any_matches(self.registration.users, user_id))
            )
            self._users.put(user_id, known)
        return known

    def owns_room(self, room_id: str) -> bool:
        """Whether a room ID is in its namespaces."""
        known = self._rooms.get(room_id)
        if known is None:
            known = _any_matches(self.registration.rooms, room_id)
            self._rooms.put(room_id, known)
        return known

    def owns_alias(self, alias: str) -> bool:
        """Whether an alias is in its namespaces."""
        return _any_matches(self.registration.aliases, alias)

    def reserves_user(self, user_id: str) -> bool:
        """Whether nobody else may have this local user ID."""
        return user_id == self.sender or _any_matches(_exclusive(self.registration.users), user_id)

    def reserves_alias(self, alias: str) -> bool:
        """Whether nobody else may make or remove this alias."""
        return _any_matches(_exclusive(self.registration.aliases), alias)


class Services:
    """All of them.

    Args:
        files: the registration files of the configuration. They are read at once; what the database holds comes with
            `load`.
        own_account: the user ID of the server's own account, for which no service acts.

    Attributes:
        all: the services that are registered now.
        listening: those of them that are told of things.
        generation: grows after every change of these.
        on_change: called, on the event loop, after a service has come, changed or gone.
        on_call: called when a service makes a request.

    Raises:
        ConfigError: a file cannot be read or used.
    """

    def __init__(
        self, db: Database, clock: Clock, server_name: str, files: Sequence[str], own_account: str = ""
    ) -> None:
        self._db = db
        self._clock = clock
        self._server_name = server_name
        self._own_account = own_account
        self._configured = [_read(file, server_name) for file in files]
        self.all: tuple[Service, ...] = ()
        self.listening: tuple[Service, ...] = ()
        self.generation = 0
        self.on_change: list[Callable[[], None]] = []
        self.on_call: Callable[[Service], None] = lambda service: None
        self._by_token: dict[bytes, Service] = {}
        self._is_loaded = False
        _check_distinct(self._configured)
        self._set(Service(registration, server_name) for registration in self._configured)

    async def load(self) -> None:
        """Take in what the database holds, and see that each service has its user. Once is enough.

        Raises:
            ConfigError: a file of the configuration and a service that was added since have a token in common.
        """

        def step(tx: WriteTransaction) -> list[Service]:
            known = {row.service_id: row for row in appservices.all_services(tx)}
            configured = {registration.id for registration in self._configured}
            found = []
            for registration in self._configured:
                row = known.get(registration.id)
                is_new = row is None or row.registration is not None
                nid = appservices.put(tx, registration.id, b"", None) if row is None or is_new else row.nid
                found.append(Service(registration, self._server_name, nid))
            for row in known.values():
                if row.service_id in configured:
                    continue
                if row.registration is None:  # its file is not in the configuration any more
                    appservices.remove(tx, row.nid)
                    continue
                try:
                    registration = stored_registration(row.registration, row.token_hash, self._server_name)
                except RegistrationError as error:
                    log.error("the application service %s cannot be used any more: %s", row.service_id, error)
                    continue
                found.append(Service(registration, self._server_name, row.nid, is_configured=False))
            _check_distinct([service.registration for service in found])
            self._make_users(tx, found)
            return found

        if self._is_loaded:
            return
        is_any_stored = self._db.glance(lambda tx: bool(appservices.all_services(tx)))
        if self._configured or is_any_stored:
            self._set(await self._db.write(step))
        self._is_loaded = True

    async def add(self, text: str) -> Service:
        """Register a service while the server runs, or give one that was added so another registration.

        Args:
            text: the registration, YAML.

        Raises:
            RegistrationError: it cannot be used, or clashes with another service.
        """
        registration = parse_registration(text, self._server_name)
        before = self.find(registration.id)
        if before is not None and before.is_configured:
            raise RegistrationError(f"{registration.id} is registered in a file of the configuration: change it there")
        others = [service.registration for service in self.all if service is not before]
        if any(other.token_hash == registration.token_hash for other in others):
            raise RegistrationError("another application service has the same as_token")

        def step(tx: WriteTransaction) -> Service:
            nid = appservices.put(tx, registration.id, registration.token_hash, registration.stored)
            service = Service(registration, self._server_name, nid, is_configured=False)
            self._make_users(tx, [service])
            tx.on_commit(lambda: self._set([*(each for each in self.all if each.id != service.id), service]))
            return service

        return await self._db.write(step)

    async def remove(self, service_id: str) -> bool:
        """Forget a service that was added while the server ran, and what it is owed; its users stay.

        Returns:
            Whether there was one.

        Raises:
            RegistrationError: it stands in the configuration.
        """
        service = self.find(service_id)
        if service is None:
            return False
        if service.is_configured:
            raise RegistrationError(f"{service_id} is registered in a file of the configuration: take it out there")

        def step(tx: WriteTransaction) -> None:
            appservices.remove(tx, service.nid)
            tx.on_commit(lambda: self._set([each for each in self.all if each.nid != service.nid]))

        await self._db.write(step)
        return True

    def _set(self, services: Iterable[Service]) -> None:
        self.all = tuple(services)
        for service in self.all:
            service.not_owned = self._own_account
        self.listening = tuple(service for service in self.all if service.registration.url is not None)
        self._by_token = {service.registration.token_hash: service for service in self.all}
        self.generation += 1
        for tell in self.on_change:
            tell()

    def _make_users(self, tx: WriteTransaction, services: Iterable[Service]) -> None:
        for service in services:
            if accounts.find(tx, service.sender) is None:
                accounts.add(tx, service.sender, None, self._clock.now_ms())

    def of_token(self, token_hash: bytes) -> Service | None:
        """The service whose `as_token` has this SHA-256, which a request has brought; or None."""
        service = self._by_token.get(token_hash)
        if service is not None:
            self.on_call(service)
        return service

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


def _check_distinct(registrations: Sequence[Registration]) -> None:
    ids: set[str] = set()
    tokens: dict[bytes, str] = {}
    for each in registrations:
        if each.id in ids:
            raise ConfigError(f"appservices.files: two application services have the id {each.id}")
        if each.token_hash in tokens:
            raise ConfigError(f"appservices.files: {tokens[each.token_hash]} and {each.id} have the same as_token")
        ids.add(each.id)
        tokens[each.token_hash] = each.id


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
