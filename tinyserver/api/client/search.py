"""Searching messages.

spec: client-server-api#server-side-search
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from orjson import Fragment

from tinyserver.api.calls import Call
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.protocol.filters import parse_room_event_filter
from tinyserver.search.messages import ContextRequest, Group, MessageSearch, Result, SearchPage, SearchRequest


class EventContextBody(msgspec.Struct):
    """`event_context`: what is wanted around results."""

    before_limit: int = 5
    after_limit: int = 5
    include_profile: bool = False


class GroupBody(msgspec.Struct):
    """One of the `group_by`."""

    key: Literal["room_id", "sender"]


class GroupingsBody(msgspec.Struct):
    """`groupings`."""

    group_by: list[GroupBody] = []


class RoomEventsBody(msgspec.Struct):
    """`room_events`: what is looked for."""

    search_term: str
    keys: list[Literal["content.body", "content.name", "content.topic"]] = []
    filter: dict[str, Any] | None = None
    order_by: Literal["recent", "rank"] = "rank"
    event_context: EventContextBody | None = None
    include_state: bool = False
    groupings: GroupingsBody | None = None


class CategoriesBody(msgspec.Struct):
    """`search_categories`: the one that there is."""

    room_events: RoomEventsBody | None = None


class SearchBody(msgspec.Struct):
    """The body of `POST /search`."""

    search_categories: CategoriesBody


class SearchQuery(msgspec.Struct):
    """Which page."""

    next_batch: str | None = None


class SearchApi:
    """Searching.

    :param search: finds.
    """

    surface = Surface.CLIENT

    def __init__(self, search: MessageSearch) -> None:
        self._search = search

    @endpoint(
        "POST",
        "/_matrix/client/v3/search",
        spec="client-server-api#post_matrixclientv3search",
        auth=Auth.USER,
        body=SearchBody,
        query=SearchQuery,
        limit=Limit.SEARCH,
    )
    async def search(self, call: Call[SearchBody, SearchQuery]) -> Answer:
        """A page of what fits."""
        wanted = call.body.search_categories.room_events
        if wanted is None:
            return {"search_categories": {}}
        context = wanted.event_context
        groups = wanted.groupings.group_by if wanted.groupings is not None else []
        request = SearchRequest(
            term=wanted.search_term,
            keys=frozenset(wanted.keys),
            filter=None if wanted.filter is None else parse_room_event_filter(wanted.filter),
            recent_first=wanted.order_by == "recent",
            context=None
            if context is None
            else ContextRequest(context.before_limit, context.after_limit, context.include_profile),
            with_state=wanted.include_state,
            groups=frozenset(group.key for group in groups),
            token=call.query.next_batch,
        )
        page = await self._search.search(call.requester, request)
        return {"search_categories": {"room_events": _page(page)}}


def _page(page: SearchPage) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "count": page.count,
        "highlights": page.highlights,
        "results": [_result(result) for result in page.results],
    }
    if page.groups:
        answer["groups"] = {
            key: {member: _group(group) for member, group in groups.items()} for key, groups in page.groups.items()
        }
    if page.state:
        answer["state"] = {room: list(map(Fragment, state)) for room, state in page.state.items()}
    if page.next is not None:
        answer["next_batch"] = page.next
    return answer


def _group(group: Group) -> dict[str, Any]:
    answer: dict[str, Any] = {"order": group.order, "results": group.results}
    if group.next is not None:
        answer["next_batch"] = group.next
    return answer


def _result(result: Result) -> dict[str, Any]:
    answer: dict[str, Any] = {"rank": result.rank, "result": Fragment(result.event)}
    if result.context is not None:
        context = answer["context"] = {
            "start": result.context.start,
            "end": result.context.end,
            "events_before": list(map(Fragment, result.context.before)),
            "events_after": list(map(Fragment, result.context.after)),
        }
        if result.context.profiles is not None:
            context["profile_info"] = result.context.profiles
    return answer
