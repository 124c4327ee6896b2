"""Finding the room that a request is about, and what its user is to it."""

from __future__ import annotations

from tinyserver.protocol.errors import Forbidden, InvalidParam, NotFound
from tinyserver.protocol.identifiers import is_valid_room_id, is_valid_user_id
from tinyserver.storage import memberships, names, rooms
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction


def known_room(tx: ReadTransaction, room_id: str) -> RoomRow:
    """A room that this server has.

    Raises:
        InvalidParam: that is no room ID.
        NotFound: this server knows nothing of the room.
    """
    _check_room_id(room_id)
    room = rooms.find(tx, room_id)
    if room is None or not room.state:
        raise NotFound(f"This server does not know the room {room_id}")
    return room


def room_of_member(tx: ReadTransaction, room_id: str, user_id: str) -> RoomRow:
    """A room that the user is in.

    Raises:
        InvalidParam: that is no room ID.
        Forbidden: the user is not in it (whether or not it exists is nobody's business).
    """
    _check_room_id(room_id)
    room = rooms.find(tx, room_id)
    if room is None or membership_of(tx, room, user_id) is not Membership.JOIN:
        raise Forbidden(f"You are not in the room {room_id[:255]}")
    return room


def _check_room_id(room_id: str) -> None:
    if not is_valid_room_id(room_id):
        raise InvalidParam(f"{room_id[:100]!r} is not a room ID")


def membership_of(tx: ReadTransaction, room: RoomRow, user_id: str) -> Membership | None:
    """What the current state says of a user, or None when it does not name them."""
    nid = names.find(tx, user_id)
    row = None if nid is None else memberships.get(tx, room.nid, nid)
    return None if row is None else row.membership


def check_user_id(user_id: str) -> str:
    """A user ID that a client named.

    Raises:
        InvalidParam: it is none.
    """
    if not is_valid_user_id(user_id):
        raise InvalidParam(f"{user_id[:100]!r} is not a user ID; one looks like @name:example.org")
    return user_id
