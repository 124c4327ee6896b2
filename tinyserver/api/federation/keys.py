"""The keys of this server, and those of others as far as they are known.

spec: server-server-api#retrieving-server-keys
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit, RateLimiter, address_key
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.federation.notary import ALL_KEYS, Notary
from tinyserver.federation.signing_identity import SigningIdentity

_SPEC = "server-server-api#querying-keys-through-another-server"


class Criteria(msgspec.Struct):
    """What a list of keys must fulfil: valid until then (ms)."""

    minimum_valid_until_ts: int | None = None


class KeyQuery(msgspec.Struct):
    """Which keys are wanted: server name -> key ID -> criteria."""

    server_keys: dict[str, dict[str, Criteria]]


class KeysApi:
    """Key server endpoints; none of them is authenticated.

    :param identity: this server's own keys.
    :param notary: those of others.
    :param limiter: each server asked about counts, as we may have to ask it.
    """

    surface = Surface.FEDERATION

    def __init__(self, identity: SigningIdentity, notary: Notary, limiter: RateLimiter) -> None:
        self._identity = identity
        self._notary = notary
        self._limiter = limiter

    @endpoint("GET", "/_matrix/key/v2/server/{keyId?}", spec="server-server-api#get_matrixkeyv2server", auth=Auth.NONE)
    async def get_server_keys(self, call: Call[NoBody, NoQuery]) -> Answer:
        """This server's keys. A key ID, which old servers append, changes nothing: all keys are told."""
        return self._identity.document()

    @endpoint("GET", "/_matrix/key/v2/query/{serverName}", spec=_SPEC, auth=Auth.NONE, query=Criteria)
    async def get_query(self, call: Call[NoBody, Criteria]) -> Answer:
        """The keys of one server."""
        return await self._answer(call, {call.path["serverName"]: {ALL_KEYS: call.query.minimum_valid_until_ts}})

    @endpoint("GET", "/_matrix/key/v2/query/{serverName}/{keyId}", spec=_SPEC, auth=Auth.NONE, query=Criteria)
    async def get_query_key(self, call: Call[NoBody, Criteria]) -> Answer:
        """The keys of one server, of which one is wanted: the form of old servers."""
        wanted = {call.path["serverName"]: {call.path["keyId"]: call.query.minimum_valid_until_ts}}
        return await self._answer(call, wanted)

    @endpoint("POST", "/_matrix/key/v2/query", spec=_SPEC, auth=Auth.NONE, body=KeyQuery)
    async def post_query(self, call: Call[KeyQuery, NoQuery]) -> Answer:
        """The keys of several servers."""
        wanted = {
            server: {key_id: criteria.minimum_valid_until_ts for key_id, criteria in keys.items()}
            for server, keys in call.body.server_keys.items()
        }
        return await self._answer(call, wanted)

    async def _answer(self, call: Call[object, object], wanted: Mapping[str, Mapping[str, int | None]]) -> Answer:
        for _ in wanted:
            self._limiter.spend(Limit.KEY_QUERY, address_key(call.client_address))
        return {"server_keys": await self._notary.query(wanted)}
