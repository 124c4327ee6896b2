"""Account data and tags."""

from __future__ import annotations

from typing import Any

from tinyserver.accounts.account_data import AccountData
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint

_SPEC = "client-server-api#client-config"
_TAGS_SPEC = "client-server-api#room-tagging"
_GLOBAL = "/_matrix/client/v3/user/{userId}/account_data/{type}"
_ROOM = "/_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}"
_TAGS = "/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags"


_MSC3391 = "/_matrix/client/unstable/org.matrix.msc3391"
_DELETE_GLOBAL = _MSC3391 + "/user/{userId}/account_data/{type}"
_DELETE_FOR_ROOM = _MSC3391 + "/user/{userId}/rooms/{roomId}/account_data/{type}"


class AccountDataApi:
    """The client config chapter and the room tagging chapter."""

    surface = Surface.CLIENT

    def __init__(self, account_data: AccountData) -> None:
        self._account_data = account_data

    @endpoint("GET", _GLOBAL, spec=_SPEC, auth=Auth.USER)
    async def get_global(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Global data of one type."""
        return await self._account_data.get(call.requester, call.path["userId"], None, call.path["type"])

    @endpoint("PUT", _GLOBAL, spec=_SPEC, auth=Auth.USER, body=dict, limit=Limit.OTHER)
    async def put_global(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Store global data of one type."""
        path = call.path
        await self._account_data.put(call.requester, path["userId"], None, path["type"], call.body)
        return {}

    @endpoint("GET", _ROOM, spec=_SPEC, auth=Auth.USER)
    async def get_for_room(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Data of one type for a room."""
        path = call.path
        return await self._account_data.get(call.requester, path["userId"], path["roomId"], path["type"])

    @endpoint("PUT", _ROOM, spec=_SPEC, auth=Auth.USER, body=dict, limit=Limit.OTHER)
    async def put_for_room(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Store data of one type for a room."""
        path = call.path
        await self._account_data.put(call.requester, path["userId"], path["roomId"], path["type"], call.body)
        return {}

    @endpoint("DELETE", _DELETE_GLOBAL, spec="MSC3391", auth=Auth.USER, limit=Limit.OTHER)
    async def delete_global(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Delete global data of one type."""
        await self._account_data.delete(call.requester, call.path["userId"], None, call.path["type"])
        return {}

    @endpoint("DELETE", _DELETE_FOR_ROOM, spec="MSC3391", auth=Auth.USER, limit=Limit.OTHER)
    async def delete_for_room(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Delete data of one type for a room."""
        path = call.path
        await self._account_data.delete(call.requester, path["userId"], path["roomId"], path["type"])
        return {}

    @endpoint("GET", _TAGS, spec=_TAGS_SPEC, auth=Auth.USER)
    async def get_tags(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The tags of a room."""
        return {"tags": await self._account_data.tags(call.requester, call.path["userId"], call.path["roomId"])}

    @endpoint(
        "PUT",
        _TAGS + "/{tag}",
        spec=_TAGS_SPEC,
        auth=Auth.USER,
        body=dict,
        body_optional=True,
        limit=Limit.OTHER,
    )
    async def put_tag(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Tag a room."""
        path = call.path
        await self._account_data.put_tag(call.requester, path["userId"], path["roomId"], path["tag"], call.body)
        return {}

    @endpoint("DELETE", _TAGS + "/{tag}", spec=_TAGS_SPEC, auth=Auth.USER, limit=Limit.OTHER)
    async def delete_tag(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Take a tag off a room."""
        path = call.path
        await self._account_data.remove_tag(call.requester, path["userId"], path["roomId"], path["tag"])
        return {}
