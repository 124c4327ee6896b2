"""Signing in with a real web browser, from the client's link to its callback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from .chromium import PROGRAM, Callback, Chromium, until
from .client import Client
from .harness import TinyServer
from .oauth import WEB_CLIENT, App

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium; scripts/test installs it where it can")


@pytest_asyncio.fixture
async def callback() -> AsyncIterator[Callback]:
    async with Callback() as made:
        yield made


async def native_app(client: Client, callback: Callback) -> App:
    redirect_uris = ["http://127.0.0.1/callback"]
    app = await App(
        client.http, {**WEB_CLIENT, "application_type": "native", "redirect_uris": redirect_uris}
    ).register()
    app.redirect_uri = callback.url
    return app


async def test_a_person_makes_an_account_and_signs_two_clients_in(
    server: TinyServer, connect: Any, callback: Callback, tmp_path: Path
) -> None:
    app = await native_app(connect(server), callback)
    async with Chromium(tmp_path) as chromium:
        await chromium.open(server.base_url + app.authorization(response_mode="query", prompt="create"))
        await chromium.type("#user", "browser-user")
        await chromium.type("#password", "long-enough-1865")
        await chromium.type("#repeated", "long-enough-1865")
        await chromium.click("button[value=register]")
        await chromium.click("button[value=allow]")
        await chromium.find("#welcome")
        [target] = await until(lambda: callback.targets)
        tokens = await app.exchange(app.answer_in(target)["code"])
        me = await connect(server, tokens["access_token"]).request("GET", "/account/whoami")
        assert (me["user_id"], me["device_id"]) == ("@browser-user:tiny.test", app.device_id)

        # An older client that knows only single sign-on: the browser knows its user already.
        path = "/_matrix/client/v3/login/sso/redirect"
        url = f"{callback.url}?from=sso"
        await chromium.open(f"{server.base_url}{path}?redirectUrl={url}")
        await chromium.click("button[value=allow]")
        await until(lambda: len(callback.targets) == 2)
        await chromium.find("#welcome")
        start, _, token = callback.targets[1].partition("loginToken=")
        assert start == "/callback?from=sso&"
        body = {"type": "m.login.token", "token": token}
        assert (await connect(server).request("POST", "/login", body))["user_id"] == me["user_id"]

        # Signing out everywhere, without a script.
        await chromium.open(f"{server.base_url}/account?action=org.matrix.devices_list")
        assert app.device_id in await until_html(chromium, app.device_id)
        await chromium.open(f"{server.base_url}/account?action=org.matrix.device_delete&device_id={app.device_id}")
        await chromium.click("button[value=remove_device]")
        await chromium.find("p.good")
        await connect(server, tokens["access_token"]).request("GET", "/account/whoami", expect=401)
        assert chromium.complaints == []


async def until_html(chromium: Chromium, text: str) -> str:
    """The page, as soon as it has the text."""
    for _ in range(600):
        html = await chromium.html()
        if text in html:
            return html
        await asyncio.sleep(0.05)
    raise AssertionError(f"the page never had {text!r}:\n{html}")
