"""A person with matrix-nio in the hand, who syncs when there is something to be seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nio import (
    AsyncClient,
    Event,
    InviteMemberEvent,
    ReceiptEvent,
    RoomMessageText,
    SyncResponse,
    TypingNoticeEvent,
)

from .nio_device import done

__all__ = ["Person", "done"]


@dataclass
class Person:
    """A person with nio in the hand, and what they have been shown so far."""

    nio: AsyncClient
    password: str
    events: list[tuple[str, Event]] = field(default_factory=list)
    invites: list[tuple[str, InviteMemberEvent]] = field(default_factory=list)
    ephemeral: list[tuple[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nio.add_event_callback(lambda room, event: self.events.append((room.room_id, event)), Event)
        self.nio.add_event_callback(lambda room, event: self.invites.append((room.room_id, event)), InviteMemberEvent)
        self.nio.add_ephemeral_callback(
            lambda room, event: self.ephemeral.append((room.room_id, event)), (ReceiptEvent, TypingNoticeEvent)
        )

    @property
    def user_id(self) -> str:
        return str(self.nio.user_id)

    async def see(self, what: Callable[[], Any]) -> Any:
        """Sync on from the last token until there is something to see."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if seen := what():
                return seen
            answer = await self.nio.sync(timeout=1000)
            assert isinstance(answer, SyncResponse), answer
        raise AssertionError("it was never shown")

    async def see_text(self, room: str, text: str) -> RoomMessageText:
        """Sync on until a message has been shown, which must be once."""
        await self.see(lambda: text in self.texts(room))
        assert self.texts(room).count(text) == 1
        return next(event for where, event in self.events if where == room and getattr(event, "body", None) == text)

    def texts(self, room: str) -> list[str]:
        """The messages in a room, in the order in which they were shown."""
        return [event.body for where, event in self.events if where == room and isinstance(event, RoomMessageText)]

    async def say(self, room: str, text: str) -> str:
        """Send a message; its event ID."""
        content = {"msgtype": "m.text", "body": text}
        return str(done(await self.nio.room_send(room, "m.room.message", content)).event_id)
