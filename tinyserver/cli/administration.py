"""The commands of administrators, as ``tinyserver user create`` and so on, whether the server runs or not."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from pathlib import Path
from typing import Any

import msgspec

from tinyserver.administration import parsing
from tinyserver.administration.commands import MAX_FILE, OWNER, Command, Kind, Reply
from tinyserver.administration.rendering import plain
from tinyserver.administration.table import commands_of
from tinyserver.api.admin.commands import LOCAL_COMMANDS
from tinyserver.cli import CommandError
from tinyserver.cli.config_file import config_file
from tinyserver.cli.running_server import ask_running_server
from tinyserver.config import Config, load_config
from tinyserver.data_directory import DataDirectory
from tinyserver.protocol.errors import MatrixError


def add_arguments(parser: argparse.ArgumentParser, group: str) -> None:
    """What the commands of a group understand."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for command in commands_of(group).values():
        action = actions.add_parser(command.name.partition(" ")[2], help=command.help, description=command.help)
        parsing.add_arguments(action, command)
        if _password(command) is not None:
            action.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
        if command.is_dangerous:
            action.add_argument("--yes", action="store_true", help="do it without asking")
        action.add_argument("--json", action="store_true", help="print the answer as JSON")
        action.add_argument("--config", type=Path, metavar="FILE", help="the server's configuration file")


def run(options: argparse.Namespace) -> int:
    """Do a command and print its answer. Raises CommandError, ConfigError or DataDirectoryError."""
    command = commands_of(options.command)[f"{options.command} {options.action}"]
    config = load_config(config_file(options.config))
    arguments = parsing.taken(command, options)
    if command.is_dangerous and not options.yes:
        _confirm(command)
    password = _password(command)
    for argument in command.arguments:
        if argument.kind is Kind.FILE and argument.name in arguments:
            arguments[argument.name] = _text_of(arguments[argument.name])
    if password is not None:
        arguments[password] = _read_password(from_stdin=options.password_stdin)
    try:
        reply = _give(config, command.name, arguments)
    except MatrixError as error:
        raise CommandError(error.message) from error
    print(msgspec.json.format(msgspec.json.encode(reply)).decode() if options.json else plain(reply))
    return 0


def _give(config: Config, name: str, arguments: dict[str, Any]) -> Reply:
    """Have the running server do it, or without one do it here. Both give the same answer."""
    data = DataDirectory(config.data_dir)
    if data.lock():
        data.unlock()
        return asyncio.run(_do_here(config, name, arguments))
    answer = ask_running_server(data, "POST", LOCAL_COMMANDS, {"command": name, "arguments": arguments})
    return msgspec.convert(answer, Reply)


async def _do_here(config: Config, name: str, arguments: dict[str, Any]) -> Reply:
    """No server runs: be one for a moment, without listening anywhere or talking to others."""
    from tinyserver.server import Server  # only here, since it takes a while to load

    server = Server(config)
    await server.core.start()
    await server.appservices.services.load()  # who is told of what a command does, when a server runs again
    try:
        return await server.administration.commands.run(name, arguments, OWNER)
    finally:
        await server.stop()


def _password(command: Command) -> str | None:
    """The name of the argument of a command that is a password."""
    return next((argument.name for argument in command.arguments if argument.kind is Kind.PASSWORD), None)


def _text_of(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            return opened.read(MAX_FILE + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from error


def _confirm(command: Command) -> None:
    if not sys.stdin.isatty():
        raise CommandError(f"'{command.name}' cannot be undone. If that is what you want, add --yes")
    if input(f"{command.help}: this cannot be undone. Do it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was done")


def _read_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Again: ")
    except EOFError as error:
        raise CommandError("no password was given; pass it with --password-stdin") from error
    if password != again:
        raise CommandError("the two passwords differ; nothing was done")
    return password
