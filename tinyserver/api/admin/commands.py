"""The commands of administrators over HTTP: for the command line by the local socket, for tools by an access token."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.administration.commands import OWNER, Caller, Commands
from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.routing import Answer, Auth, Surface, endpoint

LOCAL_COMMANDS = "/_tinyserver/local/commands"
_COMMANDS = "/_tinyserver/admin/v1/commands"
_SPEC = "no part of the specification"


class GivenCommand(msgspec.Struct):
    """A command with its arguments by name, such as `{"command": "user show", "arguments": {"user": "alice"}}`."""

    command: str
    arguments: dict[str, Any] = {}


class LocalCommandsApi:
    """What the command line asks of a running server, over a socket in the data directory.

    Only the socket's owner can open it, so whoever comes this way may do everything. It asks for no token: it must
    never be on another listener.
    """

    surface = Surface.ADMIN

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    @endpoint("POST", LOCAL_COMMANDS, spec=_SPEC, auth=Auth.NONE, body=GivenCommand)
    async def give(self, call: Call[GivenCommand, NoQuery]) -> Answer:
        """Do a command in the name of the machine's owner."""
        return await self._commands.run(call.body.command, call.body.arguments, OWNER)


class CommandsApi:
    """The same commands for administrators with a client's access token."""

    surface = Surface.ADMIN

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    @endpoint("POST", _COMMANDS, spec=_SPEC, auth=Auth.ADMIN, body=GivenCommand, suspended=False)
    async def give(self, call: Call[GivenCommand, NoQuery]) -> Answer:
        """Do a command in the name of the administrator."""
        return await self._commands.run(call.body.command, call.body.arguments, Caller(call.requester))
