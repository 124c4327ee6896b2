"""Events by their time in history that is not here.

spec: server-server-api#get_matrixfederationv1timestamp_to_eventroomid
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from tinyserver.federation.client import FederationClient
from tinyserver.federation.participation.backfill import Backfill
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.protocol.request_auth import path_of
from tinyserver.rooms.moments import EventAtMoment
from tinyserver.storage import names, rooms, server_stays
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds for which a reader waits."""
ASK_TIMEOUT = 5.0
MAX_SERVERS = 4


class RemoteMoments:
    """Asks other servers in a room (`MomentsElsewhere`).

    Args:
        db: where rooms are stored.
        client: requests to other servers.
        backfill: brings the event here that one of them names.
        server_name: this server, which is not asked.
    """

    def __init__(self, db: Database, client: FederationClient, backfill: Backfill, server_name: str) -> None:
        self._db = db
        self._client = client
        self._backfill = backfill
        self._server_name = server_name

    async def closest(self, room_nid: int, ts: int, *, backwards: bool, known: int | None) -> EventAtMoment | None:
        """The closest event that one of some servers knows, if it is closer than what is known; it is here then."""
        room = self._db.glance(lambda tx: rooms.get(tx, room_nid))
        servers = await self._db.read(lambda tx: self._servers(tx, room_nid))
        try:
            async with asyncio.timeout(PATIENCE):
                for server in servers:
                    found = await self._ask(server, room, ts, backwards=backwards)
                    if found is None or (known is not None and abs(known - ts) <= abs(found.origin_server_ts - ts)):
                        continue
                    with suppress(OutgoingError):
                        await self._backfill.bring(server, room, found.event_id)
                        return found
        except TimeoutError:
            log.info("no server tells in time about a moment in %s", room.room_id)
        return None

    async def _ask(self, server: str, room: RoomRow, ts: int, *, backwards: bool) -> EventAtMoment | None:
        path = path_of("_matrix", "federation", "v1", "timestamp_to_event", room.room_id)
        query = {"ts": ts, "dir": "b" if backwards else "f"}
        try:
            answer = await self._client.get(server, path, query=query, timeout=ASK_TIMEOUT)
        except OutgoingError as error:
            log.debug("%s does not tell about a moment in %s: %s", server, room.room_id, error)
            return None
        event_id, at = answer.get("event_id"), answer.get("origin_server_ts")
        if not isinstance(event_id, str) or type(at) is not int or (at > ts if backwards else at < ts):
            return None
        return EventAtMoment(event_id, at)

    def _servers(self, tx: ReadTransaction, room: int) -> list[str]:
        largest = [names.text(tx, server) for server in server_stays.largest(tx, room, MAX_SERVERS + 1)]
        return [server for server in largest if server != self._server_name][:MAX_SERVERS]
