"""Binding addresses at identity servers."""

from __future__ import annotations

from typing import Literal

import msgspec

from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.identity.bindings import Bindings, Proof
from tinyserver.threepids.contacts import Contacts

_V3 = "/_matrix/client/v3"
_SPEC = "client-server-api#adding-account-administrative-contact-information"


class BindBody(msgspec.Struct):
    """A session at an identity server in which an address was proved."""

    client_secret: str
    id_server: str
    id_access_token: str
    sid: str


class CredentialsBody(msgspec.Struct):
    """The same as older clients send it."""

    three_pid_creds: BindBody


class AddressBody(msgspec.Struct):
    """An address of the account."""

    medium: Literal["email", "msisdn"]
    address: str
    id_server: str | None = None


class BindingsApi:
    """What has to do with identity servers."""

    surface = Surface.CLIENT

    def __init__(self, bindings: Bindings, contacts: Contacts) -> None:
        self._bindings = bindings
        self._contacts = contacts

    @endpoint(
        "POST",
        f"{_V3}/account/3pid/bind",
        spec=_SPEC,
        auth=Auth.USER,
        body=BindBody,
        limit=Limit.OTHER,
        suspended=False,
    )
    async def bind(self, call: Call[BindBody, NoQuery]) -> Answer:
        """Bind an address."""
        await self._bindings.bind(call.requester, _proof(call.body))
        return {}

    @endpoint(
        "POST",
        f"{_V3}/account/3pid",
        spec=_SPEC,
        auth=Auth.USER,
        body=CredentialsBody,
        limit=Limit.OTHER,
        suspended=False,
    )
    async def post(self, call: Call[CredentialsBody, NoQuery]) -> Answer:
        """Bind an address, as older clients ask for it."""
        await self._bindings.bind(call.requester, _proof(call.body.three_pid_creds))
        return {}

    @endpoint(
        "POST",
        f"{_V3}/account/3pid/unbind",
        spec=_SPEC,
        auth=Auth.USER,
        body=AddressBody,
        limit=Limit.OTHER,
    )
    async def unbind(self, call: Call[AddressBody, NoQuery]) -> Answer:
        """Take a binding back."""
        return {"id_server_unbind_result": await self._unbound(call)}

    @endpoint(
        "POST",
        f"{_V3}/account/3pid/delete",
        spec=_SPEC,
        auth=Auth.USER,
        body=AddressBody,
        limit=Limit.OTHER,
        suspended=False,
    )
    async def delete(self, call: Call[AddressBody, NoQuery]) -> Answer:
        """Take an address from the account, and its bindings back."""
        await self._contacts.remove(call.requester.user_nid, call.body.medium, call.body.address)
        return {"id_server_unbind_result": await self._unbound(call)}

    async def _unbound(self, call: Call[AddressBody, NoQuery]) -> str:
        body, requester = call.body, call.requester
        done = await self._bindings.unbind(
            requester.user_id, requester.user_nid, body.medium, body.address, body.id_server
        )
        return unbind_result(done)


def unbind_result(done: bool) -> str:
    """`id_server_unbind_result` as clients are told it."""
    return "success" if done else "no-support"


def _proof(body: BindBody) -> Proof:
    return Proof(body.id_server, body.id_access_token, body.sid, body.client_secret)
