"""A scripted application service: takes what the server sends, as it is told to, and is registered while the server
runs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tinyserver.api.admin.commands import LOCAL_COMMANDS
from tinyserver.cli.running_server import ask_running_server
from tinyserver.data_directory import DataDirectory

from ..federation.network import Reply, Seen, WebServer, json_reply
from .client import Client
from .harness import TinyServer

TIMEOUT = 30.0


class Bridge(WebServer):
    """A service whose users are called `@NAME_...`.

    Attributes:
        transactions: (ID, body) of each that was taken, also of those that came again.
        bodies: the bytes of each try, by transaction ID.
        status: what it answers transactions with.
        answers: what it answers other requests with, by their path; a function is called with the request.
    """

    def __init__(self, name: str, **registration: Any) -> None:
        super().__init__(None, self._answer)
        self.name = name
        self.as_token, self.hs_token = f"as-token-of-{name}", f"hs-token-of-{name}"
        self.more = registration
        self.transactions: list[tuple[str, dict[str, Any]]] = []
        self.bodies: dict[str, list[bytes]] = {}
        self.status = 200
        self.answers: dict[str, Any] = {}
        self.is_old = False
        self._news = asyncio.Event()

    async def __aenter__(self) -> Bridge:
        await super().__aenter__()
        return self

    @property
    def sender(self) -> str:
        return f"@{self.name}bot:tiny.test"

    def registration(self) -> dict[str, Any]:
        namespaces = {
            "users": [{"exclusive": True, "regex": f"@{self.name}_.*:tiny\\.test"}],
            "aliases": [{"exclusive": True, "regex": f"#{self.name}_.*"}],
            "rooms": [],
        }
        return {
            "id": self.name,
            "url": f"http://127.0.0.1:{self.port}",
            "as_token": self.as_token,
            "hs_token": self.hs_token,
            "sender_localpart": f"{self.name}bot",
            "rate_limited": False,
            "namespaces": namespaces,
            **self.more,
        }

    async def register(self, server: TinyServer) -> Client:
        """Have the server know it; a client that acts for its users."""
        text = json.dumps(self.registration())  # JSON is YAML
        data, body = DataDirectory(server.data_dir), {"command": "appservice add", "arguments": {"file": text}}
        await asyncio.to_thread(ask_running_server, data, "POST", LOCAL_COMMANDS, body)
        return Client(server.base_url, self.as_token, user_id=self.sender)

    async def ghost(self, client: Client, name: str) -> dict[str, str]:
        """Make a user; the query parameters that act for them."""
        body = {"type": "m.login.application_service", "username": f"{self.name}_{name}", "inhibit_login": True}
        return {"user_id": (await client.request("POST", "/register", body))["user_id"]}

    async def until(self, condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(TIMEOUT):
            while not (found := condition()):
                self._news.clear()
                await self._news.wait()
        return found

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events, each transaction once."""
        return [event for body in dict(self.transactions).values() for event in body["events"]]

    def part(self, key: str) -> list[Any]:
        """What transactions had under another key, in their order."""
        return [body[key] for body in dict(self.transactions).values() if key in body]

    def texts(self) -> list[str]:
        """The bodies of all messages, but for redacted ones."""
        said = (event["content"].get("body") for event in self.events if event["type"] == "m.room.message")
        return [body for body in said if body is not None]

    async def _answer(self, seen: Seen) -> Reply:
        url = urlsplit(seen.target)
        path = url.path
        try:
            if self.is_old:
                if path.startswith("/_matrix/app/v1/"):
                    return json_reply({}, 404)
                assert parse_qs(url.query)["access_token"] == [self.hs_token]
            else:
                assert seen.headers["authorization"] == f"Bearer {self.hs_token}"
                if not path.startswith("/_matrix/app/"):
                    return json_reply({}, 404)
            found = re.search(r"/transactions/([^/]+)$", path)
            if found is None:
                answer = self.answers.get(unquote(path), (404, {"errcode": "M_NOT_FOUND"}))
                status, body = await answer(seen) if callable(answer) else answer
                return json_reply(body, status)
            self.bodies.setdefault(found[1], []).append(seen.body)
            if self.status == 200:
                self.transactions.append((found[1], json.loads(seen.body)))
            return json_reply({}, self.status)
        finally:
            self._news.set()
