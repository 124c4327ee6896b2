"""The command line: ``tinyserver COMMAND``. Each command is a module with ``add_arguments`` and ``run``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from tinyserver.config import ConfigError
from tinyserver.data_directory import DataDirectoryError

# Command -> its module and its line of help. A module is imported when its command runs: what the others need stays
# out of the server's memory.
COMMANDS = {
    "backup": ("tinyserver.cli.backup", "copy everything that the server needs into a new directory"),
    "doctor": ("tinyserver.cli.doctor", "look whether everything is as it must be, and say what to do if not"),
    "init": ("tinyserver.cli.init", "write a configuration, a signing key and a data directory"),
    "key": ("tinyserver.cli.key", "show and replace the key that this server signs with"),
    "restore": ("tinyserver.cli.restore", "put a backup where a server's data is to be"),
    "serve": ("tinyserver.cli.serve", "run the server"),
}
# The commands of administrators: tinyserver.administration.table has what is in each group.
GROUPS = {
    "appservice": "bridges and bots: registering, showing and removing them",
    "email": "the mail addresses of accounts",
    "federation": "what other servers are owed and which of them fail",
    "media": "files: who has how many, taking them out of circulation, deleting them",
    "notice": "what the server tells its users",
    "report": "what users have reported",
    "room": "rooms: showing, listing in the directory, closing them",
    "server": "the server itself: its version, and how it is doing",
    "token": "registration tokens, with which people register",
    "user": "accounts: making, showing, changing and closing them",
}
_ADMINISTRATION = "tinyserver.cli.administration"


class CommandError(Exception):
    """A command cannot do what it was asked for; the message says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that the user can mend are printed without a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="tinyserver", description="A Matrix homeserver for small devices.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    summaries = {name: summary for name, (_, summary) in COMMANDS.items()} | GROUPS
    for name, summary in sorted(summaries.items()):
        command = commands.add_parser(name, help=summary, description=summary)
        if given[:1] == [name] and name in GROUPS:
            import_module(_ADMINISTRATION).add_arguments(command, name)
        elif given[:1] == [name]:
            import_module(COMMANDS[name][0]).add_arguments(command)
    options = parser.parse_args(given)
    os.umask(0o077)  # whatever a command writes is its user's alone
    try:
        module = _ADMINISTRATION if options.command in GROUPS else COMMANDS[options.command][0]
        status: int = import_module(module).run(options)
    except (CommandError, ConfigError, DataDirectoryError) as error:
        print(f"tinyserver: {error}", file=sys.stderr)
        return 1
    return status
