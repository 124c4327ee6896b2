"""Networks that bridges lead to.

spec: client-server-api#third-party-networks
"""

from __future__ import annotations

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.appservices.networks import Networks

_PATH = "/_matrix/client/v3/thirdparty"
_SPEC = "client-server-api#get_matrixclientv3thirdparty"
_LIMIT = Limit.SEARCH


class AliasQuery(msgspec.Struct):
    """The query of `GET /thirdparty/location`."""

    alias: str


class UserQuery(msgspec.Struct):
    """The query of `GET /thirdparty/user`."""

    userid: str


class ThirdPartyApi:
    """The endpoints."""

    surface = Surface.CLIENT

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    @endpoint("GET", f"{_PATH}/protocols", spec=f"{_SPEC}protocols", auth=Auth.USER, limit=_LIMIT)
    async def protocols(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All protocols."""
        return await self._networks.protocols()

    @endpoint(
        "GET", _PATH + "/protocol/{protocol}", spec=f"{_SPEC}protocolprotocol", auth=Auth.USER, limit=Limit.SEARCH
    )
    async def protocol(self, call: Call[NoBody, NoQuery]) -> Answer:
        """One protocol."""
        return await self._networks.protocol(call.path["protocol"])

    @endpoint(
        "GET", _PATH + "/location/{protocol}", spec=f"{_SPEC}locationprotocol", auth=Auth.USER, limit=Limit.SEARCH
    )
    async def find_locations(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Locations by fields."""
        return await self._networks.find("location", call.path["protocol"], _fields(call))

    @endpoint("GET", _PATH + "/user/{protocol}", spec=f"{_SPEC}userprotocol", auth=Auth.USER, limit=_LIMIT)
    async def find_users(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Users by fields."""
        return await self._networks.find("user", call.path["protocol"], _fields(call))

    @endpoint("GET", f"{_PATH}/location", spec=f"{_SPEC}location", auth=Auth.USER, query=AliasQuery, limit=_LIMIT)
    async def locations_of_alias(self, call: Call[NoBody, AliasQuery]) -> Answer:
        """The locations of an alias."""
        return await self._networks.of_alias(call.query.alias)

    @endpoint("GET", f"{_PATH}/user", spec=f"{_SPEC}user", auth=Auth.USER, query=UserQuery, limit=_LIMIT)
    async def users_of_user(self, call: Call[NoBody, UserQuery]) -> Answer:
        """The users of networks behind a user ID."""
        return await self._networks.of_user(call.query.userid)


def _fields(call: Call[NoBody, NoQuery]) -> list[tuple[str, str]]:
    """What the query of a search says of fields: all but what says who asks."""
    who = {"access_token"} if call.requester.appservice is None else {"access_token", "user_id", "device_id"}
    return [(name, value) for name, values in call.query_parameters.items() if name not in who for value in values]
