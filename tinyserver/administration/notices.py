"""Commands about notices: what the server tells its users."""

from __future__ import annotations

import orjson

from tinyserver.administration.commands import (
    Argument,
    Caller,
    Column,
    Kind,
    Reply,
    command,
    flag,
    option,
)
from tinyserver.protocol.errors import InvalidParam
from tinyserver.rooms.server_notices import ServerNotices
from tinyserver.storage import names
from tinyserver.storage.database import Database
from tinyserver.storage.server_notices import NoticeRow

_SHORT = 60


class NoticeCommands:
    """Notices: sending them, and seeing how far they have got.

    Args:
        db: where users have their names.
        notices: sends them.
        server_name: this server.
    """

    def __init__(self, db: Database, notices: ServerNotices, server_name: str) -> None:
        self._db = db
        self._notices = notices
        self._server_name = server_name

    @command(
        "notice send",
        "tell a user, or everybody, something in the room of the server's notices",
        option("to", 'whom: "alice", or the whole "@alice:example.org"'),
        flag("all", "everybody who has an account"),
        Argument("text", "what", Kind.WORDS),
    )
    async def send(self, caller: Caller, text: str, to: str | None = None, all: bool = False) -> Reply:
        """Send a notice; it is on disk when this returns, and sent soon."""
        if all == (to is not None):
            raise InvalidParam("Say either --to and the user, or --all")
        user_id = to if to is None or to.startswith("@") else f"@{to.lower()}:{self._server_name}"
        number = await self._notices.send(text, user_id)
        return Reply(f"Notice {number} is on its way to {user_id or 'everybody'}")

    @command("notice list", "show the notices that are still being sent")
    async def list_notices(self, caller: Caller) -> Reply:
        """All notices that not everybody has yet."""
        rows = await self._notices.waiting()

        def to(row: NoticeRow) -> str:
            if row.recipient is not None:
                return self._db.glance(lambda tx: names.text(tx, row.recipient or 0))
            return "everybody" if row.room is None else "those who had to leave a room"

        shown = tuple(
            (row.nid, to(row), row.sent, row.failed, _short(orjson.loads(row.content)["body"])) for row in rows
        )
        columns = tuple(map(Column, ("number", "to", "sent", "failed", "text")))
        return Reply("" if rows else "All notices have been sent.", columns, shown)

    @command("notice cancel", "send a notice to nobody else", Argument("number", "which", Kind.NUMBER))
    async def cancel(self, caller: Caller, number: float) -> Reply:
        """Take a notice back from those who do not have it yet."""
        await self._notices.cancel(int(number))
        return Reply(f"Notice {int(number)} is sent to nobody else")


def _short(text: str) -> str:
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"
