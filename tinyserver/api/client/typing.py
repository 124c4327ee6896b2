"""Typing notifications."""

from __future__ import annotations

import msgspec

from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.presence.presence import Presence
from tinyserver.rooms.typing import Typing


class TypingBody(msgspec.Struct):
    """The body of `PUT /typing`; `timeout` in milliseconds."""

    typing: bool
    timeout: int | None = None


class TypingApi:
    """The chapter on typing notifications."""

    surface = Surface.CLIENT

    def __init__(self, typing: Typing, presence: Presence) -> None:
        self._typing = typing
        self._presence = presence

    @endpoint(
        "PUT",
        "/_matrix/client/v3/rooms/{roomId}/typing/{userId}",
        spec="client-server-api#typing-notifications",
        auth=Auth.USER,
        body=TypingBody,
        limit=Limit.OTHER,
    )
    async def send(self, call: Call[TypingBody, NoQuery]) -> Answer:
        """Say that one types, or has stopped."""
        body = call.body
        self._typing.send(call.requester, call.path["roomId"], call.path["userId"], body.typing, body.timeout)
        if body.typing:
            self._presence.active(call.requester.user_nid)
        return {}
