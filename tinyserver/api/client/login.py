"""Logging in and out, refreshing tokens."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.accounts.login import LoggedIn, Login
from tinyserver.accounts.sessions import NewSession, Sessions
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.client.session_answers import origin_of, session_answer, token_answer
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.api.web.sso import sso_flow
from tinyserver.appservices.accounts import SERVICE_LOGIN, ServiceAccounts
from tinyserver.protocol.errors import MissingParam, Unknown

_SPEC = "client-server-api#legacy-login"


class LoginBody(msgspec.Struct):
    """The body of `POST /login`; `user`, `medium` and `address` are how old clients say who they are."""

    type: str
    identifier: dict[str, Any] | None = None
    user: str | None = None
    medium: str | None = None
    address: str | None = None
    password: str | None = None
    token: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    refresh_token: bool | None = None


class RefreshBody(msgspec.Struct):
    """The body of `POST /refresh`."""

    refresh_token: str


class AuthBody(msgspec.Struct):
    """A body of which only the `auth` object matters."""

    auth: dict[str, Any] | None = None


class LoginApi:
    """The login chapter."""

    surface = Surface.CLIENT

    def __init__(self, login: Login, service_accounts: ServiceAccounts, sessions: Sessions, server_name: str) -> None:
        self._login = login
        self._service_accounts = service_accounts
        self._sessions = sessions
        self._flows = [
            sso_flow(server_name),
            {"type": "m.login.password"},
            {"type": "m.login.token", "get_login_token": True},
            {"type": SERVICE_LOGIN},
        ]

    @endpoint("GET", "/_matrix/client/v3/login", spec=_SPEC, auth=Auth.NONE, limit=Limit.OTHER)
    async def flows(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The ways to log in."""
        return {"flows": self._flows}

    @endpoint("POST", "/_matrix/client/v3/login", spec=_SPEC, auth=Auth.NONE, body=LoginBody, limit=Limit.LOGIN_ADDRESS)
    async def login(self, call: Call[LoginBody, NoQuery]) -> Answer:
        """Log in."""
        body = call.body
        wanted = NewSession(
            body.device_id or None, body.initial_device_display_name, bool(body.refresh_token), origin_of(call)
        )
        logged_in = await self._log_in(call, wanted)
        return session_answer(logged_in.user_id, logged_in.tokens)

    async def _log_in(self, call: Call[LoginBody, NoQuery], wanted: NewSession) -> LoggedIn:
        body = call.body
        if body.type == SERVICE_LOGIN:
            return await self._service_accounts.log_in(call.access_token, _identifier(body), wanted)
        if body.type == "m.login.token":
            if body.token is None:
                raise MissingParam("'token' is missing.")
            return await self._login.with_token(body.token, wanted)
        if body.type != "m.login.password":
            raise Unknown("This server does not support this type of login.", status=400)
        if body.password is None:
            raise MissingParam("'password' is missing.")
        return await self._login.with_password(_identifier(body), body.password, wanted)

    @endpoint(
        "POST",
        "/_matrix/client/v1/login/get_token",
        spec=_SPEC,
        auth=Auth.USER,
        body=AuthBody,
        limit=Limit.LOGIN_ACCOUNT,
        body_optional=True,
    )
    async def get_token(self, call: Call[AuthBody, NoQuery]) -> Answer:
        """A token with which another device of the user can log in."""
        token, expires_in_ms = await self._login.new_token(call.requester, call.body.auth)
        return {"login_token": token, "expires_in_ms": expires_in_ms}

    @endpoint(
        "POST",
        "/_matrix/client/v3/refresh",
        spec="client-server-api#refreshing-access-tokens",
        auth=Auth.NONE,
        body=RefreshBody,
        limit=Limit.OTHER,
    )
    async def refresh(self, call: Call[RefreshBody, NoQuery]) -> Answer:
        """New tokens for a refresh token."""
        return token_answer(await self._sessions.refresh(call.body.refresh_token))

    @endpoint("POST", "/_matrix/client/v3/logout", spec=_SPEC, auth=Auth.USER, guests=True)
    async def logout(self, call: Call[NoBody, NoQuery]) -> Answer:
        """End this session and delete its device."""
        await self._sessions.logout(call.requester)
        return {}

    @endpoint("POST", "/_matrix/client/v3/logout/all", spec=_SPEC, auth=Auth.USER, guests=True)
    async def logout_all(self, call: Call[NoBody, NoQuery]) -> Answer:
        """End all sessions of the user and delete all devices."""
        await self._sessions.logout_all(call.requester)
        return {}


def _identifier(body: LoginBody) -> dict[str, Any]:
    """The user identifier object, made from the old keys where a client still sends those."""
    if body.identifier is not None:
        return body.identifier
    if body.user is not None:
        return {"type": "m.id.user", "user": body.user}
    if body.medium is not None:
        return {"type": "m.id.thirdparty", "medium": body.medium, "address": body.address}
    raise MissingParam("'identifier' is missing.")
