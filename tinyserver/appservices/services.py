"""The application services that are registered, and what belongs to which of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from tinyserver.protocol.errors import Exclusive
from tinyserver.protocol.identifiers import domain_of
from tinyserver.storage import accounts
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import WriteTransaction

_CACHE_BYTES = 200_000
_ENTRY_BYTES = 200


class Service:
    """A registered service.

    Attributes:
        registration: as it stands in its file.
        sender: its own user.
    """

    def __init__(self, registration: Registration, server_name: str) -> None:
        self.registration = registration
        self.sender = f"@{registration.sender_localpart}:{server_name}"
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

    def reserves_user(self, user_id: str) -> bool:
        """Whether nobody else may have this local user ID."""
        return user_id == self.sender or _any_matches(_exclusive(self.registration.users), user_id)

    def reserves_alias(self, alias: str) -> bool:
        """Whether nobody else may make or remove this alias."""
        return _any_matches(_exclusive(self.registration.aliases), alias)


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
        registrations = [_read(file, server_name) for file in files]
        _check_distinct(registrations)
        self.all = tuple(Service(registration, server_name) for registration in registrations)
        self._by_token = {digest(service.registration.as_token): service for service in self.all}

    async def start(self) -> None:
        """See that each service has its user."""

        def step(tx: WriteTransaction) -> None:
            for service in self.all:
                if accounts.find(tx, service.sender) is None:
                    accounts.add(tx, service.sender, None, self._clock.now_ms())

        if self.all:
            await self._db.write(step)

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


def _check_distinct(registrations: Sequence[Registration]) -> None:
    ids: set[str] = set()
    tokens: dict[str, str] = {}
    for each in registrations:
        if each.id in ids:
            raise ConfigError(f"appservices.files: two application services have the id {each.id}")
        if each.as_token in tokens:
            raise ConfigError(f"appservices.files: {tokens[each.as_token]} and {each.id} have the same as_token")
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
