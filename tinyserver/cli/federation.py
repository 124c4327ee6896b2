"""``tinyserver federation status``: what other servers are owed and which of them fail."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from tinyserver.api.admin.local import DESTINATIONS
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
    status = actions.add_parser("status", help="print what each server lacks, and since when and why it fails")
    status.add_argument("--config", type=Path, metavar="FILE", help="the server's configuration file")


def run(options: argparse.Namespace) -> int:
    """Do it. Raises CommandError, ConfigError or DataDirectoryError."""
    config = load_config(config_file(options.config))
    try:
        states = _states(config)
    except MatrixError as error:
        raise CommandError(error.message) from error
    for state in states:
        print(_described(state))
    if not states:
        print("All servers have everything, and none is known to fail.")
    return 0


def _states(config: Config) -> list[dict[str, Any]]:
    """Ask the running server, or without one look here."""
    data = DataDirectory(config.data_dir)
    if data.lock():
        data.unlock()
        return asyncio.run(_look_here(config))
    found: list[dict[str, Any]] = ask_running_server(data, "GET", DESTINATIONS)["destinations"]
    return found


async def _look_here(config: Config) -> list[dict[str, Any]]:
    server = Server(config)
    server.db.start()
    try:
        return [asdict(state) for state in await server.federation_overview.destinations()]
    finally:
        await server.stop()


def _described(state: dict[str, Any]) -> str:
    lacks = [
        f"{state[key]} {name}"
        for key, name in (("events", "events"), ("messages", "messages"), ("device_changes", "device changes"))
        if state[key]
    ]
    told = f"{state['server']}  lacks {', '.join(lacks)}" if lacks else f"{state['server']}  has everything"
    if state["oldest_ts"] is not None:
        told += f", the oldest of {_time(state['oldest_ts'])}"
    if state["failing_since"] is not None:
        told += f"; fails since {_time(state['failing_since'])} ({state['reason']})"
        told += f", next try {_time(state['retry_at'])}"
    return told


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000):%Y-%m-%d %H:%M}"
