"""`/sync`: everything that a client needs to know, and then what is new.

spec: client-server-api#syncing
"""

from typing import Literal

import msgspec

from tinyserver.api.calls import Call, NoBody
from tinyserver.api.routing import Auth, Surface, endpoint
from tinyserver.api.timeouts import seconds
from tinyserver.rooms.tokens import parse_token
from tinyserver.sync.filter_sets import FilterSets
from tinyserver.sync.requests import Reader, SyncRequest
from tinyserver.sync.service import SyncService

UNSTABLE_STATE_AFTER = "org.matrix.msc4222.state_after"


class SyncQuery(msgspec.Struct):
    """The parameters of `/sync`; `timeout` is in milliseconds."""

    filter: str | None = None
    since: str | None = None
    timeout: int = 0
    full_state: bool = False
    set_presence: Literal["online", "offline", "unavailable"] = "online"
    use_state_after: bool = False
    unstable_use_state_after: bool = msgspec.field(name="org.matrix.msc4222.use_state_after", default=False)


class SyncApi:
    """The endpoint of `/sync`.

    :param sync: finds out what is new.
    :param filter_sets: the filters that requests name.
    """

    surface = Surface.CLIENT

    def __init__(self, sync: SyncService, filter_sets: FilterSets) -> None:
        self._sync = sync
        self._filter_sets = filter_sets

    @endpoint(
        "GET",
        "/_matrix/client/v3/sync",
        spec="client-server-api#get_matrixclientv3sync",
        auth=Auth.USER,
        query=SyncQuery,
        guests=True,
        long_poll=True,
    )
    async def sync(self, call: Call[NoBody, SyncQuery]) -> bytes:
        """What is new since the token of the last answer, waiting for it if there is nothing."""
        query, requester = call.query, call.requester
        state_after = ["state_after"] if query.use_state_after else []
        if query.unstable_use_state_after:
            state_after.append(UNSTABLE_STATE_AFTER)
        request = SyncRequest(
            Reader(requester.user_id, requester.user_nid, requester.device_nid),
            self._filter_sets.get(requester.user_nid, query.filter),
            parse_token(query.since, "since") if query.since else None,
            seconds(query.timeout),
            query.full_state,
            query.set_presence,
            tuple(state_after),
        )
        return await self._sync.sync(request)
