"""``tinyserver key``: the key that this server signs with."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tinyserver.cli import CommandError
from tinyserver.cli.config_file import config_file
from tinyserver.config import load_config
from tinyserver.data_directory import DataDirectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print the public keys, the present one and the old ones")
    rotate = actions.add_parser("rotate", help="sign with a new key from now on; the server must be stopped")
    for action in (show, rotate):
        action.add_argument("--config", type=Path, metavar="FILE", help="the server's configuration file")


def run(options: argparse.Namespace) -> int:
    """Do it. Raises CommandError, ConfigError or DataDirectoryError."""
    data = DataDirectory(load_config(config_file(options.config)).data_dir)
    if options.action == "rotate":
        if not data.lock():
            raise CommandError("the server is running and signs with its key; stop it first")
        try:
            data.rotate_signing_key(int(time.time() * 1000))
        finally:
            data.unlock()
    key = data.read_signing_key()
    print(f"{key.key_id} {key.verify_key_base64}")
    for old in data.read_old_signing_keys():
        print(f"{old.key_id} {old.public_key} until {old.expired_ts}")
    return 0
