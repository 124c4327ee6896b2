"""Commands as data: what one is called, what it takes, and the method that does it.

A class of commands declares them on its methods::

    class TokenCommands:
        @command("token remove", "take a token back", Argument("token", "the token"))
        async def remove(self, caller: Caller, token: str) -> Reply: ...

and :class:`Commands` collects them. Whoever takes a command from somebody (the command line, the bot, HTTP) needs the
declarations only.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, NoReturn, TypeVar

import msgspec

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import InvalidParam, NotFound

log = logging.getLogger(__name__)

MAX_TEXT = 20_000
"""How many characters an argument can have."""
MAX_FILE = 256 * 1024
"""The same of one that is a file."""
MAX_PAGE = 500
"""How many rows one answer has at most."""


_LOGGED = ("user", "name", "room", "server", "file", "number")
"""Arguments that tell what a command was about, and are no secrets unless they are the text of a file."""


class Kind(Enum):
    """What an argument is."""

    TEXT = "text"
    WORDS = "words"
    """All words to the end of the line, as one text."""
    NUMBER = "number"
    FLAG = "flag"
    PASSWORD = "password"
    """Never written on a command line or into a room: it is asked for, or made up."""
    FILE = "file"
    """The text of a file, which the command line reads."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command. An `is_option` one is given by its name (`--limit 20`) and may be left out: the
    method has a default for it."""

    name: str
    help: str
    kind: Kind = Kind.TEXT
    is_option: bool = False


def option(name: str, explanation: str, kind: Kind = Kind.TEXT) -> Argument:
    """An argument that may be left out."""
    return Argument(name, explanation, kind, is_option=True)


def flag(name: str, explanation: str) -> Argument:
    """An argument that is there or not."""
    return Argument(name, explanation, Kind.FLAG, is_option=True)


LIMIT = option("limit", "how many to show", Kind.NUMBER)


class Unit(Enum):
    """What the values in a column are."""

    TEXT = "text"
    TIME = "time"
    """ms since 1970."""
    BYTES = "bytes"


class Column(msgspec.Struct, frozen=True):
    """A column of an answer."""

    name: str
    unit: Unit = Unit.TEXT


class Reply(msgspec.Struct, frozen=True):
    """The answer to a command: a text, a table, or both. `more` is the command that shows the rows after these."""

    text: str = ""
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    more: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who gives a command: an administrator, or (None) whoever owns the machine."""

    requester: Requester | None = None

    @property
    def name(self) -> str:
        """For what is written down."""
        return "the command line" if self.requester is None else self.requester.user_id


OWNER = Caller()


@dataclass(frozen=True, slots=True)
class Command:
    """A declared command. A dangerous one cannot be undone, and asks to be confirmed where a person gives it."""

    name: str
    help: str
    arguments: tuple[Argument, ...]
    is_dangerous: bool = False

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments, if they are of the declared types.

        Raises:
            InvalidParam: one is missing, unknown, or wrong.
        """
        known = {argument.name: argument for argument in self.arguments}
        for name in given:
            if name not in known:
                raise InvalidParam(f"'{self.name}' takes no argument {name[:50]!r}.")
        checked = {name: _checked(known[name], value) for name, value in given.items() if value is not None}
        for argument in self.arguments:
            if not argument.is_option and argument.name not in checked:
                raise InvalidParam(f"'{self.name}' needs an argument: {argument.name}")
        return checked


Method = Callable[..., Awaitable[Reply]]
MethodT = TypeVar("MethodT", bound=Method)


def command(
    name: str, explanation: str, *arguments: Argument, is_dangerous: bool = False
) -> Callable[[MethodT], MethodT]:
    """Declare a method as what does a command. It is called with the caller and the arguments by name."""
    declared_command = Command(name, explanation, arguments, is_dangerous)

    def declare(method: MethodT) -> MethodT:
        method.declared_command = declared_command  # type: ignore[attr-defined]
        return method

    return declare


def declared(source: type) -> dict[str, Command]:
    """The commands that a class declares, by name, in the order of declaration."""
    found = (getattr(member, "declared_command", None) for member in vars(source).values())
    return {each.name: each for each in found if isinstance(each, Command)}


class Commands:
    """All commands of a server, ready to be given.

    Args:
        load: makes the objects whose classes declare commands. It is called when the first command is given: most
            servers never see one.
    """

    def __init__(self, load: Callable[[], Iterable[object]]) -> None:
        self._load = load

    @cached_property
    def all(self) -> dict[str, Command]:
        """All commands by name."""
        return {name: each for name, (each, _) in self._methods.items()}

    @cached_property
    def _methods(self) -> dict[str, tuple[Command, Method]]:
        found: dict[str, tuple[Command, Method]] = {}
        for source in self._load():
            for attribute, member in vars(type(source)).items():
                each = getattr(member, "declared_command", None)
                if isinstance(each, Command):
                    found[each.name] = (each, getattr(source, attribute))
        return found

    async def run(self, name: str, given: Mapping[str, Any], caller: Caller) -> Reply:
        """Do a command.

        Raises:
            NotFound: there is no such command.
            InvalidParam: the arguments are wrong.
            MatrixError: what the command itself raises.
        """
        found = self._methods.get(name)
        if found is None:
            raise NotFound(f"There is no command {name[:50]!r}.")
        declared_command, method = found
        log.info("%s gives the command %s", caller.name, " ".join([name, *_loggable(declared_command, given)]))
        return await method(caller, **declared_command.check(given))


def _checked(argument: Argument, value: Any) -> Any:
    if argument.kind is Kind.FLAG:
        return value if isinstance(value, bool) else _wrong(argument, "true or false")
    if argument.kind is Kind.NUMBER:
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 2**53
        return value if good else _wrong(argument, "a number that is not negative")
    longest = MAX_FILE if argument.kind is Kind.FILE else MAX_TEXT
    return value if isinstance(value, str) and 0 < len(value) <= longest else _wrong(argument, "a text")


def _wrong(argument: Argument, wanted: str) -> NoReturn:
    raise InvalidParam(f"The argument {argument.name} must be {wanted}.")


def _loggable(declared_command: Command, given: Mapping[str, Any]) -> list[str]:
    """What of the arguments goes into the log."""
    plain = (Kind.TEXT, Kind.NUMBER)
    names = [each.name for each in declared_command.arguments if each.name in _LOGGED and each.kind in plain]
    return [f"{given[name]!r:.300}" for name in names if name in given]


def page_size(limit: float | None, usual: int = 50) -> int:
    """How many rows to show. Raises InvalidParam for none at all."""
    if limit is None:
        return usual
    if limit != int(limit) or limit < 1:
        raise InvalidParam("The limit must be a whole number greater than zero.")
    return min(int(limit), MAX_PAGE)
