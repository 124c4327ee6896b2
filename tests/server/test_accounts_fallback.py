"""The web pages for clients that cannot do a stage themselves."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Client

SERVER_CONFIG = {"registration": {"mode": "open"}}


def page(stage: str) -> str:
    return f"/auth/{stage}/fallback/web"


async def fill(client: Client, stage: str, session: str, form: bytes) -> Any:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await client.raw("POST", page(stage), params={"session": session}, content=form, headers=headers)


@pytest.fixture
def anybody(server: Any, connect: Any) -> Client:
    return connect(server)


async def test_a_stage_is_done_on_the_page(anybody: Client) -> None:
    body = {"username": "by-page", "password": "x" * 9}
    session = (await anybody.request("POST", "/register", body, expect=401))["session"]
    form = await anybody.raw("GET", page("m.login.dummy"), params={"session": session})
    assert form.status_code == 200
    assert form.headers["content-type"].startswith("text/html")
    assert "frame-ancestors 'none'" in form.headers["content-security-policy"]
    assert "<form" in form.text
    # Until it is filled in, the client is told that nothing is complete.
    asked = await anybody.request("POST", "/register", {**body, "auth": {"session": session}}, expect=401)
    assert "completed" not in asked
    done = await fill(anybody, "m.login.dummy", session, b"")
    assert done.status_code == 200
    assert "window.onAuthDone()" in done.text
    made = await anybody.request("POST", "/register", {**body, "auth": {"session": session}})
    assert made["user_id"] == "@by-page:tiny.test"


async def test_a_password_is_asked_for(new_user: Any, anybody: Client) -> None:
    user = await new_user("pages")
    body = {"new_password": "something-new"}
    session = (await user.request("POST", "/account/password", body, expect=401))["session"]
    wrong = await fill(anybody, "m.login.password", session, f"user={user.localpart}&password=no".encode())
    assert wrong.status_code == 403
    assert 'role="alert"' in wrong.text
    right = f"user={user.localpart}&password={user.password}".encode()
    assert (await fill(anybody, "m.login.password", session, right)).status_code == 200
    await user.request("POST", "/account/password", {**body, "auth": {"session": session}})


async def test_bad_pages(anybody: Client) -> None:
    await anybody.request("GET", page("m.login.dummy"), expect=400, errcode="M_MISSING_PARAM")
    await anybody.request("GET", page("m.login.magic"), params={"session": "x"}, expect=404, errcode="M_NOT_FOUND")
    assert (await fill(anybody, "m.login.dummy", "gone", b"")).status_code == 404
    assert (await fill(anybody, "m.login.dummy", "x", b"a=%ff")).status_code == 400
    assert (await fill(anybody, "m.login.dummy", "x", b"a" * 20_000)).status_code == 413
    session = (await anybody.request("POST", "/register", {}, expect=401))["session"]
    answer = await fill(anybody, "m.login.password", session, b"user=<script>&password=x")
    assert answer.status_code >= 400
    assert "<script>" not in answer.text


async def test_login_page(anybody: Client) -> None:
    answer = await anybody.raw("GET", "/_matrix/static/client/login/", params={"device_id": "X"})
    assert answer.status_code == 200
    assert "matrixLogin.onLogin" in answer.text
