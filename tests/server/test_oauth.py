"""Signing in with OAuth: the whole way, and every way to cheat on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from .client import Client
from .harness import TinyServer
from .oauth import DEVICE_GRANT, WEB_CLIENT, App, Browser

WRONG_TOKEN = {"expect": 401, "errcode": "M_UNKNOWN_TOKEN"}


@pytest.fixture
def anybody(server: TinyServer, connect: Any) -> Client:
    return connect(server)


@pytest_asyncio.fixture
async def browser(server: TinyServer) -> AsyncIterator[Browser]:
    async with Browser(server.base_url) as made:
        yield made


@pytest_asyncio.fixture
async def app(anybody: Client) -> App:
    return await App(anybody.http).register()


async def whoami(connect: Any, server: TinyServer, tokens: Any, **wanted: Any) -> Any:
    return await connect(server, tokens["access_token"]).request("GET", "/account/whoami", **wanted)


async def test_the_metadata_is_complete_and_found_under_all_names(anybody: Client, server: TinyServer) -> None:
    metadata = await anybody.request("GET", "/_matrix/client/v1/auth_metadata")
    for path in (
        "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ):
        assert await anybody.request("GET", path) == metadata
    issuer = f"{server.base_url}/"
    assert metadata["issuer"] == issuer
    found = await anybody.request("GET", "/_matrix/client/unstable/org.matrix.msc2965/auth_issuer")
    assert found == {"issuer": issuer}
    assert {"authorization_code", "refresh_token", DEVICE_GRANT} <= set(metadata["grant_types_supported"])
    assert metadata["response_modes_supported"] == ["query", "fragment"]
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["prompt_values_supported"] == ["create"]
    for key, value in metadata.items():
        if key.endswith(("_endpoint", "_uri")):
            assert value.startswith(issuer), key
            assert (await anybody.http.get(value)).status_code != 404
    told = await anybody.request("GET", "/.well-known/matrix/client")
    account = metadata["account_management_uri"]
    assert told["org.matrix.msc2965.authentication"] == {"issuer": issuer, "account": account}


@pytest.mark.parametrize("server_config", [{"public_url": ""}])
async def test_without_a_public_url_the_address_in_use_counts(
    make_server: Any, connect: Any, server_config: dict[str, Any]
) -> None:
    server = make_server(config=server_config)
    client = connect(server)
    metadata = await client.request("GET", "/_matrix/client/v1/auth_metadata")
    assert metadata["token_endpoint"] == f"{server.base_url}/oauth2/token"
    forged = await client.request(
        "GET", "/_matrix/client/v1/auth_metadata", headers={"Host": 'evil"/><script>', "X-Forwarded-Proto": "https"}
    )
    assert forged["issuer"] == "https://localhost/"


async def test_a_user_signs_in_with_a_browser(
    new_user: Any, app: App, browser: Browser, connect: Any, server: TinyServer
) -> None:
    user = await new_user("alice")
    await browser.open(app.authorization())
    assert "Web Messenger (app.example.com)" in browser.page.text
    await browser.press("sign_in", user=user.localpart, password=user.password)
    assert user.user_id in browser.page.text
    assert app.device_id in browser.page.text
    answer = await browser.press("allow", expect=303)
    location = answer.headers["location"]
    assert location.startswith("https://app.example.com/callback#")
    told = app.answer_in(location)
    assert told["iss"] == f"{server.base_url}/"
    tokens = await app.exchange(told["code"])
    assert (tokens["token_type"], tokens["scope"]) == ("Bearer", app.scope)
    assert tokens["expires_in"] == 3600
    me = await whoami(connect, server, tokens)
    assert me == {"user_id": user.user_id, "device_id": app.device_id, "is_guest": False}
    device = await user.request("GET", f"/devices/{app.device_id}")
    assert device["display_name"] == "Web Messenger"
    assert device["last_seen_ip"] == "127.0.0.1"
    # The browser is signed in now, but nobody gets in unasked.
    await browser.open(app.authorization())
    assert "allow" in browser.page.text
    refused = await browser.press("deny", expect=303)
    assert app.answer_in(refused.headers["location"])["error"] == "access_denied"


async def test_the_answer_comes_in_the_query_and_scopes_by_their_old_names(
    new_user: Any, app: App, browser: Browser
) -> None:
    user = await new_user("alice")
    prefix = "urn:matrix:org.matrix.msc2967.client"
    scope = f"openid {prefix}:api:* {prefix}:device:{app.device_id}"
    await browser.open(app.authorization(response_mode="query", scope=scope, login_hint=f"mxid:{user.user_id}"))
    assert f'value="{user.user_id}"' in browser.page.text
    await browser.press("sign_in", user=user.user_id, password=user.password)
    location = (await browser.press("allow")).headers["location"]
    assert location.startswith("https://app.example.com/callback?state=")
    tokens = await app.exchange(app.answer_in(location)["code"])
    assert tokens["scope"] == scope.removeprefix("openid ")


async def test_a_code_works_once_and_a_stolen_one_ends_the_session(
    new_user: Any, app: App, browser: Browser, connect: Any, server: TinyServer
) -> None:
    user = await new_user("alice")
    code = await app.authorize(browser, user.localpart, user.password)
    tokens = await app.exchange(code)
    assert (await app.exchange(code, expect=400))["error"] == "invalid_grant"
    await whoami(connect, server, tokens, **WRONG_TOKEN)
    assert (await app.refresh(tokens["refresh_token"], expect=400))["error"] == "invalid_grant"
    await user.request("GET", f"/devices/{app.device_id}", expect=404)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"code_verifier": "x" * 43}, "invalid_grant"),
        ({"redirect_uri": "https://app.example.com/other"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"code": "tsc_nonsense"}, "invalid_grant"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": None}, "invalid_request"),
    ],
)
async def test_a_code_needs_what_it_was_made_with(
    new_user: Any, app: App, browser: Browser, changed: dict[str, str | None], error: str
) -> None:
    user = await new_user("alice")
    code = await app.authorize(browser, user.localpart, user.password)
    assert (await app.exchange(**{"code": code, "expect": 400, **changed}))["error"] == error  # type: ignore[arg-type]


async def test_a_code_of_another_client_is_worth_nothing(new_user: Any, app: App, browser: Browser) -> None:
    user = await new_user("alice")
    code = await app.authorize(browser, user.localpart, user.password)
    other = await App(app.http, {**WEB_CLIENT, "client_name": "Another"}).register()
    assert other.client_id != app.client_id
    assert (await app.exchange(code, expect=400, client_id=other.client_id))["error"] == "invalid_grant"
    assert (await app.exchange(code, expect=401, client_id="nobody"))["error"] == "invalid_client"
    # That did not take the code from the client that it is for.
    tokens = await app.exchange(code)
    taken = await app.token(
        400, client_id=other.client_id, grant_type="refresh_token", refresh_token=tokens["refresh_token"]
    )
    assert taken["error"] == "invalid_grant"
    await app.refresh(tokens["refresh_token"])


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"scope": "urn:matrix:client:api:*"}, "invalid_scope"),
        ({"scope": "urn:matrix:client:device:ABCDEF"}, "invalid_scope"),
        ({"scope": "urn:matrix:client:api:* urn:matrix:client:device:A urn:matrix:client:device:B"}, "invalid_scope"),
        ({"scope": "urn:matrix:client:api:* urn:matrix:client:device:" + "A" * 300}, "invalid_scope"),
        ({"state": "x" * 5000}, "invalid_request"),
    ],
)
async def test_a_wrong_request_is_told_but_nobody_is_sent_away_unasked(
    app: App, browser: Browser, changed: dict[str, str | None], error: str
) -> None:
    """Anybody may register a client: a link to this server that leads elsewhere by itself would be an open redirect."""
    page = await browser.open(app.authorization(**changed))
    assert page.status_code == 400
    assert "location" not in page.headers
    assert f"error={error}" in page.text
    assert "https://app.example.com/callback" in page.text


async def test_redirect_uris_are_compared_exactly(app: App, browser: Browser) -> None:
    for uri in (
        "https://app.example.com/callback/",
        "https://app.example.com/callback?x=1",
        "https://app.example.com:444/callback",
        "https://app.example.com/callback#x",
        "https://evil.example/callback",
        "https://app.example.com@evil.example/callback",
        "javascript:alert(1)",
        "",
    ):
        page = await browser.open(app.authorization(redirect_uri=uri))
        assert page.status_code == 400
        assert "evil" not in page.text
        assert "javascript" not in page.text
    twice = app.authorization() + "&redirect_uri=https%3A%2F%2Fevil.example%2F"
    assert (await browser.open(twice)).status_code == 400
    assert (await browser.open(app.authorization(client_id="nobody"))).status_code == 400


async def test_native_clients_get_any_port_of_the_loopback_interface(
    anybody: Client, new_user: Any, browser: Browser
) -> None:
    metadata = {
        **WEB_CLIENT,
        "application_type": "native",
        "redirect_uris": ["http://127.0.0.1/cb", "com.example.app:/cb?x=1"],
    }
    app = await App(anybody.http, metadata).register()
    user = await new_user("alice")
    app.redirect_uri = "http://127.0.0.1:43123/cb"
    assert (await app.exchange(await app.authorize(browser, user.localpart, user.password)))["access_token"]
    for wrong in ("http://localhost:43123/cb", "http://127.0.0.1:43123/other", "http://127.0.0.1:x/cb"):
        assert (await browser.open(app.authorization(redirect_uri=wrong))).status_code == 400
    app.redirect_uri = "com.example.app:/cb?x=1"
    await browser.open(app.authorization(response_mode="query"))
    assert "form-action 'self' com.example.app:;" in browser.page.headers["content-security-policy"]
    location = (await browser.press("allow")).headers["location"]
    assert location.startswith("com.example.app:/cb?x=1&state=")
    await app.exchange(app.answer_in(location)["code"])


async def test_refreshing_again_gives_the_same_and_the_old_token_lives_until_then(
    new_user: Any, app: App, browser: Browser, connect: Any, server: TinyServer
) -> None:
    user = await new_user("alice")
    first = await app.sign_in(browser, user.localpart, user.password)
    answers = await asyncio.gather(*(app.refresh(first["refresh_token"]) for _ in range(5)))
    assert len({answer["access_token"] for answer in answers}) == 1
    assert answers[0]["scope"] == app.scope
    await whoami(connect, server, first)  # nobody has used a new token yet
    await whoami(connect, server, answers[0])
    await whoami(connect, server, first, **WRONG_TOKEN)
    # A second process of the client that was a little late.
    assert (await app.refresh(first["refresh_token"]))["access_token"] == answers[0]["access_token"]


async def test_an_answer_that_was_lost_in_a_restart_is_given_again(
    new_user: Any, fresh_server: TinyServer, connect: Any
) -> None:
    user = await new_user("alice")
    async with Browser(fresh_server.base_url) as browser:
        app = await App(connect(fresh_server).http).register()
        tokens = await app.sign_in(browser, user.localpart, user.password)
        lost = await app.refresh(tokens["refresh_token"])
        await asyncio.to_thread(fresh_server.restart)
        again = await app.refresh(tokens["refresh_token"])
        assert again["access_token"] != lost["access_token"]
        await whoami(connect, fresh_server, again)


async def test_a_used_up_refresh_token_ends_the_session(
    new_user: Any, app: App, browser: Browser, connect: Any, server: TinyServer
) -> None:
    user = await new_user("alice")
    first = await app.sign_in(browser, user.localpart, user.password)
    second = await app.refresh(first["refresh_token"])
    third = await app.refresh(second["refresh_token"])
    await whoami(connect, server, third)
    assert (await app.refresh(first["refresh_token"], expect=400))["error"] == "invalid_grant"
    await whoami(connect, server, third, **WRONG_TOKEN)
    assert (await app.refresh(third["refresh_token"], expect=400))["error"] == "invalid_grant"
    await user.request("GET", f"/devices/{app.device_id}", expect=404)


async def test_refresh_tokens_of_both_apis_stay_apart(
    new_user: Any, app: App, browser: Browser, server: TinyServer, connect: Any
) -> None:
    user = await new_user("alice")
    tokens = await app.sign_in(browser, user.localpart, user.password)
    body = {"refresh_token": tokens["refresh_token"]}
    await connect(server).request("POST", "/refresh", body, expect=401, errcode="M_UNKNOWN_TOKEN")
    legacy = await user.another_device(refresh_token=True)
    assert (await app.refresh(legacy.refresh_token or "", expect=400))["error"] == "invalid_grant"
    await legacy.request("GET", "/account/whoami")
    # A password login with the same device takes it over, and the client's tokens end.
    await connect(server).login(user.localpart, user.password, device_id=app.device_id)
    assert (await app.refresh(tokens["refresh_token"], expect=400))["error"] == "invalid_grant"
    await legacy.close()


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
async def test_revocation_signs_out_and_deletes_the_device(
    new_user: Any, app: App, browser: Browser, connect: Any, server: TinyServer, which: str
) -> None:
    user = await new_user("alice")
    tokens = await app.sign_in(browser, user.localpart, user.password)
    hint = {"token": tokens[which], "token_type_hint": which, "client_id": app.client_id}
    assert (await app.http.post("/oauth2/revoke", data=hint)).status_code == 200
    await whoami(connect, server, tokens, **WRONG_TOKEN)
    await user.request("GET", f"/devices/{app.device_id}", expect=404)
    # Again, unknown, and none at all.
    assert (await app.http.post("/oauth2/revoke", data=hint)).status_code == 200
    assert (await app.http.post("/oauth2/revoke", data={"token": "x"})).status_code == 200
    missing = await app.http.post("/oauth2/revoke", data={"token_type_hint": which})
    assert (missing.status_code, missing.json()["error"]) == (400, "invalid_request")


async def test_whoever_finds_a_token_may_revoke_it(new_user: Any, app: App) -> None:
    user = await new_user("alice")
    assert (await app.http.post("/oauth2/revoke", data={"token": user.access_token})).status_code == 200
    await user.request("GET", "/account/whoami", expect=401)


async def test_registration_keeps_what_it_knows_and_equal_clients_are_one(anybody: Client) -> None:
    metadata = {
        **WEB_CLIENT,
        "client_name#de": "Netznachrichten",
        "contacts": ["me@example.com"],
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:token-exchange"],
        "logo_uri": "https://app.example.com/logo.png",
        "policy_uri": "https://www.app.example.com:444/policy",
    }
    first = await anybody.http.post("/oauth2/clients", json=metadata)
    assert first.status_code == 201
    told = first.json()
    assert told["grant_types"] == ["authorization_code", "refresh_token"]
    assert told["logo_uri"] == metadata["logo_uri"]
    assert "client_name#de" not in told
    assert "client_secret" not in told
    second = (await anybody.http.post("/oauth2/clients", json=metadata)).json()
    assert second["client_id"] == told["client_id"]


async def test_a_client_does_only_what_it_registered_for(anybody: Client, browser: Browser) -> None:
    only_device = {key: value for key, value in WEB_CLIENT.items() if key != "redirect_uris"}
    app = await App(anybody.http, {**only_device, "grant_types": [DEVICE_GRANT]}).register()
    answer = await app.exchange("x", 400, redirect_uri="https://app.example.com/callback")
    assert answer["error"] == "unauthorized_client"
    only_code = await App(anybody.http, {**WEB_CLIENT, "grant_types": ["authorization_code"]}).register()
    asked = {"client_id": only_code.client_id, "scope": only_code.scope}
    refused = await anybody.http.post("/oauth2/device", data=asked)
    assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")


async def test_a_device_is_signed_in_by_its_code(
    new_user: Any, app: App, browser: Browser, connect: Any, server: TinyServer
) -> None:
    user = await new_user("alice")
    asked = {"client_id": app.client_id, "scope": app.scope}
    grant = (await app.http.post("/oauth2/device", data=asked)).json()
    assert (grant["interval"], grant["expires_in"]) == (5, 1200)
    assert grant["verification_uri"] == f"{server.base_url}/link"
    poll = {"grant_type": DEVICE_GRANT, "device_code": grant["device_code"]}
    assert (await app.token(400, **poll))["error"] == "authorization_pending"
    assert (await app.token(400, **poll))["error"] == "slow_down"
    other = await App(app.http, {**WEB_CLIENT, "client_name": "Thief"}).register()
    assert (await other.token(400, **poll))["error"] == "invalid_grant"

    await browser.open(grant["verification_uri_complete"])
    await browser.press("sign_in", user=user.localpart, password=user.password)
    assert grant["user_code"] in browser.page.text
    assert "Web Messenger" in browser.page.text
    await browser.press("allow", expect=200)
    tokens = await app.token(**poll)
    assert (await whoami(connect, server, tokens))["device_id"] == app.device_id
    assert tokens["scope"] == app.scope
    assert (await app.token(400, **poll))["error"] == "invalid_grant"
    await app.refresh(tokens["refresh_token"])
    # The user code is used up, too.
    assert (await browser.open(grant["verification_uri_complete"])).status_code == 404


async def test_a_device_is_refused(new_user: Any, app: App, browser: Browser) -> None:
    user = await new_user("alice")
    grant = (await app.http.post("/oauth2/device", data={"client_id": app.client_id, "scope": app.scope})).json()
    await browser.open(grant["verification_uri"])
    await browser.press("sign_in", user=user.localpart, password=user.password)
    assert (await browser.open("/link?user_code=BBBB-BBBB")).status_code == 404
    typed = grant["user_code"].lower().replace("-", " ")
    await browser.open(f"/link?user_code={typed}")
    await browser.press("deny", expect=200)
    poll = {"grant_type": DEVICE_GRANT, "device_code": grant["device_code"]}
    assert (await app.token(400, **poll))["error"] == "access_denied"
    for scope in ("", "urn:matrix:client:api:*"):
        bad = await app.http.post("/oauth2/device", data={"client_id": app.client_id, "scope": scope})
        assert bad.json()["error"] == "invalid_scope"


async def test_the_token_endpoint_takes_forms_only(app: App) -> None:
    answer = await app.http.post("/oauth2/token", json={"grant_type": "refresh_token"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    twice = b"grant_type=refresh_token&grant_type=refresh_token&client_id=x"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await app.http.post("/oauth2/token", content=twice, headers=form)
    assert answer.json()["error"] == "invalid_request"


async def test_closed_and_locked_accounts_get_nothing(new_user: Any, app: App, browser: Browser) -> None:
    user = await new_user("alice")
    tokens = await app.sign_in(browser, user.localpart, user.password)
    code = await app.authorize(browser, user.localpart, user.password)
    auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user.user_id}}
    asked = await user.request("POST", "/account/deactivate", {}, expect=401)
    auth |= {"password": user.password, "session": asked["session"]}
    await user.request("POST", "/account/deactivate", {"auth": auth})
    assert (await app.exchange(code, expect=400))["error"] == "invalid_grant"
    assert (await app.refresh(tokens["refresh_token"], expect=400))["error"] == "invalid_grant"
    await browser.open(app.authorization())
    assert "sign_in" in browser.page.text


async def test_sso_for_clients_that_know_nothing_newer(
    anybody: Client, new_user: Any, browser: Browser, server: TinyServer, connect: Any
) -> None:
    user = await new_user("alice")
    flows = {flow["type"]: flow for flow in (await anybody.request("GET", "/login"))["flows"]}
    assert "m.login.password" in flows
    sso = flows["m.login.sso"]
    assert sso["oauth_aware_preferred"] is True
    assert sso["org.matrix.msc3824.delegated_oidc_compatibility"] is True
    provider = sso["identity_providers"][0]["id"]
    base = "/_matrix/client/v3/login/sso/redirect"
    await anybody.request("GET", base, expect=400, errcode="M_MISSING_PARAM")
    await anybody.request("GET", f"{base}/nobody", params={"redirectUrl": "https://x.example/"}, expect=404)
    away = await anybody.raw("GET", base, params={"redirectUrl": "https://x.example/"})
    assert away.status_code == 302
    for url in ("https://x.example/?a=1&loginToken=old#/there", "im.example.app://login"):
        async with Browser(server.base_url) as fresh:
            page = await fresh.http.get(f"{base}/{provider}", params={"redirectUrl": url}, follow_redirects=True)
            await fresh.open(str(page.url))
            await fresh.press("sign_in", user=user.localpart, password=user.password)
            location = (await fresh.press("allow", expect=303)).headers["location"]
        parts = urlsplit(location)
        assert location.startswith(url.partition("?")[0])
        [token] = parse_qs(parts.query)["loginToken"]
        assert parts.fragment == urlsplit(url).fragment
        body = {"type": "m.login.token", "token": token}
        assert (await connect(server).request("POST", "/login", body))["user_id"] == user.user_id
        await anybody.request("POST", "/login", body, expect=403)
    for unsafe in ("javascript:alert(1)", "data:text/html,x", "https://a@b.example/", "//x", "https://x.example/ y"):
        away = await anybody.raw("GET", base, params={"redirectUrl": unsafe})
        page = await browser.open(away.headers["location"])
        assert page.status_code == 400
