"""A logged-in user of the server under measurement, and the few requests that scenarios are made of."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import orjson

from .http import Http
from .server import SHARED_SECRET

_CLIENT = "/_matrix/client/v3"
_REGISTER = "/_synapse/admin/v1/register"
_PASSWORD = "benchmark"
_TEXT = "A message as people write them, about as long as this one is, rarely longer. #"

T = TypeVar("T")


class User:
    """One session (access token) of one user."""

    _transactions = itertools.count(1)

    def __init__(self, http: Http, answer: dict[str, Any]) -> None:
        self.http = http
        self.user_id: str = answer["user_id"]
        self.device_id: str = answer["device_id"]
        self.token: str = answer["access_token"]

    @classmethod
    async def register(cls, http: Http, name: str) -> User:
        """Make an account with the shared secret."""
        nonce = (await http.request("GET", _REGISTER))["nonce"]
        signed = f"{nonce}\0{name}\0{_PASSWORD}\0notadmin".encode()
        mac = hmac.new(SHARED_SECRET.encode(), signed, hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": name, "password": _PASSWORD, "admin": False, "mac": mac}
        return cls(http, await http.request("POST", _REGISTER, body))

    async def another_device(self) -> User:
        """Log in once more."""
        identifier = {"type": "m.id.user", "user": self.user_id}
        body = {"type": "m.login.password", "identifier": identifier, "password": _PASSWORD}
        return User(self.http, await self.http.request("POST", f"{_CLIENT}/login", body))

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """A request below /_matrix/client/v3 with this user's token."""
        return await self.http.request(method, _CLIENT + path, body, self.token)

    async def create_room(self, room_version: str, *invited: User) -> str:
        """A private room with a name, the invited users joined; its ID, quoted for use in a path."""
        body = {
            "preset": "private_chat",
            "name": "A room",
            "room_version": room_version,
            "invite": [user.user_id for user in invited],
        }
        room = quote((await self.call("POST", "/createRoom", body))["room_id"], safe="")
        for user in invited:
            await user.join(room)
        return room

    async def join(self, room: str) -> None:
        await self.call("POST", f"/join/{room}", {})

    async def send(self, room: str, mark: int | str = "") -> str:
        """Send a text message that ends with `mark`; the event's ID."""
        content = {"msgtype": "m.text", "body": f"{_TEXT}{mark}"}
        path = f"/rooms/{room}/send/m.room.message/{next(self._transactions)}"
        event_id: str = (await self.call("PUT", path, content))["event_id"]
        return event_id

    async def read(self, room: str, event_id: str) -> None:
        """Send a read receipt for the event."""
        await self.call("POST", f"/rooms/{room}/receipt/m.read/{quote(event_id, safe='')}", {})

    async def type(self, room: str, typing: bool) -> None:
        body = {"typing": True, "timeout": 30_000} if typing else {"typing": False}
        await self.call("PUT", f"/rooms/{room}/typing/{quote(self.user_id, safe='')}", body)

    async def add_filter(self, definition: dict[str, Any]) -> str:
        """Store a filter; its ID."""
        path = f"/user/{quote(self.user_id, safe='')}/filter"
        filter_id: str = (await self.call("POST", path, definition))["filter_id"]
        return filter_id

    async def sync(self, since: str | None, timeout: int, sync_filter: str) -> Any:
        """One /sync; `timeout` in milliseconds, `sync_filter` a filter's ID or JSON."""
        position = "" if since is None else f"&since={quote(since, safe='')}"
        return await self.call("GET", f"/sync?timeout={timeout}&filter={quote(sync_filter, safe='')}{position}")


def mark_of(event: dict[str, Any]) -> str | None:
    """The mark at the end of a message that `User.send` sent; None for other events."""
    body = event.get("content", {}).get("body") if event.get("type") == "m.room.message" else None
    return body.rpartition("#")[2] if isinstance(body, str) else None


def json_filter(definition: dict[str, Any]) -> str:
    return orjson.dumps(definition).decode()


async def register_users(http: Http, count: int, prefix: str = "user") -> list[User]:
    """`count` new accounts."""
    return await several(4, (partial(User.register, http, f"{prefix}{i}") for i in range(count)))


async def several(concurrency: int, jobs: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run the jobs, at most `concurrency` at a time, and return their results in order; the first failure ends all."""
    queue = enumerate(jobs)
    results: dict[int, T] = {}

    async def work() -> None:
        for index, job in queue:
            results[index] = await job()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return [results[index] for index in sorted(results)]
