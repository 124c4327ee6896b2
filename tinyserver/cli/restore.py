"""``tinyserver restore``: put a backup where a server's data is to be."""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyserver.backups import CONFIG, BackupError, restore
from tinyserver.cli import CommandError
from tinyserver.data_directory import DataDirectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument("backup", type=Path, metavar="BACKUP", help="the directory that tinyserver backup has made")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="where the server is to keep its data")


def run(options: argparse.Namespace) -> int:
    """Restore. Raises CommandError or DataDirectoryError."""
    data = DataDirectory(options.data.absolute())
    try:
        data.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not data.lock():
            raise BackupError(f"a server is running on {data.path}")
        try:
            restore(options.backup, data)
        finally:
            data.unlock()
    except (BackupError, OSError) as error:
        raise CommandError(str(error)) from error
    print(f"Restored to {data.path}\nLook at data_dir in {data.path / CONFIG}, then run: tinyserver serve")
    return 0
