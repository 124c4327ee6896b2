"""Profiles."""

from __future__ import annotations

from typing import Any

from tinyserver.accounts.profiles import MAX_PROFILE_BYTES, Profiles
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint

_SPEC = "client-server-api#profiles"
_PROFILE = "/_matrix/client/v3/profile/{userId}"
_FIELD = "/_matrix/client/v3/profile/{userId}/{keyName}"
_MAX_BODY = 4 * MAX_PROFILE_BYTES  # what is a little too large still gets the error that says so


class ProfileApi:
    """The profile chapter."""

    surface = Surface.CLIENT

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles

    @endpoint("GET", _PROFILE, spec=_SPEC, auth=Auth.NONE, limit=Limit.OTHER)
    async def get_profile(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All fields of a user."""
        return await self._profiles.get(call.path["userId"])

    @endpoint("GET", _FIELD, spec=_SPEC, auth=Auth.NONE, limit=Limit.OTHER)
    async def get_field(self, call: Call[NoBody, NoQuery]) -> Answer:
        """One field of a user."""
        return await self._profiles.get_field(call.path["userId"], call.path["keyName"])

    @endpoint(
        "PUT",
        _FIELD,
        spec=_SPEC,
        auth=Auth.USER,
        body=dict,
        limit=Limit.PROFILE,
        guests=True,
        max_body=_MAX_BODY,
        suspended=False,
    )
    async def put_field(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Set one field of the user's own profile."""
        await self._profiles.put_field(call.requester, call.path["userId"], call.path["keyName"], call.body)
        return {}

    @endpoint("DELETE", _FIELD, spec=_SPEC, auth=Auth.USER, limit=Limit.PROFILE, guests=True, suspended=False)
    async def delete_field(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Delete one field of the user's own profile."""
        await self._profiles.delete_field(call.requester, call.path["userId"], call.path["keyName"])
        return {}
