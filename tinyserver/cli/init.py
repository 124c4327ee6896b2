"""``tinyserver init``: everything that a new server needs before its first start."""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from tinyserver.cli import CommandError
from tinyserver.config import load_config
from tinyserver.config.text import render_default_config
from tinyserver.data_directory import DataDirectory, write_private
from tinyserver.protocol.identifiers import is_valid_server_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument("--server-name", required=True, help='the name after the colon in "@alice:example.org"')
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="where the server keeps everything")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the file to write (DIR/tinyserver.toml)")
    parser.add_argument(
        "--listen", default="127.0.0.1:8008", metavar="ADDRESS", help="where to listen (127.0.0.1:8008)"
    )
    parser.add_argument("--public-url", metavar="URL", help="where clients reach the server")


def run(options: argparse.Namespace) -> int:
    """Write configuration, key and directory. Raises CommandError if the configuration file exists."""
    if not is_valid_server_name(options.server_name):
        raise CommandError(
            f'"{options.server_name}" is no server name; it looks like "example.org" or "localhost:8448"'
        )
    data_dir: Path = options.data.absolute()
    file: Path = options.config or data_dir / "tinyserver.toml"
    if file.exists():
        raise CommandError(f"{file} exists already and stays as it is; remove it first if it should be made anew")
    DataDirectory(data_dir).create()
    text = render_default_config(
        options.server_name,
        data_dir,
        listen=options.listen,
        public_url=options.public_url or "",
        shared_secret=secrets.token_urlsafe(32),
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_private(file, text)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error}") from error
    load_config(file)
    print(f"Wrote {file}\nNow run: tinyserver serve --config {file}")
    return 0
