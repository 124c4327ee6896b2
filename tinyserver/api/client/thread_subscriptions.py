"""Thread subscriptions.

spec: MSC4306, MSC4308
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.protocol.errors import ConflictingUnsubscription, InvalidParam, NotInThread
from tinyserver.rooms.thread_subscriptions import MAX_PAGE, ThreadSubscriptions
from tinyserver.rooms.tokens import parse_token

_THREAD = "/rooms/{roomId}/thread/{eventId}/subscription"
_STABLE = "/_matrix/client/v1"
_UNSTABLE = "/_matrix/client/unstable/io.element.msc4306"
_UNSTABLE_PREFIX = "IO.ELEMENT.MSC4306."
_DEFAULT_LIMIT = 100
_NEWEST = 2**62


class SubscriptionBody(msgspec.Struct):
    """`automatic` is the event because of which the client subscribes by itself."""

    automatic: str | None = None


class ChangesQuery(msgspec.Struct):
    """The query for changes: newest first, from a token back `to` a position of sliding sync."""

    dir: Literal["b"]
    start: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    limit: int | None = None


class ThreadSubscriptionsApi:
    """What users want of threads."""

    surface = Surface.CLIENT

    def __init__(self, subscriptions: ThreadSubscriptions) -> None:
        self._subscriptions = subscriptions

    @endpoint("PUT", _STABLE + _THREAD, spec="MSC4306", auth=Auth.USER, body=SubscriptionBody, limit=Limit.OTHER)
    @endpoint("PUT", _UNSTABLE + _THREAD, spec="MSC4306", auth=Auth.USER, body=SubscriptionBody, limit=Limit.OTHER)
    async def subscribe(self, call: Call[SubscriptionBody, NoQuery]) -> Answer:
        """Subscribe to a thread."""
        path, cause = call.path, call.body.automatic
        with _named_as_asked(call):
            await self._subscriptions.subscribe(call.requester, path["roomId"], path["eventId"], cause)
        return {}

    @endpoint("GET", _STABLE + _THREAD, spec="MSC4306", auth=Auth.USER)
    @endpoint("GET", _UNSTABLE + _THREAD, spec="MSC4306", auth=Auth.USER)
    async def get(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Whether a subscription was made by the client itself; not found where there is none."""
        path = call.path
        return {"automatic": await self._subscriptions.is_automatic(call.requester, path["roomId"], path["eventId"])}

    @endpoint("DELETE", _STABLE + _THREAD, spec="MSC4306", auth=Auth.USER, limit=Limit.OTHER)
    @endpoint("DELETE", _UNSTABLE + _THREAD, spec="MSC4306", auth=Auth.USER, limit=Limit.OTHER)
    async def unsubscribe(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Hear of a thread no more."""
        await self._subscriptions.unsubscribe(call.requester, call.path["roomId"], call.path["eventId"])
        return {}

    @endpoint("GET", _STABLE + "/thread_subscriptions", spec="MSC4308", auth=Auth.USER, query=ChangesQuery)
    @endpoint(
        "GET",
        "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions",
        spec="MSC4308",
        auth=Auth.USER,
        query=ChangesQuery,
    )
    async def changes(self, call: Call[NoBody, ChangesQuery]) -> Answer:
        """What changed, back to a position."""
        query = call.query
        limit = _DEFAULT_LIMIT if query.limit is None else query.limit
        if limit < 1:
            raise InvalidParam("limit must be 1 or more")
        changes = await self._subscriptions.changes(
            call.requester.user_nid,
            parse_token(query.to, "to").position if query.to else 0,
            parse_token(query.start).position if query.start else _NEWEST,
            min(limit, MAX_PAGE),
        )
        answer: dict[str, Any] = {}
        if changes.subscribed:
            answer["subscribed"] = changes.subscribed
        if changes.unsubscribed:
            answer["unsubscribed"] = changes.unsubscribed
        if changes.end is not None:
            answer["end"] = changes.end
        return answer


@contextmanager
def _named_as_asked(call: Call[Any, Any]) -> Iterator[None]:
    """Errors of the proposal have other names below its unstable path."""
    try:
        yield
    except (NotInThread, ConflictingUnsubscription) as error:
        if call.target.startswith(_UNSTABLE):
            error.errcode = _UNSTABLE_PREFIX + error.errcode
        raise
