"""What the server's own account answers to administrators who talk to it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from tinyserver.accounts.requester import Requester
from tinyserver.administration import parsing
from tinyserver.administration.commands import Caller, Column, Command, Commands, Reply
from tinyserver.administration.parsing import Asked
from tinyserver.protocol.errors import InvalidParam, MatrixError

PATIENCE = 300.0
"""Seconds within which a dangerous command is to be confirmed."""
_MAX_PENDING = 100


@dataclass(frozen=True, slots=True)
class _Pending:
    """A dangerous command that waits to be confirmed."""

    asked: Asked
    code: str
    until: float


class Conversation:
    """Understands messages and does what they say. What waits for a confirmation lives in memory, for minutes.

    Args:
        commands: what can be done.
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, commands: Commands, monotonic: Callable[[], float]) -> None:
        self._commands = commands
        self._monotonic = monotonic
        self._pending: dict[str, _Pending] = {}

    def prepare(self) -> None:
        """Load what is needed to understand messages: it takes a while the first time."""
        _ = self._groups

    @cached_property
    def _groups(self) -> dict[str, list[Command]]:
        return parsing.groups(self._commands.all.values())

    def is_for_us(self, text: str) -> bool:
        """Whether a message begins like a command; else it may be meant for other people."""
        words = parsing.split(text)
        return bool(words) and (words[0].lower() in self._groups or words[0].lower() in ("help", "confirm"))

    async def answer(self, text: str, requester: Requester) -> Reply:
        """Do what a message says, and the answer, also where that is that it cannot be done."""
        words = parsing.split(text)
        try:
            if not words or words[0].lower() == "help":
                return self._help(words[1:])
            if words[0].lower() == "confirm":
                return await self._confirm(words[1:], requester)
            asked = parsing.parse(text, self._commands.all)
            asked.command.check(asked.arguments)
            if asked.command.is_dangerous:
                return self._ask_back(asked, requester)
            return await self._commands.run(asked.command.name, asked.arguments, Caller(requester))
        except MatrixError as error:
            return Reply(error.message)

    # -- dangerous commands ----------------------------------------------------------------------

    def _ask_back(self, asked: Asked, requester: Requester) -> Reply:
        self._pending.pop(requester.user_id, None)
        if len(self._pending) >= _MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        code = f"{secrets.randbelow(900_000) + 100_000}"
        self._pending[requester.user_id] = _Pending(asked, code, self._monotonic() + PATIENCE)
        given = ", ".join(f"{name}: {value}" for name, value in asked.arguments.items())
        return Reply(f"This will {asked.command.help} ({given}).\nTo do it, say within five minutes: confirm {code}")

    async def _confirm(self, words: list[str], requester: Requester) -> Reply:
        pending = self._pending.pop(requester.user_id, None)
        if pending is None or pending.until < self._monotonic():
            return Reply("Nothing waits to be confirmed. Give the command again.")
        if words != [pending.code]:
            self._pending[requester.user_id] = pending
            return Reply("That is not the code. Say the word confirm and the code.")
        asked = pending.asked
        return await self._commands.run(asked.command.name, asked.arguments, Caller(requester))

    # -- help ------------------------------------------------------------------------------------

    def _help(self, words: list[str]) -> Reply:
        if not words:
            rows = tuple(
                (group, ", ".join(each.name.partition(" ")[2] for each in commands))
                for group, commands in self._groups.items()
            )
            return Reply("Say for example: user list, or help user", (Column("about"), Column("what")), rows)
        commands = self._groups.get(words[0].lower())
        if commands is None:
            raise InvalidParam(f"There is no help about {words[0][:50]!r}. Say help for a list.")
        asked = [word.lower() for word in words[1:]]
        rows = tuple((parsing.usage(each), each.help) for each in commands if asked in ([], each.name.split()[1:]))
        if not rows:
            named, group = " ".join(words)[:50], words[0].lower()
            raise InvalidParam(f"There is no help about {named!r}. Say help {group} for a list.")
        return Reply("", (Column("command"), Column("what it does")), rows)
