"""``tinyserver backup``: everything that the server needs, in a new directory, while it runs or not."""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyserver.backups import BackupError, back_up
from tinyserver.cli import CommandError
from tinyserver.cli.config_file import config_file
from tinyserver.config import load_config
from tinyserver.data_directory import DataDirectory
from tinyserver.storage.errors import StorageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="where to put it; it must not exist yet")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the server's configuration file")


def run(options: argparse.Namespace) -> int:
    """Make the backup. Raises CommandError or ConfigError."""
    file = config_file(options.config)
    target = options.directory.absolute()
    try:
        size = back_up(DataDirectory(load_config(file).data_dir), file, target)
    except (BackupError, StorageError, OSError) as error:
        raise CommandError(f"there is no new backup: {error}") from error
    print(f"Wrote {size // 1024**2} MiB to {target}")
    return 0
