"""Commands about files."""

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
    option,
    page_size,
)
from tinyserver.clock import Clock
from tinyserver.media.repository import MediaRepository
from tinyserver.protocol.errors import InvalidParam
from tinyserver.protocol.identifiers import InvalidIdentifier, parse_mxc_uri

_FILE = Argument("file", 'which: "mxc://example.org/..."')
_DAY_MS = 24 * 3600 * 1000


class MediaCommands:
    """Files: who has how many, taking them out of circulation, deleting them.

    Args:
        repository: has them.
        clock: for their ages.
        server_name: this server.
    """

    def __init__(self, repository: MediaRepository, clock: Clock, server_name: str) -> None:
        self._repository = repository
        self._clock = clock
        self._server_name = server_name

    @command("media usage", "show whose files take the most room", LIMIT)
    async def usage(self, caller: Caller, limit: float | None = None) -> Reply:
        """The users with the most bytes."""
        rows = await self._repository.usage(page_size(limit))
        shown = tuple((user or "copies and thumbnails", bytes_) for user, bytes_ in rows)
        return Reply("" if shown else "There are no files.", (Column("whose"), Column("size", Unit.BYTES)), shown)

    @command(
        "media list",
        "show the files of a user, the newest first",
        Argument("user", 'whose: "alice", or the whole "@alice:example.org"'),
        option("before", "go on behind the file with this number", Kind.NUMBER),
        LIMIT,
    )
    async def list_files(
        self, caller: Caller, user: str, before: float | None = None, limit: float | None = None
    ) -> Reply:
        """A page of a user's uploads."""
        count = page_size(limit)
        user_id = user if user.startswith("@") else f"@{user.lower()}:{self._server_name}"
        first = None if before is None else int(before)
        rows = await self._repository.uploads(user_id, first, count + 1)
        more = f"media list {user_id} --before {rows[count - 1].nid} --limit {count}" if len(rows) > count else ""
        columns = (
            *(Column("number"), Column("file"), Column("size", Unit.BYTES), Column("sent", Unit.TIME)),
            *(Column("type"), Column("name"), Column("quarantined")),
        )
        shown = tuple(
            (
                row.nid,
                f"mxc://{self._server_name}/{row.media_id}",
                row.size,
                row.created,
                row.content_type,
                row.file_name,
                "yes" if row.quarantined else "no",
            )
            for row in rows[:count]
        )
        return Reply("" if shown else "There are none.", columns, shown, more)

    @command("media quarantine", "have a file served to nobody any more, also when its content is sent again", _FILE)
    async def quarantine(self, caller: Caller, file: str) -> Reply:
        """Take a file out of circulation."""
        await self._repository.quarantine(*_parsed(file), quarantined=True)
        return Reply(f"{file} is served to nobody any more")

    @command("media release", "lift the quarantine of a file", _FILE)
    async def release(self, caller: Caller, file: str) -> Reply:
        """Serve a file again."""
        await self._repository.quarantine(*_parsed(file), quarantined=False)
        return Reply(f"{file} is served again")

    @command("media delete", "delete a file", _FILE, is_dangerous=True)
    async def delete(self, caller: Caller, file: str) -> Reply:
        """Delete a file."""
        await self._repository.remove(*_parsed(file))
        return Reply(f"{file} is deleted")

    @command(
        "media purge-remote",
        "delete copies of other servers' files; they are fetched again when somebody asks for them",
        option("days", "those that nobody has asked for in so many days (30)", Kind.NUMBER),
    )
    async def purge_remote(self, caller: Caller, days: float = 30) -> Reply:
        """Delete copies."""
        removed = await self._repository.remove_copies(max(self._clock.now_ms() - int(days * _DAY_MS), 0))
        return Reply(f"Deleted {removed} copies")


def _parsed(uri: str) -> tuple[str, str]:
    try:
        parsed = parse_mxc_uri(uri)
    except InvalidIdentifier as error:
        raise InvalidParam(f"{uri[:100]!r} is no mxc:// URI") from error
    return parsed.server_name, parsed.media_id
