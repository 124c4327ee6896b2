"""The composition root: every part of the server is built here once and gets its collaborators by constructor.

Read it from top to bottom to see all parts and who knows whom.
"""

from __future__ import annotations

import time
from typing import Any

from tinyserver.accounts.requester import Requester
from tinyserver.api.app import build_app
from tinyserver.api.calls import AsgiApp, Call
from tinyserver.api.client.versions import VersionsApi
from tinyserver.api.rate_limits import RateLimiter
from tinyserver.api.routing import Router, Surface
from tinyserver.config import Config, Listener
from tinyserver.data_directory import DataDirectory, DataDirectoryError
from tinyserver.protocol.errors import UnknownToken


class Server:
    """All parts of one homeserver.

    Building it opens nothing but files; :meth:`start` sets it to work. Sockets are not its business: a listener
    asks for its application with :meth:`app`.

    :param config: the whole configuration.
    :raises DataDirectoryError: the data directory cannot be used, or another server uses it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

        # The data directory: nobody else may write there while this server lives.
        self.data = DataDirectory(config.data_dir)
        self.data.create()
        if not self.data.lock():
            raise DataDirectoryError(f"another tinyserver is running on {config.data_dir}; stop it first")
        self.signing_key = self.data.read_signing_key()

        # The HTTP floor.
        self.limiter = RateLimiter(config.rate_limits, time.monotonic)
        self.authenticator = NoAccounts()
        self.router = Router()
        self.router.add(VersionsApi(unstable_features={}))

    def app(self, listener: Listener) -> AsgiApp:
        """The ASGI application for a listener: what it serves, behind the proxies that it trusts."""
        return build_app(
            self.router,
            self.authenticator,
            self.limiter,
            surfaces=[Surface(name) for name in listener.serves],
            trusted_proxies=listener.trusted_proxies,
        )

    async def start(self) -> None:
        """Set everything to work; afterwards requests can be answered."""

    async def drain(self) -> None:
        """The process is about to stop: end what waits for news, so that every open request is answered soon."""

    async def stop(self) -> None:
        """Store what is to be stored and close everything; no request is running any more."""
        self.data.unlock()


class NoAccounts:
    """The authenticator of a server that has no accounts: it knows no token."""

    async def authenticate(self, token: str, call: Call[Any, Any]) -> Requester:
        """Raises UnknownToken."""
        raise UnknownToken
