"""Signing in with a web browser, as matrix-js-sdk does it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ..server.chromium import PROGRAM, Callback, Chromium
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
    uri = "https://app.example.com/callback"
    await scenario.run("oauth", redirectUri=uri, registeredUri=uri, applicationType="web")


@pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium; scripts/test installs it where it can")
async def test_oauth_in_chromium(scenario: Scenario, server: TinyServer, tmp_path: Path) -> None:
    async with Chromium(tmp_path) as chromium, Callback() as callback:

        async def agree(url: str) -> dict[str, str]:
            """A new user clicks and types from the client's URL on; where the browser is in the end."""
            async with Client(server.base_url) as client:
                await client.register(f"oauth-{next(_numbers)}")
                await chromium.forget()
                await chromium.open(url)
                await chromium.type("#user", client.localpart)
                await chromium.type("#password", client.password)
                await chromium.click("button[value=sign_in]")
                await chromium.click("button[value=allow]")
                await chromium.find("#welcome, p.good")
                return {"location": await chromium.location(), "user_id": client.user_id}

        scenario.handlers["agree"] = agree
        registered = "http://127.0.0.1/callback"
        await scenario.run("oauth", redirectUri=callback.url, registeredUri=registered, applicationType="native")
        assert chromium.complaints == []
