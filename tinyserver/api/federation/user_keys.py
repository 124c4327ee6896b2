"""Keys of this server's users for other servers: device lists, identity keys, one-time keys.

spec: server-server-api#device-management, server-server-api#end-to-end-encryption
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.encryption.device_keys import DeviceKeys
from tinyserver.protocol.errors import InvalidParam, NotFound
from tinyserver.protocol.identifiers import domain_of, is_valid_user_id

_V1 = "/_matrix/federation/v1"
MAX_QUERY_BODY = 4 * 1024 * 1024


class KeysQuery(msgspec.Struct):
    """Device IDs by user ID; none: all devices."""

    device_keys: dict[str, list[str]]


class KeysClaim(msgspec.Struct):
    """Algorithms by user and device ID."""

    one_time_keys: dict[str, dict[str, str]]


class UserKeysApi:
    """Answers for other servers.

    :param keys: the keys of this server's users.
    :param server_name: this server: it answers for nobody else.
    """

    surface = Surface.FEDERATION

    def __init__(self, keys: DeviceKeys, server_name: str) -> None:
        self._keys = keys
        self._server_name = server_name

    @endpoint(
        "GET",
        _V1 + "/user/devices/{userId}",
        spec="server-server-api#get_matrixfederationv1userdevicesuserid",
        auth=Auth.SERVER,
    )
    async def devices(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All devices of a user that have keys."""
        user_id = call.path["userId"]
        self._check([user_id])
        found = await self._keys.list_of_local_user(user_id)
        if found is None:
            raise NotFound("There is no such user.")
        return found

    @endpoint(
        "POST",
        _V1 + "/user/keys/query",
        spec="server-server-api#post_matrixfederationv1userkeysquery",
        auth=Auth.SERVER,
        body=KeysQuery,
        max_body=MAX_QUERY_BODY,
    )
    async def query(self, call: Call[KeysQuery, NoQuery]) -> Answer:
        """The identity keys of users."""
        self._check(call.body.device_keys)
        found = await self._keys.of_local_users(call.body.device_keys, None)
        return {
            "device_keys": found.device_keys,
            "master_keys": found.master_keys,
            "self_signing_keys": found.self_signing_keys,
        }

    @endpoint(
        "POST",
        _V1 + "/user/keys/claim",
        spec="server-server-api#post_matrixfederationv1userkeysclaim",
        auth=Auth.SERVER,
        body=KeysClaim,
        max_body=MAX_QUERY_BODY,
    )
    async def claim(self, call: Call[KeysClaim, NoQuery]) -> Answer:
        """One-time keys of devices, each given out once."""
        self._check(call.body.one_time_keys)
        return {"one_time_keys": await self._keys.claim_of_local_users(call.body.one_time_keys)}

    def _check(self, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            if not is_valid_user_id(user_id) or domain_of(user_id) != self._server_name:
                raise InvalidParam(f"{user_id[:300]!r} is not a user of {self._server_name}.")
