"""``tinyserver token``: registration tokens, whether the server runs or not."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tinyserver.accounts.registration_tokens import RegistrationTokens
from tinyserver.api.admin.local import TOKENS
from tinyserver.api.oauth.locations import invitation_link
from tinyserver.cli import CommandError
from tinyserver.cli.config_file import config_file
from tinyserver.cli.running_server import ask_running_server
from tinyserver.config import Config, load_config
from tinyserver.data_directory import DataDirectory
from tinyserver.protocol.errors import MatrixError, NotFound
from tinyserver.server import Server

_DAY_MS = 24 * 3600 * 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a token and print it")
    create.add_argument("--token", metavar="TEXT", help="the token itself; otherwise a random one")
    create.add_argument("--uses", type=int, default=1, metavar="N", help="good for N accounts (1); 0: any number")
    create.add_argument("--days", type=float, metavar="N", help="good for N days; otherwise for ever")
    create.add_argument("--link", action="store_true", help="print an invitation link: a page for making the account")
    listing = actions.add_parser("list", help="print all tokens")
    remove = actions.add_parser("remove", help="take a token back")
    remove.add_argument("token", metavar="TOKEN")
    for action in (create, listing, remove):
        action.add_argument("--config", type=Path, metavar="FILE", help="the server's configuration file")


def run(options: argparse.Namespace) -> int:
    """Do it. Raises CommandError, ConfigError or DataDirectoryError."""
    config = load_config(config_file(options.config))
    try:
        if options.action == "create":
            made = _create(config, options)
            print(invitation_link(config.public_url, made) if options.link else made)
        elif options.action == "remove":
            _remove(config, options.token)
            print(f"Removed {options.token}")
        else:
            for token in _all(config):
                print(_described(token))
    except MatrixError as error:
        raise CommandError(error.message) from error
    return 0


def _create(config: Config, options: argparse.Namespace) -> str:
    if options.link and not config.public_url:
        raise CommandError('--link needs "public_url" in the configuration: where people reach this server')
    if options.uses < 0:
        raise CommandError("--uses must not be negative")
    if options.days is not None and not 0 < options.days < 100_000:
        raise CommandError("--days must be a number of days from now on")
    uses = options.uses or None
    expires = None if options.days is None else int(time.time() * 1000 + options.days * _DAY_MS)
    body = {"token": options.token, "uses_allowed": uses, "expires": expires}

    async def create(tokens: RegistrationTokens) -> dict[str, Any]:
        return {"token": await tokens.create(options.token, uses_allowed=uses, expires=expires)}

    return str(_do(config, create, "POST", TOKENS, body)["token"])


def _all(config: Config) -> list[dict[str, Any]]:
    async def list_all(tokens: RegistrationTokens) -> dict[str, Any]:
        return {"tokens": [asdict(row) for row in await tokens.all()]}

    found: list[dict[str, Any]] = _do(config, list_all, "GET", TOKENS)["tokens"]
    return found


def _remove(config: Config, token: str) -> None:
    async def remove(tokens: RegistrationTokens) -> dict[str, Any]:
        if not await tokens.remove(token):
            raise NotFound("There is no such registration token.")
        return {}

    _do(config, remove, "DELETE", f"{TOKENS}/{quote(token, safe='')}")


def _do(
    config: Config,
    action: Callable[[RegistrationTokens], Awaitable[dict[str, Any]]],
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Have the running server do it, or without one do it here. Both give the same answer."""
    data = DataDirectory(config.data_dir)
    if data.lock():
        data.unlock()
        return asyncio.run(_do_here(config, action))
    answer: dict[str, Any] = ask_running_server(data, method, path, body)
    return answer


async def _do_here(config: Config, action: Callable[[RegistrationTokens], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    server = Server(config)
    await server.start()
    try:
        return await action(server.registration_tokens)
    finally:
        await server.stop()


def _described(token: dict[str, Any]) -> str:
    uses, allowed, expires = token["uses"], token["uses_allowed"], token["expires"]
    told = f"{token['token']}  used {uses} of {'any number of' if allowed is None else allowed} times"
    if expires is not None:
        told += f", until {datetime.fromtimestamp(expires / 1000):%Y-%m-%d %H:%M}"
    return told + (", makes the first administrator" if token["makes_admin"] else "")
