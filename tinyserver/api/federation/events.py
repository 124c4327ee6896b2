"""Events and states of rooms for servers that lack them.

spec: server-server-api#retrieving-events, server-server-api#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

from typing import Literal

import msgspec
import orjson

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.long_answers import json_text
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.clock import Clock
from tinyserver.federation.serving.history import MissingQuery, ServedHistory
from tinyserver.federation.serving.state import RoomStates

_V1 = "/_matrix/federation/v1"


class AtEvent(msgspec.Struct):
    """The event at which a state is wanted."""

    event_id: str


class BackfillQuery(msgspec.Struct):
    """From which events back, and how many."""

    v: list[str]
    limit: int


class MomentQuery(msgspec.Struct):
    """A moment, and in which direction from it an event is wanted."""

    ts: int
    dir: Literal["f", "b"]


class MissingBody(msgspec.Struct):
    """What a server lacks, between events that it has."""

    latest_events: list[str]
    earliest_events: list[str]
    limit: int = 10
    min_depth: int = 0


class EventsApi:
    """Reading what this server has of a room.

    :param history: events.
    :param states: states.
    :param server_name: this server.
    :param clock: the time, which answers carry.
    """

    surface = Surface.FEDERATION

    def __init__(self, history: ServedHistory, states: RoomStates, server_name: str, clock: Clock) -> None:
        self._history = history
        self._states = states
        self._origin = orjson.dumps(server_name)
        self._clock = clock

    @endpoint(
        "GET",
        _V1 + "/event/{eventId}",
        spec="server-server-api#get_matrixfederationv1eventeventid",
        auth=Auth.SERVER,
    )
    async def get_event(self, call: Call[NoBody, NoQuery]) -> Answer:
        """One event."""
        return self._transaction([await self._history.event(call.origin, call.path["eventId"])])

    @endpoint(
        "GET",
        _V1 + "/event_auth/{roomId}/{eventId}",
        spec="server-server-api#get_matrixfederationv1event_authroomideventid",
        auth=Auth.SERVER,
    )
    async def get_event_auth(self, call: Call[NoBody, NoQuery]) -> Answer:
        """What authorises an event."""
        chain = await self._history.auth_chain(call.origin, call.path["roomId"], call.path["eventId"])
        return json_text(b'{"auth_chain":[', chain, b"]}")

    @endpoint(
        "GET",
        _V1 + "/state/{roomId}",
        spec="server-server-api#get_matrixfederationv1stateroomid",
        auth=Auth.SERVER,
        query=AtEvent,
    )
    async def get_state(self, call: Call[NoBody, AtEvent]) -> Answer:
        """The state before an event."""
        found = await self._states.state(call.origin, call.path["roomId"], call.query.event_id)
        return json_text(b'{"auth_chain":[', found.auth_chain, b'],"pdus":[', found.state, b"]}")

    @endpoint(
        "GET",
        _V1 + "/state_ids/{roomId}",
        spec="server-server-api#get_matrixfederationv1state_idsroomid",
        auth=Auth.SERVER,
        query=AtEvent,
    )
    async def get_state_ids(self, call: Call[NoBody, AtEvent]) -> Answer:
        """The IDs of the state before an event."""
        found = await self._states.state_ids(call.origin, call.path["roomId"], call.query.event_id)
        return json_text(b'{"auth_chain_ids":[', found.auth_chain, b'],"pdu_ids":[', found.state, b"]}")

    @endpoint(
        "GET",
        _V1 + "/backfill/{roomId}",
        spec="server-server-api#get_matrixfederationv1backfillroomid",
        auth=Auth.SERVER,
        query=BackfillQuery,
    )
    async def get_backfill(self, call: Call[NoBody, BackfillQuery]) -> Answer:
        """Events and what precedes them."""
        query = call.query
        return self._transaction(await self._history.backfill(call.origin, call.path["roomId"], query.v, query.limit))

    @endpoint(
        "POST",
        _V1 + "/get_missing_events/{roomId}",
        spec="server-server-api#post_matrixfederationv1get_missing_eventsroomid",
        auth=Auth.SERVER,
        body=MissingBody,
    )
    async def post_missing_events(self, call: Call[MissingBody, NoQuery]) -> Answer:
        """Events between others."""
        body = call.body
        query = MissingQuery(body.latest_events, body.earliest_events, body.limit, body.min_depth)
        found = await self._history.missing_events(call.origin, call.path["roomId"], query)
        return b'{"events":[%b]}' % b",".join(found)

    @endpoint(
        "GET",
        _V1 + "/timestamp_to_event/{roomId}",
        spec="server-server-api#get_matrixfederationv1timestamp_to_eventroomid",
        auth=Auth.SERVER,
        query=MomentQuery,
    )
    async def get_timestamp_to_event(self, call: Call[NoBody, MomentQuery]) -> Answer:
        """The event closest to a moment."""
        query = call.query
        backwards = query.dir == "b"
        found = await self._history.closest(call.origin, call.path["roomId"], query.ts, backwards=backwards)
        return {"event_id": found.event_id, "origin_server_ts": found.origin_server_ts}

    def _transaction(self, pdus: list[bytes]) -> Answer:
        return b'{"origin":%b,"origin_server_ts":%d,"pdus":[%b]}' % (
            self._origin,
            self._clock.now_ms(),
            b",".join(pdus),
        )
