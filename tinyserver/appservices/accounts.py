"""What application services do with accounts: acting for their users, making them, and logging in as them.

spec: application-service-api#identity-assertion, application-service-api#server-admin-style-permissions
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyserver.accounts.authentication import IncomingCall
from tinyserver.accounts.login import LoggedIn, Login
from tinyserver.accounts.registration import Registered
from tinyserver.accounts.requester import Requester
from tinyserver.accounts.sessions import NewSession, Sessions
from tinyserver.accounts.tokens import digest
from tinyserver.appservices.services import Service, Services
from tinyserver.clock import Clock
from tinyserver.protocol.errors import (
    Exclusive,
    Forbidden,
    InvalidUsername,
    MissingParam,
    MissingToken,
    Unknown,
    UnknownDevice,
    UnknownToken,
    UserDeactivated,
    UserInUse,
    UserLocked,
)
from tinyserver.protocol.identifiers import domain_of, is_valid_user_id
from tinyserver.storage import accounts, devices
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

SERVICE_LOGIN = "m.login.application_service"
"""The type of login, and of registration, by which services have sessions of users of theirs."""
_DEVICE_PARAMETERS = ("device_id", "org.matrix.msc3202.device_id")


class Masquerade:
    """Implements `ServiceTokens` of authentication: whom a service acts for."""

    def __init__(self, db: Database, services: Services) -> None:
        self._db = db
        self._services = services

    def requester_of(self, token_hash: bytes, call: IncomingCall) -> Requester | None:
        """The requester where the token is a service's: the user (and device) that the request names.

        Raises:
            Forbidden: a user that is none of the service's, or does not exist.
            UserDeactivated, UserLocked: an account that is closed.
            UnknownDevice: not a device of that user.
        """
        service = self._services.of_token(token_hash)
        if service is None:
            return None
        # Nearly every request names a user; one without a query is the service's own.
        parameters = call.query_parameters if call.scope["query_string"] else {}
        user_id = next(iter(parameters.get("user_id", ())), "") or service.sender
        device_id = next((parameters[name][0] for name in _DEVICE_PARAMETERS if name in parameters), None)
        return self._db.glance(lambda tx: _acting_for(tx, service, user_id, device_id))

    def is_known(self, token_hash: bytes) -> bool:
        """Whether a token is a service's: what it does in its own name is not limited."""
        return self._services.of_token(token_hash) is not None


def _acting_for(tx: ReadTransaction, service: Service, user_id: str, device_id: str | None) -> Requester:
    if not is_valid_user_id(user_id) or not service.owns_user(user_id):
        raise Forbidden("The application service cannot act for a user outside of its namespaces.")
    account = accounts.find(tx, user_id)
    if account is None:
        raise Forbidden("The application service has not registered this user.")
    if account.is_deactivated:
        raise UserDeactivated
    if account.is_locked:
        raise UserLocked
    device = None
    if device_id is not None:
        device = devices.find(tx, account.nid, device_id)
        if device is None:
            raise UnknownDevice("The user has no such device.")
    return Requester(
        user_id=user_id,
        user_nid=account.nid,
        device_id=None if device is None else device.device_id,
        device_nid=None if device is None else device.nid,
        is_admin=account.is_admin,
        appservice=service.id,
        is_rate_limited=service.registration.is_rate_limited and user_id != service.sender,
    )


class ServiceAccounts:
    """Makes accounts of services and opens sessions for them."""

    def __init__(
        self, db: Database, clock: Clock, services: Services, sessions: Sessions, login: Login, server_name: str
    ) -> None:
        self._db = db
        self._clock = clock
        self._services = services
        self._sessions = sessions
        self._login = login
        self._server_name = server_name

    async def register(self, token: str | None, username: str | None, session: NewSession | None) -> Registered:
        """Make an account without a password in a service's namespaces.

        Args:
            token: the access token of the request.
            username: the localpart.

        Raises:
            MissingToken, UnknownToken: the token is none of a service.
            Exclusive: not in the service's namespaces, or in those that another one has for itself.
            UserInUse, InvalidUsername, MissingParam, InvalidParam.
        """
        service = self._service(token)
        if username is None:
            raise MissingParam("'username' is missing.")
        user_id = f"@{username}:{self._server_name}"
        if not username or ":" in username or not is_valid_user_id(user_id):
            raise InvalidUsername
        if not service.owns_user(user_id) or any(
            other is not service and other.reserves_user(user_id) for other in self._services.all
        ):
            raise Exclusive("This name is not in the namespaces of the application service.")
        if session is not None:
            session.check()

        def step(tx: WriteTransaction) -> Registered:
            if accounts.find(tx, user_id) is not None:
                raise UserInUse
            nid = accounts.add(tx, user_id, None, self._clock.now_ms())
            return Registered(user_id, None if session is None else self._sessions.open(tx, nid, session))

        return await self._db.write(step)

    async def log_in(self, token: str | None, identifier: Mapping[str, Any], wanted: NewSession) -> LoggedIn:
        """Open a session for a user in a service's namespaces.

        Raises:
            MissingToken, UnknownToken: the token is none of a service.
            Exclusive: not in the service's namespaces.
            Forbidden: there is no such user.
            Unknown, MissingParam, UserLocked, InvalidParam.
        """
        service = self._service(token)
        wanted.check()
        if identifier.get("type") != "m.id.user":
            raise Unknown("An application service logs in by user ID.", status=400)
        user = identifier.get("user")
        if not isinstance(user, str) or not user:
            raise MissingParam("'user' is missing.")
        user_id = user if user.startswith("@") else f"@{user}:{self._server_name}"
        if not is_valid_user_id(user_id) or domain_of(user_id) != self._server_name or not service.owns_user(user_id):
            raise Exclusive("This name is not in the namespaces of the application service.")
        account = self._db.glance(lambda tx: accounts.find(tx, user_id))
        if account is None:
            raise Forbidden("There is no such user.")
        return await self._login.open(account.nid, wanted)

    def _service(self, token: str | None) -> Service:
        if token is None:
            raise MissingToken
        service = self._services.of_token(digest(token))
        if service is None:
            raise UnknownToken
        return service
