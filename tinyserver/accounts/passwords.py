"""Password hashing: Argon2id, tuned for a small computer, never on the event loop.

The default of 19 MiB and 2 passes is the least that is recommended today against a stolen database; a Raspberry Pi 3
needs about a quarter of a second for it. One password at a time is hashed, so the memory is needed once.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from tinyserver.protocol.errors import LimitExceeded, WeakPassword

Result = TypeVar("Result")

MAX_PASSWORD_BYTES = 512
_MAX_WAITING = 32
_PARAMETERS = re.compile(r"^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=1\$")


def check_new_password(password: str) -> None:
    """Refuse a password that nobody should have.

    Raises:
        WeakPassword: it is empty, or longer than 512 bytes.
    """
    if not password:
        raise WeakPassword("The password is empty. Choose one of at least 8 characters.")
    if len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES:
        raise WeakPassword(f"The password is longer than {MAX_PASSWORD_BYTES} bytes. Choose a shorter one.")


class PasswordHasher:
    """Makes and checks password hashes on one thread of its own.

    Args:
        memory: bytes that one hash needs.
        iterations: passes over that memory.
    """

    def __init__(self, memory: int, iterations: int) -> None:
        self._memory = max(memory, argon2id.MEMLIMIT_MIN)
        self._iterations = max(iterations, argon2id.OPSLIMIT_MIN)
        self._executor = ThreadPoolExecutor(1, "password")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The hash of a password, as a PHC string.

        Raises:
            LimitExceeded: too many passwords wait for the one thread.
        """
        return await self._run(self._hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password belongs to the stored PHC string.

        With None (an unknown user, an account without password) it is False, after as much work as otherwise: the
        time does not tell who has an account.

        Raises:
            LimitExceeded: too many passwords wait for the one thread.
        """
        if len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES:
            stored, password = None, ""
        if stored is None:
            await self._run(self._hash, password)
            return False
        return await self._run(_matches, stored, password)

    def is_outdated(self, stored: str) -> bool:
        """Whether a stored hash was made with other parameters than today's."""
        found = _PARAMETERS.match(stored)
        return found is None or (int(found[1]) * 1024, int(found[2])) != (
            self._memory // 1024 * 1024,
            self._iterations,
        )

    def close(self) -> None:
        """End the thread after what waits for it."""
        self._executor.shutdown(wait=True)

    async def _run(self, work: Callable[..., Result], *arguments: str) -> Result:
        if self._waiting >= _MAX_WAITING:
            raise LimitExceeded(2000, "Many people are logging in right now. Try again in a moment.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)
        finally:
            self._waiting -= 1

    def _hash(self, password: str) -> str:
        hashed = argon2id.str(
            password.encode("utf-8", "surrogatepass"), opslimit=self._iterations, memlimit=self._memory
        )
        return hashed.rstrip(b"\0").decode("ascii")


def _matches(stored: str, password: str) -> bool:
    try:
        return argon2id.verify(stored.encode("ascii"), password.encode("utf-8", "surrogatepass"))
    except CryptoError:
        return False
