"""After an outage every other server hears from us, so that it no longer leaves us alone.

Servers that could not reach this one wait longer and longer before they try again, unless it shows up by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tinyserver.federation.destinations import Destinations
from tinyserver.federation.sender import FederationSender
from tinyserver.storage import server_stays
from tinyserver.storage.database import Database

WITHIN = 45.0
"""Seconds in which all are greeted, ..."""
SHORTEST_PAUSE = 0.05
"""... unless there are so many that they come faster than in these seconds."""


class Greetings:
    """Greets all servers with which a room is shared. Lives on the event loop.

    Args:
        db: who they are.
        sender: greets.
        destinations: tells when the network is back.
    """

    def __init__(self, db: Database, sender: FederationSender, destinations: Destinations) -> None:
        self._db = db
        self._sender = sender
        self._task: asyncio.Task[None] | None = None
        destinations.on_recovery.append(self.greet_all)

    def greet_all(self) -> None:
        """Greet everybody, one after the other."""
        if self._task is not None:
            self._task.cancel()
        servers = self._db.glance(server_stays.everywhere)
        self._task = asyncio.ensure_future(self._greet(servers))

    async def _greet(self, servers: Sequence[int]) -> None:
        for server in servers:
            self._sender.greet(server)
            await asyncio.sleep(max(WITHIN / len(servers), SHORTEST_PAUSE))

    async def close(self) -> None:
        """Greet nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
