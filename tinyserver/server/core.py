"""What nearly every part of the server needs."""

from __future__ import annotations

import secrets
import time

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.accounts.own import OwnAccount
from tinyserver.api.body_budget import BodyBudget
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.rate_limits import RateLimiter
from tinyserver.api.routing import Router
from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.config import Config
from tinyserver.data_directory import DataDirectory, DataDirectoryError
from tinyserver.push.rules import PushRules
from tinyserver.rooms.partial_state import PartialRooms
from tinyserver.storage.database import Database
from tinyserver.storage.devices import newest_seen
from tinyserver.storage.events import newest_timestamp


class Core:
    """The configuration, the data directory, and what is built first.

    Raises:
        DataDirectoryError: the data directory cannot be used, or another server uses it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.server_name = config.server_name

        # Nobody else may write there while this server lives.
        self.data = DataDirectory(config.data_dir)
        self.data.create()
        if not self.data.lock():
            raise DataDirectoryError(f"another tinyserver is running on {config.data_dir}; stop it first")
        self.signing_key = self.data.read_signing_key()

        self.clock = Clock()
        self.db = Database(self.data.database, cache_budget=config.cache.budget)
        self.bell = Bell(self.db.position, tag=secrets.token_hex(4))
        self.db.on_commit = self.bell.ring
        self.partial_rooms = PartialRooms(self.db)
        self.ignored_users = IgnoredUsers()
        self.push_rules = PushRules(self.db)

        self.own_account = OwnAccount(self.clock, config.administration.account, config.server_name)

        self.limiter = RateLimiter(config.rate_limits, time.monotonic)
        self.body_budget = BodyBudget()
        self.public_url = PublicUrl(config.public_url)
        self.router = Router()

    @property
    def federates(self) -> bool:
        """Whether there are other servers for this one."""
        return self.config.federation.enabled

    @property
    def retry_pause_ms(self) -> int:
        """How long a server that failed once is left alone."""
        return int(self.config.federation.retry_pause * 1000)

    async def start(self) -> None:
        """Open the database; the clock goes on after everything that is stored."""
        self.db.start()
        self.clock.raise_floor(self.db.glance(lambda tx: max(newest_timestamp(tx), newest_seen(tx))))
        self.partial_rooms.load()

    async def stop(self) -> None:
        """Close the database and leave the data directory."""
        await self.db.close()
        self.data.unlock()
