"""The account itself: who am I, changing the password, closing the account, who is logged in."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.accounts.management import AccountManagement
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.client.bindings import unbind_result
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint


class PasswordBody(msgspec.Struct):
    """The body of `POST /account/password`."""

    new_password: str
    logout_devices: bool | None = None
    auth: dict[str, Any] | None = None


class DeactivateBody(msgspec.Struct):
    """The body of `POST /account/deactivate`."""

    auth: dict[str, Any] | None = None
    id_server: str | None = None
    erase: bool | None = None


class AccountApi:
    """The account management chapter."""

    surface = Surface.CLIENT

    def __init__(self, management: AccountManagement) -> None:
        self._management = management

    @endpoint(
        "GET",
        "/_matrix/client/v3/account/whoami",
        spec="client-server-api#current-account-information",
        auth=Auth.USER,
        guests=True,
        limit=Limit.OTHER,
    )
    async def whoami(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Whose access token this is."""
        requester = call.requester
        answer: dict[str, Any] = {"user_id": requester.user_id, "is_guest": requester.is_guest}
        if requester.device_id is not None:
            answer["device_id"] = requester.device_id
        return answer

    @endpoint(
        "POST",
        "/_matrix/client/v3/account/password",
        spec="client-server-api#password-management",
        auth=Auth.OPTIONAL,
        body=PasswordBody,
        limit=Limit.LOGIN_ADDRESS,
    )
    async def change_password(self, call: Call[PasswordBody, NoQuery]) -> Answer:
        """Change the password; by default all other sessions end."""
        body = call.body
        logout_devices = body.logout_devices is not False
        await self._management.change_password(
            call.optional_requester, body.new_password, body.auth, logout_devices=logout_devices
        )
        return {}

    @endpoint(
        "POST",
        "/_matrix/client/v3/account/deactivate",
        spec="client-server-api#account-deactivation",
        auth=Auth.OPTIONAL,
        body=DeactivateBody,
        limit=Limit.LOGIN_ADDRESS,
        body_optional=True,
    )
    async def deactivate(self, call: Call[DeactivateBody, NoQuery]) -> Answer:
        """Close the account for ever."""
        body = call.body
        unbound = await self._management.deactivate(
            call.optional_requester, body.auth, erase=bool(body.erase), id_server=body.id_server
        )
        return {"id_server_unbind_result": unbind_result(unbound)}

    @endpoint(
        "GET",
        "/_matrix/client/v3/admin/whois/{userId}",
        spec="client-server-api#server-administration",
        auth=Auth.USER,
    )
    async def whois(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Where a user is logged in."""
        return await self._management.whois(call.requester, call.path["userId"])
