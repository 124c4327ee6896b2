"""Which servers may take part in a stored room, by its access control list.

spec: server-server-api#server-access-control-lists-acls
"""

from __future__ import annotations

from tinyserver.protocol.server_acl import ServerAcl
from tinyserver.storage import events, room_state
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction

MAX_COMPILED = 50
"""How many compiled lists are kept; some have thousands of entries."""


class ServerAcls:
    """Asks the lists of rooms, and keeps those compiled that were asked last. Lives on the event loop."""

    def __init__(self) -> None:
        self._compiled: dict[int, ServerAcl] = {}

    def allows(self, tx: ReadTransaction, room: RoomRow, server: str) -> bool:
        """Whether the room's current list lets a server take part; without a list every server may."""
        nid = room_state.nid_at(tx, room.state, "m.room.server_acl")
        if nid is None:
            return True
        acl = self._compiled.pop(nid, None)
        if acl is None:
            acl = ServerAcl(events.get(tx, nid).event.content)
            if len(self._compiled) >= MAX_COMPILED:
                del self._compiled[next(iter(self._compiled))]
        self._compiled[nid] = acl  # at the end: the first one is the longest unused
        return acl.allows(server)
