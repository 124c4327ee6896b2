"""From words to a command and its arguments: the same on the command line and in a message."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from tinyserver.administration.commands import Command, Kind
from tinyserver.protocol.errors import InvalidParam, NotFound

_WORD = re.compile(r'"([^"]*)"|(\S+)')
# What phones make of quotation marks.
_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"'})


@dataclass(frozen=True, slots=True)
class Asked:
    """A command with its arguments."""

    command: Command
    arguments: Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser, command: Command) -> None:
    """Let a parser take the arguments of a command; passwords aside, which are not written down."""
    for argument in command.arguments:
        option = f"--{argument.name}"
        if argument.kind is Kind.PASSWORD:
            continue
        if argument.kind is Kind.FLAG:
            parser.add_argument(option, action="store_true", default=None, help=argument.help)
            continue
        name = option if argument.is_option else argument.name
        metavar = argument.name.upper()
        more: dict[str, Any] = {}
        if argument.kind is Kind.NUMBER:
            more["type"] = float
        elif argument.kind is Kind.WORDS:
            more["nargs"] = "+"
        parser.add_argument(name, metavar=metavar, help=argument.help, **more)


def taken(command: Command, options: argparse.Namespace) -> dict[str, Any]:
    """The arguments that a parser has taken."""
    given: dict[str, Any] = {}
    for argument in command.arguments:
        value = getattr(options, argument.name, None)
        if value is not None:
            given[argument.name] = " ".join(value) if argument.kind is Kind.WORDS else value
    return given


def parse(text: str, commands: Mapping[str, Command]) -> Asked:
    """The command that a message gives.

    Raises:
        NotFound: there is no such command.
        InvalidParam: it lacks arguments, or has wrong ones. The message says how the command is used.
    """
    words = split(text)
    name = " ".join(words[:2]).lower()  # phones begin with a capital letter
    command = commands.get(name)
    if command is None:
        group = words[0].lower() if words else ""
        about = f" {group}" if group in groups(commands.values()) else ""
        raise NotFound(f"There is no command {name[:50]!r}. Say help{about} for a list.")
    parser = _Parser(prog=command.name, add_help=False, allow_abbrev=False)
    add_arguments(parser, command)
    try:
        options = parser.parse_args([_as_option(word, command) for word in words[2:]])
    except _Wrong as error:
        raise InvalidParam(f"{error} – it is used like this: {usage(command)}") from error
    return Asked(command, taken(command, options))


def split(text: str) -> list[str]:
    """The words of a message; what stands in quotation marks is one word. Apostrophes mean nothing."""
    found = _WORD.findall(text.translate(_QUOTES))
    return [quoted or word for quoted, word in found]


def _as_option(word: str, command: Command) -> str:
    """A word with the dashes of an option, if it is one of a command's: phones make one long dash of two."""
    name = word.lstrip("—–")
    known = {argument.name for argument in command.arguments if argument.is_option}
    return f"--{name}" if name != word and name.partition("=")[0] in known else word


def usage(command: Command) -> str:
    """How a command is written: `user list [--all] [--after AFTER]`."""
    parts = [command.name]
    for argument in command.arguments:
        metavar = argument.name.upper()
        if argument.kind is Kind.PASSWORD:
            continue
        if argument.kind is Kind.FLAG:
            parts.append(f"[--{argument.name}]")
        elif argument.is_option:
            parts.append(f"[--{argument.name} {metavar}]")
        else:
            parts.append(f"{metavar}..." if argument.kind is Kind.WORDS else metavar)
    return " ".join(parts)


def groups(commands: Iterable[Command]) -> dict[str, list[Command]]:
    """Commands by their first word."""
    found: dict[str, list[Command]] = {}
    for command in commands:
        found.setdefault(command.name.partition(" ")[0], []).append(command)
    return found


class _Wrong(Exception):
    """Words that a parser does not take."""


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise _Wrong(message)
