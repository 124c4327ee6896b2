"""Logging in and out, refreshing tokens, and what a token that has ended gets."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Client

SERVER_CONFIG = {"registration": {"mode": "open"}, "sessions": {"access_token_lifetime": "1h"}}

PASSWORD = "wonderland-1865"


@pytest.fixture
def anybody(server: Any, connect: Any) -> Client:
    """A client without an account."""
    return connect(server)


def password_login(user: Client, password: str = PASSWORD, **options: Any) -> dict[str, Any]:
    identifier = {"type": "m.id.user", "user": user.user_id}
    return {"type": "m.login.password", "identifier": identifier, "password": password, **options}


async def test_flows(anybody: Client) -> None:
    flows = (await anybody.request("GET", "/login"))["flows"]
    assert {"type": "m.login.password"} in flows
    assert {"type": "m.login.token", "get_login_token": True} in flows
    # The name of the path before v3.
    assert (await anybody.request("GET", "/_matrix/client/r0/login"))["flows"] == flows


async def test_identifiers(anybody: Client, new_user: Any) -> None:
    user = await new_user("ways")
    body = {"type": "m.login.password", "password": PASSWORD}
    for who in (
        {"identifier": {"type": "m.id.user", "user": user.localpart}},
        {"identifier": {"type": "m.id.user", "user": user.localpart.upper()}},
        {"identifier": {"type": "m.id.user", "user": user.user_id}},
        {"user": user.localpart},
        {"user": user.user_id},
    ):
        done = await anybody.request("POST", "/login", {**body, **who})
        assert done["user_id"] == user.user_id
        assert done["device_id"]
        assert "refresh_token" not in done
        assert "expires_in_ms" not in done


@pytest.mark.parametrize(
    ("who", "status", "errcode"),
    [
        ({"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "a@b.c"}}, 403, "M_FORBIDDEN"),
        ({"identifier": {"medium": "email", "address": "a@b.c"}}, 403, "M_FORBIDDEN"),
        ({"medium": "email", "address": "a@b.c"}, 403, "M_FORBIDDEN"),
        ({"identifier": {"type": "m.id.phone", "country": "DE", "phone": "030 1"}}, 403, "M_FORBIDDEN"),
        ({"identifier": {"type": "m.id.user", "user": "@nobody:elsewhere.test"}}, 403, "M_FORBIDDEN"),
        ({"identifier": {"type": "m.id.user", "user": ""}}, 403, "M_FORBIDDEN"),
        ({"identifier": {"type": "m.id.user", "user": "n\0"}}, 403, "M_FORBIDDEN"),
        ({"identifier": {"type": "m.id.user", "user": "x" * 5000}}, 403, "M_FORBIDDEN"),
        ({"identifier": {"type": "m.id.user"}}, 400, "M_MISSING_PARAM"),
        ({"identifier": {"type": "m.id.user", "user": 7}}, 400, "M_BAD_JSON"),
        ({"identifier": {"type": "m.id.thirdparty", "medium": "email"}}, 400, "M_MISSING_PARAM"),
        ({"identifier": {"type": ["m.id.user"]}}, 400, "M_UNKNOWN"),
        ({"identifier": {"type": "m.id.pigeon"}}, 400, "M_UNKNOWN"),
        ({"identifier": {}}, 400, "M_UNKNOWN"),
        ({"identifier": "alice"}, 400, "M_BAD_JSON"),
        ({}, 400, "M_MISSING_PARAM"),
    ],
)
async def test_bad_identifiers(anybody: Client, who: dict[str, Any], status: int, errcode: str) -> None:
    body = {"type": "m.login.password", "password": "x", **who}
    await anybody.request("POST", "/login", body, expect=status, errcode=errcode)


@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        ({"type": "m.login.magic"}, 400, "M_UNKNOWN"),
        ({"type": "m.login.password", "user": "a"}, 400, "M_MISSING_PARAM"),
        ({"type": "m.login.token"}, 400, "M_MISSING_PARAM"),
        ({"type": "m.login.token", "token": "tsl_wrong"}, 403, "M_FORBIDDEN"),
        ({"type": "m.login.password", "user": "a", "password": 1}, 400, "M_BAD_JSON"),
        ({}, 400, "M_BAD_JSON"),
        ([], 400, "M_BAD_JSON"),
    ],
)
async def test_bad_logins(anybody: Client, body: Any, status: int, errcode: str) -> None:
    await anybody.request("POST", "/login", body, expect=status, errcode=errcode)


async def test_wrong_password(anybody: Client, new_user: Any) -> None:
    user = await new_user("forgetful")
    for password in ("wrong", "", "x" * 600, "nul\0"):
        body = password_login(user, password)
        await anybody.request("POST", "/login", body, expect=403, errcode="M_FORBIDDEN")


async def test_device_is_used_again(anybody: Client, new_user: Any) -> None:
    user = await new_user("returning")
    first = await anybody.request("POST", "/login", password_login(user, device_id="TABLET"))
    anybody.access_token = first["access_token"]
    await anybody.request("GET", "/account/whoami")
    body = password_login(user, device_id="TABLET", initial_device_display_name="ignored")
    second = await anybody.request("POST", "/login", body)
    assert second["device_id"] == "TABLET"
    # Its tokens from before have ended.
    await anybody.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
    device = await user.request("GET", "/devices/TABLET")
    assert "display_name" not in device


async def test_login_token(anybody: Client, new_user: Any) -> None:
    user = await new_user("qr")
    path = "/_matrix/client/v1/login/get_token"
    asked = await user.request("POST", path, {}, expect=401)
    stage = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user.user_id}}
    wrong = {"auth": {**stage, "password": "wrong", "session": asked["session"]}}
    again = await user.request("POST", path, wrong, expect=401, errcode="M_FORBIDDEN")
    assert again["session"] == asked["session"]
    assert again["flows"] == [{"stages": ["m.login.password"]}]
    made = await user.request("POST", path, {"auth": {**stage, "password": PASSWORD, "session": asked["session"]}})
    assert made["expires_in_ms"] == 120_000
    # Each token needs a new proof.
    await user.request("POST", path, {"auth": {"session": asked["session"]}}, expect=401)
    body = {"type": "m.login.token", "token": made["login_token"], "initial_device_display_name": "Watch"}
    done = await anybody.request("POST", "/login", body)
    assert done["user_id"] == user.user_id
    await anybody.request("POST", "/login", body, expect=403, errcode="M_FORBIDDEN")


async def test_password_of_somebody_else_proves_nothing(new_user: Any) -> None:
    user, other = await new_user("one"), await new_user("other")
    stage = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": other.user_id}}
    body = {"auth": {**stage, "password": PASSWORD}}
    await user.request("POST", "/_matrix/client/v1/login/get_token", body, expect=401, errcode="M_FORBIDDEN")


async def test_refresh(anybody: Client, new_user: Any) -> None:
    user = await new_user("refreshing")
    first = await anybody.request("POST", "/login", password_login(user, refresh_token=True, device_id="R"))
    assert first["expires_in_ms"] == 3_600_000
    assert first["refresh_token"].startswith("tsr_")

    async def refresh(tokens: Any, **expectation: Any) -> Any:
        return await anybody.request("POST", "/refresh", {"refresh_token": tokens["refresh_token"]}, **expectation)

    async def whoami(tokens: Any, **expectation: Any) -> Any:
        anybody.access_token = tokens["access_token"]
        return await anybody.request("GET", "/account/whoami", **expectation)

    lost = await refresh(first)
    # The answer may have been lost: the old refresh token is good until a new token is used.
    second = await refresh(first)
    assert second["expires_in_ms"] == 3_600_000
    await whoami(first)
    assert (await whoami(second))["device_id"] == "R"
    await whoami(second)
    await refresh(first, expect=401, errcode="M_UNKNOWN_TOKEN")
    await refresh(lost, expect=401, errcode="M_UNKNOWN_TOKEN")
    await whoami(first, expect=401, errcode="M_UNKNOWN_TOKEN")
    await whoami(lost, expect=401, errcode="M_UNKNOWN_TOKEN")
    # Using the new refresh token counts as well.
    third = await refresh(second)
    fourth = await refresh(third)
    await refresh(second, expect=401, errcode="M_UNKNOWN_TOKEN")
    await whoami(fourth)
    await anybody.request("POST", "/logout")
    await refresh(fourth, expect=401, errcode="M_UNKNOWN_TOKEN")


async def test_refresh_survives_a_restart(fresh_server: Any, new_user: Any, connect: Any) -> None:
    user = await new_user("restarted")
    client = connect(fresh_server)
    first = await client.request("POST", "/login", password_login(user, refresh_token=True))
    second = await client.request("POST", "/refresh", {"refresh_token": first["refresh_token"]})
    fresh_server.kill()
    fresh_server.start()
    for tokens in (first, second):
        client.access_token = tokens["access_token"]
        await client.request("GET", "/account/whoami")
    await client.request("POST", "/refresh", {"refresh_token": first["refresh_token"]}, expect=401)
    assert (await user.request("GET", "/account/whoami"))["user_id"] == user.user_id


@pytest.mark.parametrize("body", [{}, {"refresh_token": None}, {"refresh_token": 1}])
async def test_bad_refresh(anybody: Client, body: Any) -> None:
    await anybody.request("POST", "/refresh", body, expect=400, errcode="M_BAD_JSON")


async def test_expired_token(make_server: Any, connect: Any, new_user: Any) -> None:
    server = make_server(config={"sessions": {"access_token_lifetime": "1s", "refresh_token_lifetime": "1s"}})
    user = await new_user("late", server=server)
    client = connect(server)
    tokens = await client.request("POST", "/login", password_login(user, refresh_token=True, device_id="OLD"))
    client.access_token = tokens["access_token"]
    while (answer := await client.raw("GET", "/account/whoami")).status_code == 200:
        pass
    assert answer.status_code == 401
    assert answer.json()["errcode"] == "M_UNKNOWN_TOKEN"
    assert answer.json()["soft_logout"] is True
    refused = await client.request("POST", "/refresh", {"refresh_token": tokens["refresh_token"]}, expect=401)
    assert refused["soft_logout"] is True
    # The device is still there to log in to.
    await client.request("POST", "/login", password_login(user, device_id="OLD"))


async def test_tokens(anybody: Client, new_user: Any) -> None:
    user = await new_user("tokens")
    missing = await anybody.request("GET", "/account/whoami", expect=401, errcode="M_MISSING_TOKEN")
    assert "soft_logout" not in missing
    anybody.access_token = "tsa_wrong"
    unknown = await anybody.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
    assert not unknown.get("soft_logout")
    anybody.access_token = None
    params = {"access_token": user.access_token}
    assert (await anybody.request("GET", "/account/whoami", params=params))["user_id"] == user.user_id


async def test_logout(server: Any, new_user: Any) -> None:
    user = await new_user("leaving")
    async with await user.another_device() as other, await user.another_device() as third:
        await other.request("POST", "/logout", {})
        await other.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
        devices = (await user.request("GET", "/devices"))["devices"]
        assert {device["device_id"] for device in devices} == {user.device_id, third.device_id}
        await user.request("POST", "/logout/all")
        for client in (user, third):
            refused = await client.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
            assert not refused.get("soft_logout")
    await user.login(user.user_id)
    assert len((await user.request("GET", "/devices"))["devices"]) == 1


async def test_tokens_are_not_in_the_database(fresh_server: Any, new_user: Any) -> None:
    user = await new_user("secretive")
    async with Client(fresh_server.base_url) as client:
        tokens = await client.request("POST", "/login", password_login(user, refresh_token=True))
    fresh_server.stop()
    stored = b"".join(path.read_bytes() for path in fresh_server.data_dir.iterdir() if path.is_file())
    for secret in (user.access_token, tokens["access_token"], tokens["refresh_token"], PASSWORD):
        assert secret.encode() not in stored
        assert secret not in fresh_server.log.text()
    assert b"$argon2id$" in stored


async def test_password_hash_is_brought_up_to_date(fresh_server: Any, new_user: Any) -> None:
    user = await new_user("upgraded")
    fresh_server.stop()
    fresh_server.write_config({"passwords": {"memory": "2 MiB", "iterations": 2}})
    fresh_server.start()
    await user.login(user.user_id)
    fresh_server.stop()
    stored = (fresh_server.data_dir / "tinyserver.db").read_bytes()
    assert b"$m=2048,t=2,p=1$" in stored


async def test_guessing_is_slowed_down(make_server: Any, connect: Any, new_user: Any) -> None:
    limits = {"enabled": True, "login_failed": {"per_second": 0.001, "burst": 2}}
    server = make_server(config={"rate_limits": limits})
    user = await new_user("target", server=server)
    client = connect(server)
    for _ in range(2):
        await client.request("POST", "/login", password_login(user, "guess"), expect=403)
    answer = await client.request("POST", "/login", password_login(user), expect=429, errcode="M_LIMIT_EXCEEDED")
    assert answer["retry_after_ms"] > 0
