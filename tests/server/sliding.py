"""A client that follows sliding sync as the proposal says, and what it knows of rooms then."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

from .client import Client

Json = Any
UNSTABLE = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
STABLE = "/_matrix/client/v4/sync"
LAZY = [["m.room.member", "$LAZY"], ["m.room.member", "$ME"]]


def a_list(last: int | None = 99, timeline_limit: int = 10, state: Json = (), **more: Json) -> Json:
    """A list as clients ask for it; `last` is the last index of its range (None: all rooms)."""
    asked = {"timeline_limit": timeline_limit, "required_state": list(state), **more}
    return asked if last is None else {"ranges": [[0, last]], **asked}


class SlidingSync:
    """One connection. What the client knows of a room is the sum of all that it was told, `initial` beginning anew."""

    def __init__(self, client: Client, conn_id: str | None = None, **request: Json) -> None:
        self.client = client
        self.request: Json = {"lists": {"all": a_list()}, **request}
        if conn_id is not None:
            self.request["conn_id"] = conn_id
        self.pos: str | None = None
        self.rooms: dict[str, Json] = {}
        self.lists: dict[str, list[str]] = {}

    async def ask(self, timeout: int = 0, *, pos: str | None = None, expect: int = 200, **options: Json) -> Json:
        """One request, of which the client notes nothing: as if the answer was lost."""
        params = {"pos": pos or self.pos, "timeout": timeout, "set_presence": "offline"}
        return await self.client.request("POST", UNSTABLE, self.request, params=params, expect=expect, **options)

    async def sync(self, timeout: int = 0) -> Json:
        """One request, and the client takes in its answer."""
        answer = await self.ask(timeout)
        self.take(answer)
        return answer

    async def until(self, condition: Callable[[Json], Any], *, seconds: float = 20.0) -> Any:
        """Sync on until `condition(answer)` is truthy, and return that value."""
        deadline = time.monotonic() + seconds
        seen = []
        while time.monotonic() < deadline:
            answer = await self.sync(2000 if self.pos else 0)
            if found := condition(answer):
                return found
            seen.append(answer)
        raise AssertionError(f"not seen in {seconds} s: {seen[-3:]}")

    def take(self, answer: Json) -> None:
        """Take in an answer."""
        self.pos = answer["pos"]
        for name, each in answer["lists"].items():
            self.lists[name] = [room for op in each["ops"] for room in op["room_ids"]]
        for room_id, news in answer["rooms"].items():
            self._take_room(room_id, copy.deepcopy(news))

    def _take_room(self, room_id: str, news: Json) -> None:
        room = self.rooms.get(room_id)
        if room is None or news.get("initial"):
            room = self.rooms[room_id] = {"timeline": [], "state": {}, "gap": False}
        timeline = news.pop("timeline", [])
        if news.get("unstable_expanded_timeline"):
            # Another view on the same events, of which the last ones are new.
            known = {event["event_id"] for event in room["timeline"]}
            first_known = next((at for at, event in enumerate(timeline) if event["event_id"] in known), None)
            if first_known is not None:
                before = [event for event in timeline[:first_known] if event["event_id"] not in known]
                after = [event for event in timeline[first_known:] if event["event_id"] not in known]
                room["timeline"] = before + room["timeline"] + after
            else:
                room["timeline"], room["gap"] = timeline, news["limited"]
        else:
            if timeline and news.get("limited"):
                room["timeline"], room["gap"] = [], True
            room["timeline"] += timeline
        for event in [*timeline, *news.pop("required_state", [])]:
            if "state_key" in event:
                room["state"][event["type"], event["state_key"]] = event
        room.update(news)


def event_ids(events: Json) -> list[str]:
    """The IDs of events."""
    return [event["event_id"] for event in events]


def types(events: Json) -> set[str]:
    """The types of events."""
    return {event["type"] for event in events}
