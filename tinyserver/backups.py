"""Backups: a directory with everything that a server needs to go on somewhere else.

It is made while the server runs or not, becomes visible in one step when it is whole, and holds the database as it was
at one moment, the keys, the files that people sent, and the configuration.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tinyserver.data_directory import DataDirectory
from tinyserver.storage import snapshot
from tinyserver.storage.integrity import damage

CONFIG = "tinyserver.toml"


class BackupError(Exception):
    """A backup cannot be made or used; the message says why."""


def back_up(data: DataDirectory, config_file: Path, target: Path) -> int:
    """Make a backup.

    Args:
        data: what is backed up.
        config_file: the server's configuration.
        target: the new directory.

    Returns:
        How many bytes it has.

    Raises:
        BackupError: there is something at `target`.
        StorageError, OSError: it cannot be written.
    """
    if target.exists():
        raise BackupError(f"{target} exists already: a backup needs a new directory")
    if not data.database.exists():
        raise BackupError(f"there is no database in {data.path}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        copy = DataDirectory(partial)
        # A file is there before the database says so: what comes while the first round runs, the second brings.
        _copy_files(data.media, copy.media)
        snapshot.take(data.database, copy.database)
        _copy_files(data.media, copy.media)
        _copy(data.signing_key, copy.signing_key)
        if data.old_signing_keys.exists():
            _copy(data.old_signing_keys, copy.old_signing_keys)
        _copy(config_file, partial / CONFIG)
        size = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
        os.sync()
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return size


def restore(source: Path, data: DataDirectory) -> None:
    """Put a backup where a server's data is to be.

    The configuration is put there as well, unless there is one.

    Raises:
        BackupError: it is no whole backup, or there is a server's data already.
        OSError: it cannot be read or written.
    """
    backup = DataDirectory(source)
    if not backup.database.exists() or not backup.signing_key.exists():
        raise BackupError(f"{source} is no backup: it has no {backup.database.name} or no {backup.signing_key.name}")
    found = damage(backup.database)
    if found is not None:
        raise BackupError(f"the database in {source} is damaged ({found}): take another backup")
    for file in (data.database, data.signing_key):
        if file.exists():
            raise BackupError(f"{file} exists already: a backup is restored into a directory without a server's data")
    data.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy_files(backup.media, data.media)
    if (source / CONFIG).exists() and not (data.path / CONFIG).exists():
        _copy(source / CONFIG, data.path / CONFIG)
    if backup.old_signing_keys.exists():
        _copy(backup.old_signing_keys, data.old_signing_keys)
    _copy(backup.signing_key, data.signing_key)
    # The database is the last: without it a restoration that was interrupted can be begun again.
    new = data.database.with_name(f"{data.database.name}.new")
    _copy(backup.database, new)
    os.sync()
    new.rename(data.database)


def _copy_files(source: Path, target: Path) -> None:
    """Copy the files that people sent, except those that are there already or are still being received."""
    for file in _kept(source):
        copy = target / file.relative_to(source)
        if copy.exists():
            continue
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # removed meanwhile
            _copy(file, copy)


def _kept(media: Path) -> Iterator[Path]:
    for directory in sorted(media.iterdir()) if media.exists() else ():
        if directory.is_dir() and directory.name != "incoming":
            yield from sorted(file for file in directory.iterdir() if file.is_file())


def _copy(source: Path, target: Path) -> None:
    """Copy a file, readable by its owner alone; the copy has its name when it is whole."""
    new = target.with_name(f"{target.name}.part")
    try:
        shutil.copyfile(source, new)
        new.chmod(0o600)
        new.replace(target)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
