"""Signing in with a web browser, as matrix-js-sdk does it."""

from __future__ import annotations

import itertools

from ..server.client import Client
from ..server.harness import TinyServer
from ..server.oauth import Browser
from .scenario import Scenario

_numbers = itertools.count(1)


async def test_oauth(scenario: Scenario, server: TinyServer) -> None:
    async def agree(url: str) -> dict[str, str]:
        """A new user's browser goes to the client's URL; where it is sent in the end."""
        async with Client(server.base_url) as client, Browser(server.base_url) as browser:
            await client.register(f"oauth-{next(_numbers)}")
            await browser.open(url)
            await browser.press("sign_in", user=client.localpart, password=client.password)
            answer = await browser.press("allow")
            return {"location": answer.headers.get("location", ""), "user_id": client.user_id}

    scenario.handlers["agree"] = agree
    await scenario.run("oauth")
