"""What can go wrong below SQL, told apart by what the person at the other end can do about it."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from pathlib import Path


class StorageError(Exception):
    """The database could not do what was asked; nothing of the step was stored."""


class StorageFull(StorageError):
    """No space is left on the disk: the step was rolled back; it works again as soon as there is space."""


class StorageReadOnly(StorageError):
    """The database cannot be written (permissions, or a card that turned read-only)."""


class StorageFailing(StorageError):
    """The disk answers with errors: a dying card, a share that went away."""


class DatabaseTooNew(StorageError):
    """The file was written by a newer tinyserver; this one leaves it alone."""


class CorruptDatabase(StorageError):
    """Stored data contradicts itself."""


_PROBE_BYTES = 64 * 1024


def translate(error: sqlite3.Error | OSError, directory: Path) -> Exception:
    """The storage error behind an SQLite or OS error, or the error itself when it is a bug of ours.

    Args:
        error: what `sqlite3` or the operating system raised.
        directory: where the database lies. SQLite says "disk I/O error" for many things; which of them it is, a file
            that is written there tells.
    """
    if isinstance(error, OSError):
        return _translate_os(error) or error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StorageFull("no space is left on the disk")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StorageReadOnly(f"the database cannot be written ({error})")
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return _probe(directory) or StorageFailing(f"the disk does not work as it should ({error})")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptDatabase(f"the database file is damaged ({error})")
    return error


def _translate_os(error: OSError) -> StorageError | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("no space is left on the disk")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StorageReadOnly(f"the data directory cannot be written ({error.strerror})")
    if error.errno in (errno.EIO, errno.EFBIG):
        return StorageFailing(f"the disk does not work as it should ({error.strerror})")
    return None


def _probe(directory: Path) -> StorageError | None:
    """What writing a file in the directory fails with, if it fails."""
    path = directory / f".probe-{os.getpid()}-{threading.get_ident()}"
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, bytes(_PROBE_BYTES))
            os.fsync(file)
        finally:
            os.close(file)
            os.unlink(path)
    except OSError as error:
        return _translate_os(error)
    return None
