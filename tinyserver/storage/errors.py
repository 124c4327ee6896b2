"""What can go wrong below SQL, told apart by what the person at the other end can do about it."""

from __future__ import annotations

import errno
import sqlite3


class StorageError(Exception):
    """The database could not do what was asked; nothing of the step was stored."""


class StorageFull(StorageError):
    """No space is left on the disk: the step was rolled back; it works again as soon as there is space."""


class StorageReadOnly(StorageError):
    """The database cannot be written (permissions, or a card that turned read-only)."""


class DatabaseTooNew(StorageError):
    """The file was written by a newer tinyserver; this one leaves it alone."""


class CorruptDatabase(StorageError):
    """Stored data contradicts itself."""


def translate(error: sqlite3.Error | OSError) -> Exception:
    """The storage error behind an SQLite or OS error, or the error itself when it is a bug of ours.

    Args:
        error: what `sqlite3` or the operating system raised.
    """
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull(str(error))
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return StorageReadOnly(str(error))
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(str(error))
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StorageReadOnly(str(error))
    if code == sqlite3.SQLITE_IOERR:
        return StorageFull(str(error))
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptDatabase(str(error))
    return error
