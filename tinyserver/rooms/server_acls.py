"""Which servers may take part in a stored room, by its access control list.

spec: server-server-api#server-access-control-lists-acls
"""

from __future__ import annotations

from tinyserver.protocol.server_acl import ServerAcl
from tinyserver.storage import events, room_state
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction


def allows(tx: ReadTransaction, room: RoomRow, server: str) -> bool:
    """Whether the room's current list lets a server take part; without a list every server may.

    From any thread; the lists that were asked last are kept compiled.
    """
    nid = room_state.nid_at(tx, room.state, "m.room.server_acl")
    if nid is None:
        return True
    stored = events.get(tx, nid)
    key = (nid, stored.redacted_by)
    acl = tx.caches.server_acls.get(key)
    if acl is None:
        acl = ServerAcl(stored.event.content)
        tx.caches.server_acls.put(key, acl)
    return acl.allows(server)
