"""What passes by without being stored, for services that want it: who is typing, and who is there.

It is kept in memory until the next transaction, once for each room and user: how it is then is what is told. What a
service misses while it is away is not made up for.

spec: application-service-api#pushing-ephemeral-data
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tinyserver.appservices.interests import Interests
from tinyserver.appservices.services import Service, Services
from tinyserver.bell import Bell
from tinyserver.presence.presence import Presence
from tinyserver.rooms.rendering import json_text
from tinyserver.rooms.typing import Typing
from tinyserver.storage import rooms
from tinyserver.storage.database import Database

MAX_WAITING = 1000
"""Rooms, and users, of which a service is told at once; what is more is left out."""


class EphemeralNews:
    """Gathers it. Lives on the event loop.

    Args:
        wake: called for a service that is to be told something.
    """

    def __init__(
        self,
        db: Database,
        bell: Bell,
        services: Services,
        interests: Interests,
        typing: Typing,
        presence: Presence,
        wake: Callable[[Service], None],
    ) -> None:
        self._db = db
        self._services = services
        self._interests = interests
        self._typing = typing
        self._presence = presence
        self._wake = wake
        self._rooms: dict[int, set[int]] = {}
        """Rooms in which somebody began or ceased to type, by service."""
        self._users: dict[int, set[int]] = {}
        """Users whose presence changed, by service."""
        bell.subscribe_moments(self._on_moment)
        presence.on_change.append(self._on_presence)
        presence.on_remote_change.append(self._on_presence)

    def waits(self, service: Service) -> bool:
        """Whether there is something to tell."""
        return service.nid in self._rooms or service.nid in self._users

    def take(self, service: Service) -> list[bytes]:
        """The EDUs (JSON) that tell it; it is forgotten."""
        typing = self._rooms.pop(service.nid, ())
        users = self._users.pop(service.nid, ())
        if not typing and not users:
            return []
        room_ids = self._db.glance(lambda tx: rooms.ids(tx, list(typing)))
        found = [
            json_text(
                {"type": "m.typing", "room_id": room_id, "content": {"user_ids": list(self._typing.users_in(room))}}
            )
            for room, room_id in room_ids.items()
        ]
        return found + [json_text(event) for event in map(self._presence.event_of, users) if event is not None]

    def _on_moment(self, room: int | None, users: Collection[int]) -> None:
        if room is None:
            return
        listening = self._listening()
        if not listening:
            return
        interested = self._db.glance(lambda tx: self._interests.in_room(tx, room))
        for service in listening:
            if service.nid in interested:
                self._note(self._rooms, service, room)

    def _on_presence(self, user: int) -> None:
        for service in self._listening():
            if self._db.glance(lambda tx, service=service: self._interests.share_a_room(tx, service, user)):  # type: ignore[misc]
                self._note(self._users, service, user)

    def _listening(self) -> list[Service]:
        return [service for service in self._services.listening if service.registration.receives_ephemeral]

    def _note(self, news: dict[int, set[int]], service: Service, nid: int) -> None:
        noted = news.setdefault(service.nid, set())
        if len(noted) < MAX_WAITING:
            noted.add(nid)
            self._wake(service)
