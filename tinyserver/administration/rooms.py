"""Commands about rooms."""

from __future__ import annotations

from tinyserver.administration.commands import (
    LIMIT,
    Argument,
    Caller,
    Column,
    Kind,
    Reply,
    Unit,
    command,
    flag,
    option,
    page_size,
)
from tinyserver.administration.rendering import listed
from tinyserver.directory.descriptions import describe
from tinyserver.protocol.errors import NotFound
from tinyserver.rooms.access import known_room
from tinyserver.rooms.closing import RoomClosing
from tinyserver.storage import blocked_rooms, memberships, names, room_state, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_ROOM = Argument("room", 'which: its ID ("!...") or an alias of this server ("#...")')
_MESSAGE = option("message", "what those who have to leave are told", Kind.TEXT)
_WAIT = 20.0  # seconds


class RoomCommands:
    """Rooms: showing, listing in the directory, closing.

    Args:
        db: where they are stored.
        closing: closes them.
    """

    def __init__(self, db: Database, closing: RoomClosing) -> None:
        self._db = db
        self._closing = closing

    @command(
        "room list",
        "show the rooms that users of this server are in",
        flag("all", "also those that they have left"),
        option("after", "go on behind this room"),
        LIMIT,
    )
    async def list_rooms(
        self,
        caller: Caller,
        all: bool = False,
        after: str | None = None,
        limit: float | None = None,
    ) -> Reply:
        """A page of rooms, in the order in which this server came to know them."""
        count = page_size(limit)

        def step(tx: ReadTransaction) -> tuple[tuple[tuple[object, ...], ...], bool]:
            start = 0 if after is None else _found(tx, after).nid
            found = rooms.known_after(tx, start, count + 1) if all else rooms.inhabited_after(tx, start, count + 1)
            return tuple(_row(tx, room) for room in found[:count]), len(found) > count

        shown, there_is_more = await self._db.read(step)
        more = f"room list{' --all' if all else ''} --after {shown[-1][0]} --limit {count}" if there_is_more else ""
        names_of_columns = ("room", "name", "members", "of this server", "public")
        return Reply("" if shown else "There are none.", tuple(map(Column, names_of_columns)), shown, more)

    @command("room show", "show what is known of a room", _ROOM)
    async def show(self, caller: Caller, room: str) -> Reply:
        """All about a room."""

        def step(tx: ReadTransaction) -> dict[str, object]:
            row = _found(tx, room)
            seen = describe(tx, row)
            create = room_state.event_at(tx, row.state, "m.room.create")
            encrypted = room_state.nid_at(tx, row.state, "m.room.encryption") is not None
            return {
                "room": row.room_id,
                "name": seen.name,
                "topic": seen.topic,
                "alias": seen.canonical_alias,
                "aliases of this server": ", ".join(rooms.aliases(tx, row.nid)),
                "made by": None if create is None else create.event.sender,
                "version": row.version.identifier,
                "members": row.joined,
                "of this server": len(memberships.local_members(tx, row.nid)),
                "invited": row.invited,
                "join rule": seen.join_rule,
                "encrypted": _yes(encrypted),
                "in the directory": _yes(row.is_public),
                "blocked": _yes(blocked_rooms.is_blocked(tx, row.room_id)),
                "members still being fetched": "yes" if row.is_partial else None,
            }

        facts = await self._db.read(step)
        return Reply(listed(facts))

    @command("room members", "show who is in a room", _ROOM, option("after", "go on behind this user"), LIMIT)
    async def members(self, caller: Caller, room: str, after: str | None = None, limit: float | None = None) -> Reply:
        """A page of the members of a room."""
        count = page_size(limit)

        def step(tx: ReadTransaction) -> tuple[str, list[str]]:
            row = _found(tx, room)
            start = 0 if after is None else names.find(tx, after)
            if start is None:
                raise NotFound(f"There is no user {after}.")
            users = memberships.members_after(tx, row.nid, Membership.JOIN, start, count + 1)
            return row.room_id, [names.text(tx, user) for user in users]

        room_id, users = await self._db.read(step)
        more = f"room members {room_id} --after {users[count - 1]} --limit {count}" if len(users) > count else ""
        text = "" if users else "There are none."
        return Reply(text, (Column("user"),), tuple((user,) for user in users[:count]), more)

    @command("room publish", "list a room in the room directory", _ROOM)
    async def publish(self, caller: Caller, room: str) -> Reply:
        """List a room."""
        return await self._list(room, is_public=True)

    @command("room unpublish", "take a room out of the room directory", _ROOM)
    async def unpublish(self, caller: Caller, room: str) -> Reply:
        """Take a room out of the directory."""
        return await self._list(room, is_public=False)

    async def _list(self, room: str, *, is_public: bool) -> Reply:
        def step(tx: WriteTransaction) -> str:
            row = _found(tx, room)
            rooms.set_public(tx, row.nid, is_public)
            return row.room_id

        room_id = await self._db.write(step)
        return Reply(f"{room_id} is {'in' if is_public else 'not in'} the directory")

    @command(
        "room shutdown",
        "have all users of this server leave a room, and let none of them in again",
        _ROOM,
        _MESSAGE,
        is_dangerous=True,
    )
    async def shut_down(self, caller: Caller, room: str, message: str | None = None) -> Reply:
        """Close a room to the users of this server; also one that this server does not know yet."""
        room_id = self._room_id(room)
        leaving, all_have_left = await self._closing.shut_down(room_id, message, wait=_WAIT)
        told = f"{room_id} is closed; users of this server who had to leave: {len(leaving)}"
        return Reply(told if all_have_left else f"{told} (some of them are still leaving)")

    @command("room block", "let no user of this server into a room any more; those who are in it stay", _ROOM, _MESSAGE)
    async def block(self, caller: Caller, room: str, message: str | None = None) -> Reply:
        """Keep users out of a room."""
        room_id = self._room_id(room)
        await self._closing.block(room_id, message)
        return Reply(f"{room_id} is blocked")

    @command("room unblock", "let users of this server into a room again", _ROOM)
    async def unblock(self, caller: Caller, room: str) -> Reply:
        """Lift what `room block` and `room shutdown` have set."""
        room_id = self._room_id(room)
        if not await self._closing.unblock(room_id):
            raise NotFound("This room is not blocked.")
        return Reply(f"{room_id} is not blocked any more")

    @command("room blocked", "show the rooms that are blocked", option("after", "go on behind this room"), LIMIT)
    async def list_blocked(self, caller: Caller, after: str | None = None, limit: float | None = None) -> Reply:
        """A page of blocked rooms."""
        count = page_size(limit)
        found = await self._closing.blocked(after or "", count + 1)
        more = f"room blocked --after {found[count - 1][0]} --limit {count}" if len(found) > count else ""
        columns = (Column("room"), Column("since", Unit.TIME), Column("message"))
        return Reply("" if found else "There are none.", columns, tuple(found[:count]), more)

    def _room_id(self, given: str) -> str:
        """The ID of a room that need not be known here."""
        return given if given.startswith("!") else self._db.glance(lambda tx: _found(tx, given)).room_id


def _found(tx: ReadTransaction, given: str) -> RoomRow:
    """The room of an ID or alias. Raises NotFound, InvalidParam."""
    if not given.startswith("#"):
        return known_room(tx, given)
    found = rooms.of_alias(tx, given)
    if found is None:
        raise NotFound(f"There is no room with the alias {given[:255]}")
    return rooms.get(tx, found[0])


def _row(tx: ReadTransaction, room: RoomRow) -> tuple[object, ...]:
    here = len(memberships.local_members(tx, room.nid))
    seen = describe(tx, room)
    return room.room_id, seen.name or seen.canonical_alias, room.joined, here, _yes(room.is_public)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
