"""The server's own pages: signing in, making an account, managing it, and what other sites cannot do with them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from .client import Client
from .crypto_device import CrossSigner
from .harness import TinyServer
from .oauth import WEB_CLIENT, App, Browser

NEW_PASSWORD = "quite-another-1871"


@pytest_asyncio.fixture
async def browser(server: TinyServer) -> AsyncIterator[Browser]:
    async with Browser(server.base_url) as made:
        yield made


@pytest_asyncio.fixture
async def app(server: TinyServer, connect: Any) -> App:
    return await App(connect(server).http).register()


async def signed_in(browser: Browser, user: Client, page: str = "/account") -> None:
    await browser.open(page)
    await browser.press("sign_in", user=user.localpart, password=user.password, expect=200)


async def test_pages_are_sealed(browser: Browser, app: App) -> None:
    for path in ("/account", "/link", "/register", "/oauth2/sso?redirectUrl=https://x.example/", app.authorization()):
        page = await browser.open(path)
        assert page.status_code == 200
        headers = page.headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script" not in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-credentials" not in headers
        assert "<script" not in page.text
        assert " on" not in re.sub(r"<style>.*</style>", "", page.text, flags=re.DOTALL).split("<body>")[0]


async def test_the_cookie_is_only_for_this_server(browser: Browser, new_user: Any) -> None:
    user = await new_user("alice")
    first = (await browser.http.get("/account")).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in first.split(";")}
    behind = await browser.http.get("/account", headers={"X-Forwarded-Proto": "https", "Cookie": ""})
    assert behind.headers["set-cookie"].startswith("__Host-tinyserver=")
    assert behind.headers["set-cookie"].endswith("; Secure")
    await browser.open("/account")
    before = browser.http.cookies["tinyserver"]
    await browser.press("sign_in", user=user.localpart, password=user.password)
    assert browser.http.cookies["tinyserver"] != before  # nobody can prepare a session for somebody else


async def test_a_form_of_another_site_does_nothing(browser: Browser, new_user: Any, server: TinyServer) -> None:
    user = await new_user("alice")
    await signed_in(browser, user)
    forged = {"do": "save_name", "name": "Mallory"}
    async with Browser(server.base_url) as other:
        await other.open("/account")
        [token] = set(re.findall(r'name="token_of_form" value="([^"]+)"', other.page.text))
    for form in (forged, {**forged, "token_of_form": ""}, {**forged, "token_of_form": token}):
        assert (await browser.http.post("/account", data=form)).status_code == 403
    await browser.open("/account")
    [token] = set(re.findall(r'name="token_of_form" value="([^"]+)"', browser.page.text))
    right = {**forged, "token_of_form": token}
    for site in ("cross-site", "same-site"):
        refused = await browser.http.post("/account", data=right, headers={"Sec-Fetch-Site": site})
        assert refused.status_code == 403
    await user.request("GET", f"/profile/{user.user_id}/displayname", expect=404)
    await browser.press("save_name", name="Alice & <b>Co</b>")
    assert "Alice &amp; &lt;b&gt;Co&lt;/b&gt;" in browser.page.text
    assert (await user.request("GET", f"/profile/{user.user_id}"))["displayname"] == "Alice & <b>Co</b>"


async def test_nothing_that_comes_from_outside_is_run(server: TinyServer, browser: Browser, new_user: Any) -> None:
    user = await new_user("alice")
    evil = "\"'><script>alert(1)</script>"
    app = await App(browser.http, {**WEB_CLIENT, "client_name": evil}).register()
    hint = app.authorization(login_hint=evil, state=evil, nonsense=evil)
    await browser.open(hint)
    pages = [browser.page.text]
    await browser.press("sign_in", user=evil, password="x", expect=403)
    pages.append(browser.page.text)
    await browser.press("sign_in", user=user.localpart, password=user.password)
    pages.append(browser.page.text)
    asked = app.authorization(scope=f"urn:matrix:client:api:* urn:matrix:client:device:{evil}")
    pages.append((await browser.open(asked)).text)
    pages.append((await browser.open(app.authorization(response_type=evil))).text)
    for path in ("/link?user_code=", "/account?action=", "/account?done=", "/account?action=device_view&device_id="):
        pages.append((await browser.open(path + evil)).text)
    pages.append((await browser.open("/oauth2/sso?redirectUrl=" + evil)).text)
    pages.append((await browser.open("/register?show=register&token=" + evil)).text)
    for page in pages:
        assert "<script" not in page
        assert "\"'>" not in page


async def test_passwords_cannot_be_tried_out(make_server: Any, connect: Any) -> None:
    server = make_server(config={"rate_limits": {"enabled": True}})
    await connect(server).register("alice")
    async with Browser(server.base_url) as browser:
        await browser.open("/account")
        statuses = [(await browser.press("sign_in", user="alice", password="wrong")).status_code for _ in range(6)]
        assert statuses == [403] * 5 + [429]
        assert "Too many attempts" in browser.page.text
        right = await browser.press("sign_in", user="alice", password="wonderland-1865")
        assert right.status_code == 429


@pytest.mark.parametrize(
    ("header", "language", "title"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de", "Anmelden"),
        ("fr, de;q=0.5, en;q=0.7", "en", "Sign in"),
        ("de;q=0, en;q=0.1", "en", "Sign in"),
        ("fr;q=x,,;q", "en", "Sign in"),
    ],
)
async def test_pages_speak_the_language_of_the_visitor(
    server: TinyServer, header: str, language: str, title: str
) -> None:
    async with Browser(server.base_url, header) as browser:
        page = await browser.open("/account")
    assert f'<html lang="{language}">' in page.text
    assert f"<h1>{title}</h1>" in page.text


async def test_an_account_is_made_on_the_way(app: App, browser: Browser, server: TinyServer, connect: Any) -> None:
    await browser.open(app.authorization(prompt="create", login_hint="mxid:@hinted:tiny.test"))
    assert "Create an account" in browser.page.text
    assert 'value="hinted"' in browser.page.text
    fields = {"user": "page-user", "password": "long-enough-1", "repeated": "long-enough-2"}
    await browser.press("register", **fields, expect=400)
    assert "not the same" in browser.page.text
    assert 'value="page-user"' in browser.page.text
    assert "long-enough" not in browser.page.text
    fields |= {"password": "short", "repeated": "short"}
    await browser.press("register", **fields, expect=400)
    fields |= {"password": "long-enough-1", "repeated": "long-enough-1"}
    await browser.press("register", **{**fields, "user": "ünkown"}, expect=400)
    await browser.press("register", **fields, expect=200)
    location = (await browser.press("allow", expect=303)).headers["location"]
    tokens = await app.exchange(app.answer_in(location)["code"])
    me = await connect(server, tokens["access_token"]).request("GET", "/account/whoami")
    assert me["user_id"] == "@page-user:tiny.test"
    # Somebody who is signed in may want another account; this name is gone.
    await browser.open(app.authorization(prompt="create"))
    assert "Continue as @page-user:tiny.test" in browser.page.text
    await browser.press("register", **fields, expect=400)
    assert "taken" in browser.page.text


async def test_an_invitation_link(make_server: Any, connect: Any) -> None:
    server = make_server(config={"registration": {"mode": "token"}})
    await connect(server).register("admin")
    printed = server.command("token", "create", "--link", "--config", str(server.config_file)).stdout.strip()
    start, _, token = printed.partition("?token=")
    assert start == f"{server.base_url}/register"
    async with Browser(server.base_url) as browser:
        await browser.open(printed)
        fields = {"user": "invited", "password": "long-enough-1", "repeated": "long-enough-1"}
        await browser.press("register", **fields, token="nonsense", expect=403)
        await browser.open(f"/register?token={token}")
        await browser.press("register", **fields, expect=200)
        assert "@invited:tiny.test" in browser.page.text
        async with Browser(server.base_url) as late:
            await late.open(f"/register?token={token}")
            await late.press("register", **{**fields, "user": "second"}, expect=403)
    await connect(server).login("invited", "long-enough-1")


async def test_closed_means_closed(make_server: Any) -> None:
    server = make_server(config={"registration": {"mode": "closed"}})
    async with Browser(server.base_url) as browser:
        await browser.open("/account")
        assert "Create an account" not in browser.page.text
        page = await browser.open("/register")
        assert "cannot be made here" in page.text
        [token] = set(re.findall(r'name="token_of_form" value="([^"]+)"', (await browser.open("/account")).text))
        form = {"do": "register", "user": "x", "password": "long-enough", "repeated": "long-enough"}
        assert (await browser.http.post("/account", data={**form, "token_of_form": token})).status_code == 403


async def test_devices_are_seen_renamed_and_signed_out(browser: Browser, new_user: Any, server: TinyServer) -> None:
    user = await new_user("alice")
    phone = await user.another_device(device_id="PHONE", initial_device_display_name="My phone")
    await signed_in(browser, user, "/account?action=org.matrix.devices_list")
    assert "My phone" in browser.page.text
    assert user.device_id in browser.page.text
    await browser.open("/account?action=org.matrix.device_view&device_id=PHONE")
    await browser.press("rename_device", name="Old phone", expect=200)
    assert (await user.request("GET", "/devices/PHONE"))["display_name"] == "Old phone"
    for name in ("org.matrix.device_delete", "device_delete", "org.matrix.session_end"):
        await browser.open(f"/account?action={name}&device_id=PHONE")
        assert "Old phone" in browser.page.text
    await browser.press("remove_device", expect=200)
    assert "Old phone" not in browser.page.text
    await phone.request("GET", "/account/whoami", expect=401)
    await phone.close()
    gone = await browser.open("/account?action=org.matrix.device_delete&device_id=PHONE")
    assert gone.status_code == 404
    # Devices of others are none of one's own.
    other = await new_user("bob")
    assert (await browser.open(f"/account?action=device_view&device_id={other.device_id}")).status_code == 404


async def test_a_new_password_signs_out_other_browsers(
    browser: Browser, new_user: Any, server: TinyServer, connect: Any
) -> None:
    user = await new_user("alice")
    await signed_in(browser, user)
    async with Browser(server.base_url) as other:
        await signed_in(other, user)
        await browser.open("/account?action=password")
        new = {"password": NEW_PASSWORD, "repeated": NEW_PASSWORD}
        await browser.press("change_password", current="wrong", **new, expect=400)
        await browser.press("change_password", current=user.password, **new, expect=200)
        assert "is changed" in browser.page.text
        await other.open("/account")
        assert "<h1>Sign in</h1>" in other.page.text
    await user.request("GET", "/account/whoami")  # its devices were not to be signed out
    await connect(server).login(user.localpart, NEW_PASSWORD)
    await browser.press("sign_out", expect=200)
    assert "<h1>Sign in</h1>" in browser.page.text


async def test_an_account_is_closed(browser: Browser, new_user: Any, server: TinyServer, connect: Any) -> None:
    user = await new_user("alice")
    room = (await user.request("POST", "/createRoom", {"preset": "public_chat"}))["room_id"]
    bob = await new_user("bob")
    await bob.request("POST", f"/join/{room}", {})
    await signed_in(browser, user, "/account?action=org.matrix.account_deactivate")
    await browser.press("close_account", current="wrong", expect=403)
    await browser.press("close_account", current=user.password, expect=200)
    assert "is closed" in browser.page.text
    await user.request("GET", "/account/whoami", expect=401)
    members = (await bob.request("GET", f"/rooms/{room}/joined_members"))["joined"]
    assert set(members) == {bob.user_id}
    await browser.open("/account")
    await browser.press("sign_in", user=user.localpart, password=user.password, expect=403)


async def test_a_new_identity_needs_the_page(
    browser: Browser, new_user: Any, app: App, server: TinyServer, connect: Any
) -> None:
    user = await new_user("alice")
    tokens = await app.sign_in(browser, user.localpart, user.password)
    client = connect(server, tokens["access_token"], user_id=user.user_id, device_id=app.device_id)

    def new_keys() -> dict[str, Any]:
        return CrossSigner(user.user_id).body()

    upload = "/keys/device_signing/upload"
    await client.request("POST", upload, new_keys())
    reset = new_keys()
    asked = await client.request("POST", upload, reset, expect=401)
    assert {"stages": ["m.oauth"]} in asked["flows"]
    url = asked["params"]["m.oauth"]["url"]
    assert url == f"{server.base_url}/account?action=org.matrix.cross_signing_reset"
    again = {**reset, "auth": {"session": asked["session"]}}
    assert (await client.request("POST", upload, again, expect=401))["session"] == asked["session"]
    # The password is not for clients that came in by OAuth.
    password = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user.user_id}}
    auth = {**password, "password": user.password, "session": asked["session"]}
    await client.request("POST", upload, {**reset, "auth": auth}, expect=401)

    await browser.open(url)
    await browser.press("reset", current="wrong", expect=403)
    await browser.press("reset", current=user.password, expect=200)
    await client.request("POST", upload, again)
    # Once.
    await client.request("POST", upload, new_keys(), expect=401)
