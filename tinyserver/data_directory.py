"""The directory that holds everything a server must not lose: the database, the signing key, the media."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from tinyserver.protocol.server_keys import PublishedKey
from tinyserver.protocol.signing import SigningKey, format_signing_key_file, parse_signing_key_file


class DataDirectoryError(Exception):
    """The directory or a file in it cannot be used; the message says which, and what to do."""


class DataDirectory:
    """Paths in the data directory, and the lock that keeps a second server out of it.

    :param path: the directory; :meth:`create` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "tinyserver.db"
        self.signing_key = path / "signing.key"
        self.old_signing_keys = path / "old-signing.keys"
        self.media = path / "media"
        self.socket = path / "control.sock"
        self._lock_file = path / "lock"
        self._lock: int | None = None

    def create(self) -> None:
        """Make the directory (readable by its owner alone) and a new signing key, where they are not there yet.

        Raises DataDirectoryError.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.signing_key.exists():
                write_private(self.signing_key, format_signing_key_file(_new_key()))
        except OSError as error:
            raise DataDirectoryError(f"the data directory {self.path} cannot be made: {error}") from error

    def read_signing_key(self) -> SigningKey:
        """The key that this server signs with. Raises DataDirectoryError."""
        try:
            return parse_signing_key_file(self.signing_key.read_text("ascii"))
        except (OSError, ValueError) as error:
            raise DataDirectoryError(
                f"the signing key {self.signing_key} cannot be used: {error}. "
                "Restore it from a backup; other servers know this server by it."
            ) from error

    def read_old_signing_keys(self) -> list[PublishedKey]:
        """The public halves of the keys that this server used before, each with its end. Raises DataDirectoryError."""
        try:
            text = self.old_signing_keys.read_text("ascii") if self.old_signing_keys.exists() else ""
            old = [_parse_old_key(line) for line in text.splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            raise DataDirectoryError(f"the list of old keys {self.old_signing_keys} cannot be used: {error}") from error
        current = self.read_signing_key().key_id
        return [key for key in old if key.key_id != current]

    def rotate_signing_key(self, now_ms: int) -> SigningKey:
        """Replace the signing key by a new one; of the old one, the public half is kept for those who check old events.

        The server must not be running. Raises DataDirectoryError.
        """
        retired = self.read_signing_key()
        old = self.read_old_signing_keys()
        old.append(PublishedKey(retired.key_id, retired.verify_key_base64, now_ms))
        key = _new_key()
        try:
            # In this order: interrupted between the two, the key in use is still the old one, and no longer listed.
            _replace(self.old_signing_keys, "".join(map(_format_old_key, old)))
            _replace(self.signing_key, format_signing_key_file(key))
        except OSError as error:
            raise DataDirectoryError(f"the keys in {self.path} cannot be written: {error}") from error
        return key

    def lock(self) -> bool:
        """Take the directory for this process until it ends; False if another process has it.

        Raises DataDirectoryError where no file can be written.
        """
        if self._lock is not None:
            return True
        try:
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirectoryError(f"the data directory {self.path} cannot be used: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def unlock(self) -> None:
        """Let other processes have the directory again."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _new_key() -> SigningKey:
    return SigningKey(f"a_{secrets.token_hex(3)}", secrets.token_bytes(32))


def _format_old_key(key: PublishedKey) -> str:
    return f"{key.key_id.replace(':', ' ')} {key.public_key} {key.expired_ts}\n"


def _parse_old_key(line: str) -> PublishedKey:
    algorithm, version, public_key, expired_ts = line.split()
    return PublishedKey(f"{algorithm}:{version}", public_key, int(expired_ts))


def _replace(file: Path, text: str) -> None:
    """Put a private file in the place of another in one step. Raises OSError."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    write_private(new, text)
    new.replace(file)
    descriptor = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(file: Path, text: str) -> None:
    """Write a new file that only its owner can read, and have it on the disk. Raises OSError, also if it exists."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
