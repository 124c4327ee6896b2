"""The room that another server asks about, and whether it may.

spec: server-server-api#server-access-control-lists-acls
"""

from __future__ import annotations

from tinyserver.protocol.errors import Forbidden, NotFound
from tinyserver.rooms import server_acls
from tinyserver.storage import memberships, rooms, server_stays
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction


def served_room(tx: ReadTransaction, room_id: str, server: str) -> RoomRow:
    """A room that this server is in, for a server that its access control list admits.

    Raises:
        NotFound: this server is not in the room.
        Forbidden: the other server is shut out.
    """
    room = rooms.find(tx, room_id)
    if room is None or not room.state or not memberships.any_local_member(tx, room.nid):
        raise NotFound(f"This server is not in the room {room_id[:255]}")
    check_acl(tx, room, server)
    return room


def whole_room(tx: ReadTransaction, room_id: str, server: str) -> RoomRow:
    """The same, if all of its state is known here. Raises as `served_room` does; NotFound while it is not: the server
    will ask another one."""
    room = served_room(tx, room_id, server)
    if room.is_partial:
        raise NotFound(f"This server has come into the room {room_id} lately and does not know all of its members yet")
    return room


def room_of_server(tx: ReadTransaction, room_id: str, server: str) -> RoomRow:
    """A room that both this server and the other one are in.

    Raises:
        NotFound: this server is not in the room.
        Forbidden: the other server is not in it, or is shut out.
    """
    room = served_room(tx, room_id, server)
    if not server_stays.is_in_room(tx, room.nid, server):
        raise Forbidden(f"Nobody of {server} is in the room {room_id}")
    return room


def check_acl(tx: ReadTransaction, room: RoomRow, server: str) -> None:
    """Raises Forbidden where the room's access control list shuts a server out."""
    if not server_acls.allows(tx, room, server):
        raise Forbidden(f"{server} is shut out of the room {room.room_id} by its access control list")
