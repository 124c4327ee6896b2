"""Accounts without HTTP: the services on a real database, with clocks that tests can turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tinyserver.accounts.authentication import TokenAuthenticator, TokenCache
from tinyserver.accounts.last_seen import LastSeen
from tinyserver.accounts.login import Login
from tinyserver.accounts.password_check import PasswordCheck
from tinyserver.accounts.passwords import PasswordHasher
from tinyserver.accounts.registration import Mode, Registered, Registration
from tinyserver.accounts.registration_tokens import RegistrationTokens
from tinyserver.accounts.sessions import Lifetimes, NewSession, Origin, Sessions, Tokens
from tinyserver.accounts.shared_secret import SharedSecretRegistration
from tinyserver.accounts.uia import UserInteractiveAuth
from tinyserver.appservices.accounts import Masquerade
from tinyserver.appservices.services import Services
from tinyserver.clock import Clock
from tinyserver.storage.database import Commit, Database

SERVER_NAME = "tiny.test"
ORIGIN = Origin("192.0.2.7", "Tests/1")


class Time:
    """Both clocks: `wall` in seconds since 1970, `running` only forward."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.running = 1000.0

    def pass_(self, seconds: float) -> None:
        """Let time go by."""
        self.wall += seconds
        self.running += seconds

    def monotonic(self) -> float:
        """Seconds of the clock that only runs forward."""
        return self.running


class Unlimited:
    """Nobody is slowed down."""

    def begin(self, user_id: str) -> None:
        """Go on."""

    def failed(self, user_id: str) -> None:
        """Try again."""


@dataclass
class CallFrom:
    """What authentication sees of a request."""

    client_address: str = "192.0.2.7"
    headers: dict[str, str] = field(default_factory=lambda: {"user-agent": "Tests/1"})
    scope: dict[str, object] = field(default_factory=lambda: {"path": "/_matrix/client/v3/account/whoami"})


class World:
    """All parts of accounts on one database."""

    def __init__(self, directory: Path, mode: Mode = "open", secret: str = "secret") -> None:
        self.time = Time()
        self.db = Database(directory / "t.db")
        self.commits: list[Commit] = []
        self.db.on_commit = self.commits.append
        self.clock = Clock(wall=lambda: self.time.wall, monotonic=self.time.monotonic)
        self.cache = TokenCache()
        self.last_seen = LastSeen(self.db, self.time.monotonic)
        self.authenticator = TokenAuthenticator(
            self.db,
            self.clock,
            self.cache,
            self.last_seen,
            Masquerade(self.db, Services(self.db, self.clock, "tiny.test", [])),
        )
        self.sessions = Sessions(self.db, self.clock, self.cache, Lifetimes(access=60_000, refresh=3_600_000))
        self.hasher = PasswordHasher(1024 * 1024, 1)
        self.uia = UserInteractiveAuth(self.time.monotonic)
        self.tokens = RegistrationTokens(self.db, self.clock)
        self.registration = Registration(
            self.db,
            self.clock,
            self.cache,
            self.sessions,
            self.hasher,
            self.uia,
            self.tokens,
            server_name=SERVER_NAME,
            mode=mode,
            allow_guests=True,
        )
        self.shared_secret = SharedSecretRegistration(self.registration, secret, self.time.monotonic)
        self.passwords = PasswordCheck(self.db, self.hasher, Unlimited(), SERVER_NAME)
        self.login = Login(self.db, self.sessions, self.passwords, self.uia, self.time.monotonic)

    async def account(self, name: str = "alice", *, can_refresh: bool = False) -> tuple[Registered, Tokens]:
        """A new account with the password "secret", logged in."""
        wanted = NewSession(None, None, can_refresh, ORIGIN)
        made = await self.registration.register_trusted(name, "secret", wanted)
        assert made.tokens is not None
        return made, made.tokens

    async def close(self) -> None:
        """End all threads."""
        self.hasher.close()
        await self.last_seen.close()
        await self.db.close()
