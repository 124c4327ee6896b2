"""``tinyserver user create``: make an account, whether the server runs or not."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from pathlib import Path

from tinyserver.api.admin.local import CREATE_USER
from tinyserver.cli import CommandError
from tinyserver.cli.config_file import config_file
from tinyserver.cli.running_server import ask_running_server
from tinyserver.config import Config, load_config
from tinyserver.data_directory import DataDirectory
from tinyserver.protocol.errors import MatrixError
from tinyserver.server import Server


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make an account")
    create.add_argument("name", metavar="NAME", help='"alice", or the whole "@alice:example.org"')
    create.add_argument("--admin", action="store_true", help="the account administers the server")
    create.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    create.add_argument("--config", type=Path, metavar="FILE", help="the server's configuration file")


def run(options: argparse.Namespace) -> int:
    """Make the account and print its user ID. Raises CommandError, ConfigError or DataDirectoryError."""
    config = load_config(config_file(options.config))
    name = options.name.removeprefix("@").removesuffix(f":{config.server_name}")
    password = _read_password(from_stdin=options.password_stdin)
    data = DataDirectory(config.data_dir)
    try:
        if data.lock():
            data.unlock()
            user_id = asyncio.run(_create_in_database(config, name, password, admin=options.admin))
        else:
            user_id = _create_in_running_server(data, name, password, admin=options.admin)
    except MatrixError as error:
        raise CommandError(error.message) from error
    print(f"Created {user_id}{' (administrator)' if options.admin else ''}")
    return 0


def _read_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Again: ")
    except EOFError as error:
        raise CommandError("no password was given; pass it with --password-stdin") from error
    if password != again:
        raise CommandError("the two passwords differ; no account was made")
    return password


async def _create_in_database(config: Config, name: str, password: str, *, admin: bool) -> str:
    """No server runs: be one for a moment, without listening anywhere."""
    server = Server(config)
    await server.start()
    try:
        made = await server.registration.register_trusted(name, password, None, admin=admin)
    finally:
        await server.stop()
    return made.user_id


def _create_in_running_server(data: DataDirectory, name: str, password: str, *, admin: bool) -> str:
    """Ask the server that has the data directory; it alone may write there."""
    body = {"name": name, "password": password, "admin": admin}
    answer = ask_running_server(data, "POST", CREATE_USER, body)
    return str(answer["user_id"])
