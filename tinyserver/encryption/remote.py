"""What end-to-end encryption needs of other servers: each part is a small protocol that federation implements.

spec: server-server-api#end-to-end-encryption, server-server-api#send-to-device-messaging
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from tinyserver.protocol.errors import InvalidParam, MatrixError, Unknown
from tinyserver.protocol.identifiers import InvalidIdentifier, domain_of
from tinyserver.storage.transaction import WriteTransaction

MAX_TIMEOUT = 30.0
"""Seconds that other servers are waited for at most."""
SERVERS_AT_ONCE = 20
"""How many other servers are asked at the same time for one request."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RemoteKeys:
    """What is known of users of another server: identity keys by user and device ID, and cross-signing keys by user,
    each what becomes a JSON object. `error`: why not all of it is what the server says now."""

    device_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    master_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    self_signing_keys: dict[str, Any] = field(default_factory=dict)
    error: MatrixError | None = None


class RemoteDevices(Protocol):
    """The keys of users of other servers. Both may raise MatrixError or OSError when a server does not answer well,
    and wait no longer than `timeout` seconds."""

    async def query(self, server: str, users: Mapping[str, Sequence[str]], timeout: float) -> RemoteKeys:
        """Keys of users (device IDs by user ID; none: all devices). It may know them from before."""
        ...

    async def claim(
        self, server: str, wanted: Mapping[str, Mapping[str, str]], timeout: float
    ) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """One key each for devices (algorithms by user and device ID): user ID, device ID, key name, key."""
        ...


class RemoteToDevice(Protocol):
    """The way of to-device messages to other servers."""

    def queue(
        self,
        tx: WriteTransaction,
        server: str,
        sender: str,
        event_type: str,
        messages: Mapping[str, Mapping[str, bytes]],
    ) -> None:
        """Store messages (JSON objects by user and device ID, which may be `*`) in the sender's own step; they go out
        as soon as the server can be reached."""
        ...


class NobodyElse:
    """A world with one server."""

    async def query(self, server: str, users: Mapping[str, Sequence[str]], timeout: float) -> RemoteKeys:
        """There is nobody to ask."""
        raise Unknown("This server does not talk to other servers.", status=503)

    async def claim(
        self, server: str, wanted: Mapping[str, Mapping[str, str]], timeout: float
    ) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """There is nobody to ask."""
        raise Unknown("This server does not talk to other servers.", status=503)

    def queue(
        self,
        tx: WriteTransaction,
        server: str,
        sender: str,
        event_type: str,
        messages: Mapping[str, Mapping[str, bytes]],
    ) -> None:
        """There is nobody to send to."""


def by_server(users: Mapping[str, Result]) -> dict[str, dict[str, Result]]:
    """What is wanted of users, by their servers. Raises InvalidParam for what is no user ID."""
    found: dict[str, dict[str, Result]] = {}
    for user_id, wanted in users.items():
        try:
            server = domain_of(user_id) if user_id.startswith("@") else ""
        except InvalidIdentifier:
            server = ""
        if not server:
            raise InvalidParam(f"'{user_id[:300]}' is not a user ID.")
        found.setdefault(server, {})[user_id] = wanted
    return found


async def ask_servers(
    wanted: Mapping[str, Any], ask: Callable[[str, Any, float], Awaitable[Result]], timeout: float
) -> tuple[list[Result], dict[str, Any]]:
    """Ask several servers at once.

    Args:
        wanted: what is asked of each server.
        timeout: seconds that each may take.

    Returns:
        The answers, and by the names of the servers that gave none, an error.
    """
    failures: dict[str, Any] = {}
    timeout = min(max(timeout, 0.1), MAX_TIMEOUT)
    turns = asyncio.Semaphore(SERVERS_AT_ONCE)

    async def ask_one(server: str, question: Any) -> Result | None:
        try:
            async with asyncio.timeout(timeout + 1.0), turns:  # who asks keeps to the time and knows what is there
                return await ask(server, question, timeout)
        except MatrixError as error:
            failures[server] = error.body()
        except OSError:  # a timeout is one, too
            failures[server] = Unknown("The server could not be reached.").body()
        return None

    answers = await asyncio.gather(*(ask_one(server, question) for server, question in wanted.items()))
    return [answer for answer in answers if answer is not None], failures
