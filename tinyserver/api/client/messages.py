"""The history of rooms: pages of messages and the surroundings of an event.

spec: client-server-api#getting-events-for-a-room, client-server-api#event-context
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
import orjson

from tinyserver.api.calls import Call, NoBody
from tinyserver.api.long_answers import json_list
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.protocol.errors import InvalidParam
from tinyserver.protocol.filters import RoomEventFilter, parse_room_event_filter
from tinyserver.rooms.history import MessagesRequest, RoomHistory


class MessagesQuery(msgspec.Struct):
    """The query of `GET /messages`."""

    dir: Literal["b", "f"]
    start: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    limit: int | None = None
    filter: str | None = None


class ContextQuery(msgspec.Struct):
    """The query of `GET /context`."""

    limit: int | None = None
    filter: str | None = None


class MessagesApi:
    """Reading a room's timeline."""

    surface = Surface.CLIENT

    def __init__(self, history: RoomHistory) -> None:
        self._history = history

    @endpoint(
        "GET",
        "/_matrix/client/v3/rooms/{roomId}/messages",
        spec="client-server-api#get_matrixclientv3roomsroomidmessages",
        auth=Auth.USER,
        query=MessagesQuery,
        guests=True,
    )
    async def messages(self, call: Call[NoBody, MessagesQuery]) -> Answer:
        """A page of messages."""
        query = call.query
        request = MessagesRequest(
            query.dir == "b", query.start or None, query.to or None, query.limit, _filter(query.filter)
        )
        page = await self._history.messages(call.requester, call.path["roomId"], request)
        parts = [b'{"start":%b,"chunk":[%b]' % (orjson.dumps(page.start), b",".join(page.chunk))]
        if page.end is not None:
            parts.append(b',"end":' + orjson.dumps(page.end))
        if page.state:
            parts.append(b',"state":[%b]' % b",".join(page.state))
        return b"".join((*parts, b"}"))

    @endpoint(
        "GET",
        "/_matrix/client/v3/rooms/{roomId}/context/{eventId}",
        spec="client-server-api#get_matrixclientv3roomsroomidcontexteventid",
        auth=Auth.USER,
        query=ContextQuery,
        guests=True,
    )
    async def context(self, call: Call[NoBody, ContextQuery]) -> Answer:
        """What happened around an event."""
        query = call.query
        found = await self._history.context(
            call.requester, call.path["roomId"], call.path["eventId"], query.limit, _filter(query.filter)
        )
        prefix = b'{"start":%b,"end":%b,"event":%b,"events_before":%b,"events_after":%b,"state":[' % (
            orjson.dumps(found.start),
            orjson.dumps(found.end),
            found.event,
            _array(found.before),
            _array(found.after),
        )
        return json_list(prefix, found.state, b"]}")


def _array(items: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(items)


def _filter(text: str | None) -> RoomEventFilter | None:
    if not text:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidParam("The query parameter 'filter' is not JSON.") from error
    return parse_room_event_filter(value)
