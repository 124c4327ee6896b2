"""Making accounts over the client-server API."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tinyserver.accounts.registration import Registration, RegistrationRequest
from tinyserver.accounts.sessions import NewSession
from tinyserver.api.calls import Call, NoBody
from tinyserver.api.client.session_answers import origin_of, session_answer
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.appservices.accounts import SERVICE_LOGIN, ServiceAccounts

_SPEC = "client-server-api#legacy-account-registration"


class RegisterBody(msgspec.Struct):
    """The body of `POST /register`."""

    type: str | None = None
    auth: dict[str, Any] | None = None
    username: str | None = None
    password: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    inhibit_login: bool | None = None
    refresh_token: bool | None = None
    guest_access_token: str | None = None


class RegisterQuery(msgspec.Struct):
    """Which kind of account is wanted."""

    kind: Literal["user", "guest"] = "user"


class UsernameQuery(msgspec.Struct):
    """The name that is asked about."""

    username: str


class TokenQuery(msgspec.Struct):
    """The registration token that is asked about."""

    token: str


class RegistrationApi:
    """The registration chapter."""

    surface = Surface.CLIENT

    def __init__(self, registration: Registration, service_accounts: ServiceAccounts) -> None:
        self._registration = registration
        self._service_accounts = service_accounts

    @endpoint(
        "POST",
        "/_matrix/client/v3/register",
        spec=_SPEC,
        auth=Auth.NONE,
        body=RegisterBody,
        query=RegisterQuery,
        limit=Limit.REGISTRATION,
        body_optional=True,
    )
    async def register(self, call: Call[RegisterBody, RegisterQuery]) -> Answer:
        """Register an account, or a guest."""
        body, origin = call.body, origin_of(call)
        if call.query.kind == "guest":
            guest = NewSession(None, body.initial_device_display_name, can_refresh=False, origin=origin)
            registered = await self._registration.register_guest(guest)
        else:
            session = None
            if not body.inhibit_login:
                session = NewSession(
                    body.device_id or None, body.initial_device_display_name, bool(body.refresh_token), origin
                )
            if body.type == SERVICE_LOGIN:
                registered = await self._service_accounts.register(call.access_token, body.username, session)
            else:
                request = RegistrationRequest(body.username, body.password, session, body.guest_access_token)
                registered = await self._registration.register(request, body.auth)
        return session_answer(registered.user_id, registered.tokens)

    @endpoint(
        "GET",
        "/_matrix/client/v3/register/available",
        spec=_SPEC,
        auth=Auth.NONE,
        query=UsernameQuery,
        limit=Limit.OTHER,
    )
    async def available(self, call: Call[NoBody, UsernameQuery]) -> Answer:
        """Whether a user name can be had."""
        self._registration.check_username(call.query.username)
        return {"available": True}

    @endpoint(
        "GET",
        "/_matrix/client/v1/register/m.login.registration_token/validity",
        spec="client-server-api#token-authenticated-registration",
        auth=Auth.NONE,
        query=TokenQuery,
        limit=Limit.REGISTRATION,
    )
    async def token_validity(self, call: Call[NoBody, TokenQuery]) -> Answer:
        """Whether a registration token is good for an account."""
        return {"valid": self._registration.is_valid_token(call.query.token)}
