"""``tinyserver appservice add``, ``remove`` and ``list``: bridges and bots."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tinyserver.api.admin.appservices import SERVICES
from tinyserver.appservices.registration import MAX_BYTES, RegistrationError
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
    add = actions.add_parser("add", help="register a bridge, or give it another registration")
    add.add_argument("file", type=Path, metavar="FILE", help="its registration file (YAML), as the bridge generates it")
    remove = actions.add_parser("remove", help="forget a bridge; the accounts that it made stay")
    remove.add_argument("id", metavar="ID", help="as in its registration")
    shown = actions.add_parser("list", help="print what each of them waits for, and why it fails")
    for action in (add, remove, shown):
        action.add_argument("--config", type=Path, metavar="FILE", help="the server's configuration file")


def run(options: argparse.Namespace) -> int:
    """Do it. Raises CommandError, ConfigError or DataDirectoryError."""
    config = load_config(config_file(options.config))
    try:
        if options.action == "add":
            made = _add(config, options.file)
            print(f"{made['id']} is registered; its user is {made['user']}.")
        elif options.action == "remove":
            _remove(config, options.id)
            print(f"{options.id} is not registered any more.")
        else:
            states = _states(config)
            for state in states:
                print(_described(state))
            if not states:
                print("No application service is registered.")
    except (MatrixError, RegistrationError) as error:
        raise CommandError(str(error)) from error
    return 0


def _add(config: Config, file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from error

    async def here(server: Server) -> dict[str, Any]:
        service = await server.appservices.services.add(text)
        return {"id": service.id, "user": service.sender}

    made: dict[str, Any] = _ask(config, "POST", SERVICES, {"registration": text}, here)
    return made


def _remove(config: Config, service_id: str) -> None:
    async def here(server: Server) -> None:
        if not await server.appservices.services.remove(service_id):
            raise CommandError("There is no such application service.")

    _ask(config, "DELETE", f"{SERVICES}/{quote(service_id, safe='')}", None, here)


def _states(config: Config) -> list[dict[str, Any]]:
    async def here(server: Server) -> dict[str, Any]:
        return {"services": [asdict(state) for state in await server.appservices.overview.services()]}

    found: list[dict[str, Any]] = _ask(config, "GET", SERVICES, None, here)["services"]
    return found


def _ask(
    config: Config, method: str, path: str, body: dict[str, Any] | None, here: Callable[[Server], Awaitable[Any]]
) -> Any:
    """Ask the running server, or without one do it here."""
    data = DataDirectory(config.data_dir)
    if not data.lock():
        return ask_running_server(data, method, path, body)
    data.unlock()

    async def do() -> Any:
        server = Server(config)
        server.db.start()
        try:
            await server.appservices.services.load()
            return await here(server)
        finally:
            await server.stop()

    return asyncio.run(do())


def _described(state: dict[str, Any]) -> str:
    told = f"{state['id']}  {state['user']}, {state['url'] or 'listens nowhere'}"
    if state["events"]:
        since = datetime.fromtimestamp(state["oldest_ts"] / 1000)
        told += f", lacks {state['events']} events, the oldest of {since:%Y-%m-%d %H:%M}"
    if state["error"] is not None:
        told += f"; fails ({state['error']})"
    return told + ("  [from the configuration]" if state["is_configured"] else "")
