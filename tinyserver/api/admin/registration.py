"""Registration by shared secret, under the path that existing tools use."""

from __future__ import annotations

import msgspec

from tinyserver.accounts.sessions import NewSession
from tinyserver.accounts.shared_secret import SharedSecretRegistration
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.client.session_answers import origin_of, session_answer
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint

_PATH = "/_synapse/admin/v1/register"
_SPEC = "no part of the specification"


class SharedSecretBody(msgspec.Struct):
    """The account that is wanted, and the proof."""

    nonce: str
    username: str
    password: str
    mac: str
    displayname: str | None = None
    admin: bool = False
    user_type: str | None = None
    inhibit_login: bool = False


class SharedSecretApi:
    """Two requests: a nonce, then the account."""

    surface = Surface.ADMIN

    def __init__(self, registration: SharedSecretRegistration) -> None:
        self._registration = registration

    @endpoint("GET", _PATH, spec=_SPEC, auth=Auth.NONE, limit=Limit.OTHER)
    async def nonce(self, call: Call[NoBody, NoQuery]) -> Answer:
        """A nonce for one registration."""
        return {"nonce": self._registration.new_nonce()}

    @endpoint("POST", _PATH, spec=_SPEC, auth=Auth.NONE, body=SharedSecretBody, limit=Limit.OTHER)
    async def register(self, call: Call[SharedSecretBody, NoQuery]) -> Answer:
        """Make the account and log in to it."""
        body = call.body
        session = None if body.inhibit_login else NewSession(None, None, can_refresh=False, origin=origin_of(call))
        registered = await self._registration.register(
            body.nonce,
            body.username,
            body.password,
            body.mac,
            displayname=body.displayname,
            admin=body.admin,
            user_type=body.user_type,
            session=session,
        )
        return session_answer(registered.user_id, registered.tokens)
