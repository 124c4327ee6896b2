"""Presence between servers.

Other servers are told of local users with whom theirs share a room, all that changed in a while at once and a few
servers at a time, however many there are. Of theirs is believed what they say themselves.

spec: server-server-api#presence
"""

from __future__ import annotations

import asyncio
from typing import Any

from tinyserver.federation.pending_edus import Seen
from tinyserver.federation.sender import FederationSender
from tinyserver.federation.transactions import Content
from tinyserver.presence.presence import MAX_STATUS_BYTES, Presence
from tinyserver.presence.state import OFFLINE, ONLINE, UNAVAILABLE, Shown
from tinyserver.protocol.identifiers import domain_of, is_valid_user_id
from tinyserver.storage import names, server_stays
from tinyserver.storage.database import Database

MAX_RECEIVED = 200
"""How many users of one EDU are looked at."""
FIRST_DELAY = 1.0
"""Seconds in which changes are gathered before the first servers are told."""
PAUSE = 4.0
"""Seconds until the next ones are told."""
SERVERS_AT_ONCE = 20
REPEAT_AFTER = 1500.0
"""Seconds after which others are told again that somebody is there: they take silence for absence."""


class PresenceExchange:
    """Both directions. Lives on the event loop.

    Args:
        db: who is where.
        presence: takes what comes, and knows what is to be told.
        sender: takes what goes out.
    """

    def __init__(self, db: Database, presence: Presence, sender: FederationSender) -> None:
        self._db = db
        self._presence = presence
        self._sender = sender
        self._to_tell: dict[int, set[int]] = {}
        """The users of whom servers are to be told, by server."""
        self._timer: asyncio.TimerHandle | None = None
        self._repeating: asyncio.TimerHandle | None = None
        presence.on_change.append(self._tell_of)

    async def take(self, origin: str, content: Content) -> None:
        """An `m.presence` EDU of a server."""
        push = content.get("push")
        for each in push[:MAX_RECEIVED] if isinstance(push, list) else ():
            if isinstance(each, dict):
                self._take_one(origin, each)

    def _take_one(self, origin: str, told: dict[str, Any]) -> None:
        user_id, presence, status = told.get("user_id"), told.get("presence"), told.get("status_msg")
        if not isinstance(user_id, str) or not is_valid_user_id(user_id) or domain_of(user_id) != origin:
            return
        if presence not in (ONLINE, UNAVAILABLE, OFFLINE):
            return
        if not isinstance(status, str) or len(status.encode("utf-8", "replace")) > MAX_STATUS_BYTES:
            status = None
        ago = told.get("last_active_ago")
        seconds = min(max(ago, 0), 10**12) / 1000 if isinstance(ago, int | float) else 0.0
        user = self._db.glance(lambda tx: names.find(tx, user_id))
        if user is not None:
            shown = Shown(presence, told.get("currently_active") is True, status or None)
            self._presence.receive(user, user_id, shown, seconds)

    def _tell_of(self, user: int) -> None:
        """The presence of a local user changed."""
        servers = self._db.glance(lambda tx: server_stays.around(tx, user))
        for server in servers:
            self._to_tell.setdefault(server, set()).add(user)
        if not servers:
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FIRST_DELAY, self._tell_some)
        if self._repeating is None:
            self._repeating = asyncio.get_running_loop().call_later(REPEAT_AFTER, self._repeat)

    def _tell_some(self) -> None:
        for server in list(self._to_tell)[:SERVERS_AT_ONCE]:
            for user in self._to_tell.pop(server):
                told = self._presence.told_to_others(user)
                if told is not None:
                    self._sender.send_edu([server], Seen(str(told["user_id"]), told))
        again = bool(self._to_tell)
        self._timer = asyncio.get_running_loop().call_later(PAUSE, self._tell_some) if again else None

    def _repeat(self) -> None:
        self._repeating = None
        for user in self._presence.local_users_there():
            self._tell_of(user)

    def close(self) -> None:
        """Tell nobody any more."""
        for timer in (self._timer, self._repeating):
            if timer is not None:
                timer.cancel()
        self._presence.on_change.clear()
