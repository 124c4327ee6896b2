"""Signing in with a real web browser, from the client's link to its callback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from .chromium import PROGRAM, Chromium, until
from .client import Client
from .harness import TinyServer
from .oauth import WEB_CLIENT, App

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium; scripts/test installs it where it can")


class Callback:
    """The native client's own little web server, to which the browser comes back."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        if target.startswith("/callback"):
            self.targets.append(target)
        page = b"<!doctype html><title>client</title><p id=welcome>Welcome back"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + page)
        await writer.drain()
        writer.close()


@pytest_asyncio.fixture
async def callback() -> AsyncIterator[Callback]:
    made = Callback()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


async def native_app(client: Client, callback: Callback) -> App:
    redirect_uris = ["http://127.0.0.1/callback"]
    app = await App(
        client.http, {**WEB_CLIENT, "application_type": "native", "redirect_uris": redirect_uris}
    ).register()
    app.redirect_uri = f"http://127.0.0.1:{callback.port}/callback"
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
        url = f"http://127.0.0.1:{callback.port}/callback?from=sso"
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
