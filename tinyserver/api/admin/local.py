"""What the command line asks of a running server, over a socket in the data directory.

Only the socket's owner can open it, so whoever comes this way may do what it offers; nothing here is part of Matrix.
"""

from __future__ import annotations

import msgspec

from tinyserver.accounts.registration import Registration
from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.routing import Answer, Auth, Surface, endpoint

CREATE_USER = "/_tinyserver/local/users"


class NewUser(msgspec.Struct):
    """An account to be made."""

    name: str
    password: str
    admin: bool = False


class LocalApi:
    """The endpoints of the local socket. They ask for no token: they must never be on another listener."""

    surface = Surface.ADMIN

    def __init__(self, registration: Registration) -> None:
        self._registration = registration

    @endpoint("POST", CREATE_USER, spec="tinyserver#local-socket", auth=Auth.NONE, body=NewUser)
    async def create_user(self, call: Call[NewUser, NoQuery]) -> Answer:
        """Make an account, whatever the registration mode is."""
        user = call.body
        made = await self._registration.register_trusted(user.name, user.password, None, admin=user.admin)
        return {"user_id": made.user_id}
