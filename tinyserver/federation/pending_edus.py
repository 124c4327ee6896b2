"""EDUs that wait for the next transaction to a server. What says the same thing anew replaces what was said before.

spec: server-server-api#edus
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_PENDING = 200
"""How many wait for one server; the oldest are dropped first."""
MAX_PRESENCES = 100
"""How many users' presence goes into one EDU."""


@dataclass(frozen=True, slots=True)
class Typing:
    """Whether a local user types in a room."""

    room_id: str
    user_id: str
    typing: bool

    @property
    def key(self) -> tuple[str, ...]:
        """What it replaces."""
        return ("m.typing", self.room_id, self.user_id)


@dataclass(frozen=True, slots=True)
class Read:
    """A public receipt of a local user; `ts` in ms since 1970, `thread_id` None: for the room as a whole."""

    room_id: str
    user_id: str
    thread_id: str | None
    event_id: str
    ts: int

    @property
    def key(self) -> tuple[str, ...]:
        """What it replaces."""
        return ("m.receipt", self.room_id, self.user_id, self.thread_id or "")


@dataclass(frozen=True, slots=True)
class Seen:
    """The presence of a local user: an entry of `push`."""

    user_id: str
    content: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, ...]:
        """What it replaces."""
        return ("m.presence", self.user_id)


Pending = Typing | Read | Seen


class PendingEdus:
    """What waits for one server."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, ...], Pending] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, pending: Pending) -> None:
        """Have something sent."""
        self._waiting.pop(pending.key, None)
        self._waiting[pending.key] = pending
        if len(self._waiting) > MAX_PENDING:
            del self._waiting[next(iter(self._waiting))]

    def put_back(self, unsent: list[Pending]) -> None:
        """What was taken could not be sent: receipts wait again, unless newer ones do; the rest is stale by then."""
        newer = self._waiting
        self._waiting = {each.key: each for each in unsent if isinstance(each, Read)}
        for each in newer.values():
            self.put(each)

    def take(self, limit: int) -> list[Pending]:
        """The oldest, which wait no longer."""
        taken = list(self._waiting.values())[:limit]
        for each in taken:
            del self._waiting[each.key]
        return taken


def as_edus(pending: list[Pending]) -> list[dict[str, Any]]:
    """The EDUs that say all this; never more of them than things to say."""
    typing = [
        {"room_id": each.room_id, "user_id": each.user_id, "typing": each.typing}
        for each in pending
        if isinstance(each, Typing)
    ]
    edus = [{"edu_type": "m.typing", "content": content} for content in typing]
    edus += [{"edu_type": "m.receipt", "content": content} for content in _receipts(pending)]
    push = [dict(each.content) for each in pending if isinstance(each, Seen)]
    for start in range(0, len(push), MAX_PRESENCES):
        edus.append({"edu_type": "m.presence", "content": {"push": push[start : start + MAX_PRESENCES]}})
    return edus


def _receipts(pending: list[Pending]) -> list[dict[str, Any]]:
    """Contents of `m.receipt`: each holds one receipt for each user in a room, so threads take several."""
    contents: list[dict[str, Any]] = []
    for each in pending:
        if not isinstance(each, Read):
            continue
        data: dict[str, Any] = {"ts": each.ts}
        if each.thread_id is not None:
            data["thread_id"] = each.thread_id
        for content in contents:
            users = content.setdefault(each.room_id, {"m.read": {}})["m.read"]
            if each.user_id not in users:
                break
        else:
            contents.append({each.room_id: {"m.read": (users := {})}})
        users[each.user_id] = {"event_ids": [each.event_id], "data": data}
    return contents
