"""File systems of their own for tests that break them. All of this needs root; elsewhere the tests are skipped."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"there is no {command[0]} here: {error}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{command[0]} is refused here: {error.stderr.strip()}")


def _unmount(where: Path) -> None:
    subprocess.run(["umount", "--lazy", str(where)], check=False, capture_output=True)


def _need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")


@contextlib.contextmanager
def small_disk(where: Path, size: str) -> Iterator[None]:
    """A file system of `size` ("8m") at `where`, in memory."""
    _need_root()
    where.mkdir(mode=0o700, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(where))
    try:
        yield
    finally:
        _unmount(where)


@contextlib.contextmanager
def read_only(what: Path) -> Iterator[None]:
    """A file or directory that cannot be written, not even by root."""
    _need_root()
    _run("mount", "--bind", str(what), str(what))
    try:
        _run("mount", "-o", "remount,bind,ro", str(what))
        yield
    finally:
        _unmount(what)


class Card:
    """An ext4 file system in a file, as on an SD card: the kernel can be made to find an error on it, after which it
    is read-only until it has been repaired.

    :param image: the file for it.
    :param where: where it is mounted.
    """

    def __init__(self, image: Path, where: Path, size: int = 32 * 1024 * 1024) -> None:
        self._image = image
        self._where = where
        _need_root()
        with image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-O", "^has_journal", str(image))

    def mount(self) -> None:
        """Put it in."""
        self._where.mkdir(exist_ok=True)
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self._where))

    def fail(self) -> None:
        """The kernel finds an error: from now on nothing can be written."""
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        source = next(device for device, where, *_ in mounts if where == str(self._where))
        trigger = Path("/sys/fs/ext4") / Path(source).name / "trigger_fs_error"
        try:
            trigger.write_text("a test")
        except OSError as error:
            pytest.skip(f"this kernel cannot be told that a file system is broken: {error}")

    def unmount(self) -> None:
        """Take it out; nobody may use it any more."""
        subprocess.run(["umount", str(self._where)], check=True, capture_output=True)

    def repair(self) -> None:
        """Check it and mend it, while it is not mounted."""
        done = subprocess.run(["e2fsck", "-f", "-y", str(self._image)], check=False, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stdout

    def discard(self) -> None:
        """Whatever state it is in."""
        _unmount(self._where)
