"""What the command line asks of a running server, over a socket in the data directory.

Only the socket's owner can open it, so whoever comes this way may do what it offers; nothing here is part of Matrix.
"""

from __future__ import annotations

from dataclasses import asdict

import msgspec

from tinyserver.accounts.registration import Registration
from tinyserver.accounts.registration_tokens import RegistrationTokens
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.federation.overview import FederationOverview
from tinyserver.protocol.errors import NotFound

CREATE_USER = "/_tinyserver/local/users"
TOKENS = "/_tinyserver/local/registration_tokens"
DESTINATIONS = "/_tinyserver/local/destinations"


class NewUser(msgspec.Struct):
    """An account to be made."""

    name: str
    password: str
    admin: bool = False


class NewToken(msgspec.Struct):
    """A registration token to be made; `uses_allowed` None is any number, `expires` is in ms since 1970."""

    token: str | None = None
    uses_allowed: int | None = None
    expires: int | None = None


class LocalApi:
    """The endpoints of the local socket. They ask for no token: they must never be on another listener."""

    surface = Surface.ADMIN

    def __init__(self, registration: Registration, tokens: RegistrationTokens) -> None:
        self._registration = registration
        self._tokens = tokens

    @endpoint("POST", CREATE_USER, spec="tinyserver#local-socket", auth=Auth.NONE, body=NewUser)
    async def create_user(self, call: Call[NewUser, NoQuery]) -> Answer:
        """Make an account, whatever the registration mode is."""
        user = call.body
        made = await self._registration.register_trusted(user.name, user.password, None, admin=user.admin)
        return {"user_id": made.user_id}

    @endpoint("POST", TOKENS, spec="tinyserver#local-socket", auth=Auth.NONE, body=NewToken)
    async def create_token(self, call: Call[NewToken, NoQuery]) -> Answer:
        """Make a registration token."""
        new = call.body
        token = await self._tokens.create(new.token, uses_allowed=new.uses_allowed, expires=new.expires)
        return {"token": token}

    @endpoint("GET", TOKENS, spec="tinyserver#local-socket", auth=Auth.NONE)
    async def list_tokens(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All registration tokens."""
        return {"tokens": [asdict(row) for row in await self._tokens.all()]}

    @endpoint("DELETE", TOKENS + "/{token}", spec="tinyserver#local-socket", auth=Auth.NONE)
    async def remove_token(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Take a registration token back."""
        if not await self._tokens.remove(call.path["token"]):
            raise NotFound("There is no such registration token.")
        return {}


class LocalFederationApi:
    """What the local socket tells of other servers."""

    surface = Surface.ADMIN

    def __init__(self, overview: FederationOverview) -> None:
        self._overview = overview

    @endpoint("GET", DESTINATIONS, spec="tinyserver#local-socket", auth=Auth.NONE)
    async def list_destinations(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The servers that are owed something or fail."""
        return {"destinations": [asdict(state) for state in await self._overview.destinations()]}
