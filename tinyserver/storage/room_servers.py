"""What only the members of a room tell of servers; which ones are in the room says `server_stays`.

All of these read the room's members: to be done on a reader thread.
"""

from __future__ import annotations

from tinyserver.storage.memberships import Membership
from tinyserver.storage.transaction import ReadTransaction

_MEMBERS = "FROM memberships CROSS JOIN names ON names.nid = user WHERE room = ?"
_SERVER = "substr(name, instr(name, ':') + 1)"


def is_invited(tx: ReadTransaction, room: int, server_name: str) -> bool:
    """Whether a user of the server is invited to the room now."""
    found = tx.value(
        f"SELECT EXISTS (SELECT 1 {_MEMBERS} AND membership = ? AND {_SERVER} = ?)",
        (room, int(Membership.INVITE), server_name),
    )
    return bool(found)


def joined_by_server(tx: ReadTransaction, room: int) -> dict[str, int]:
    """How many users of each server are in the room now: all of its members are read."""
    return dict(
        tx.rows(
            f"SELECT {_SERVER} AS server, count(*) {_MEMBERS} AND membership = ? GROUP BY server",
            (room, int(Membership.JOIN)),
        )
    )


def users_of(tx: ReadTransaction, room: int, server_name: str) -> list[int]:
    """The nids of the server's users whom the room's state names, whatever their membership."""
    return [row[0] for row in tx.execute(f"SELECT user {_MEMBERS} AND {_SERVER} = ?", (room, server_name))]
