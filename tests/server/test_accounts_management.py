"""Changing the password, closing an account, devices, and who is logged in where."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from .client import Client

SERVER_CONFIG = {"registration": {"mode": "open", "allow_guests": True}}

PASSWORD = "wonderland-1865"
NEW = "looking-glass-1871"


def stage(user: Client, password: str = PASSWORD, **more: Any) -> dict[str, Any]:
    identifier = {"type": "m.id.user", "user": user.user_id}
    return {"type": "m.login.password", "identifier": identifier, "password": password, **more}


async def device_ids(user: Client) -> set[str]:
    return {device["device_id"] for device in (await user.request("GET", "/devices"))["devices"]}


# Passwords


async def test_change_password(server: Any, new_user: Any) -> None:
    user = await new_user("changing")
    async with await user.another_device() as other:
        asked = await user.request("POST", "/account/password", {"new_password": NEW}, expect=401)
        assert asked["flows"] == [{"stages": ["m.login.password"]}]
        session = asked["session"]
        wrong = {"new_password": NEW, "auth": stage(user, "wrong", session=session)}
        await user.request("POST", "/account/password", wrong, expect=401, errcode="M_FORBIDDEN")
        # What was begun for one password is not good for another.
        swapped = {"new_password": "attackers-choice", "auth": stage(user, session=session)}
        await user.request("POST", "/account/password", swapped, expect=400, errcode="M_INVALID_PARAM")
        done = await user.request(
            "POST", "/account/password", {"new_password": NEW, "auth": stage(user, session=session)}
        )
        assert done == {}
        await other.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
    assert await device_ids(user) == {user.device_id}
    async with Client(server.base_url) as client:
        body = {"type": "m.login.password", "user": user.user_id, "password": PASSWORD}
        await client.request("POST", "/login", body, expect=403, errcode="M_FORBIDDEN")
        await client.request("POST", "/login", {**body, "password": NEW})


async def test_other_devices_may_stay(new_user: Any) -> None:
    user = await new_user("staying")
    async with await user.another_device() as other:
        body = {"new_password": NEW, "logout_devices": False, "auth": stage(user)}
        await user.request("POST", "/account/password", body)
        await other.request("GET", "/account/whoami")


async def test_change_password_without_a_token(server: Any, new_user: Any, connect: Any) -> None:
    user = await new_user("locked-out")
    anybody = connect(server)
    asked = await anybody.request("POST", "/account/password", {"new_password": NEW}, expect=401)
    body = {"new_password": NEW, "auth": stage(user, session=asked["session"])}
    await anybody.request("POST", "/account/password", body)
    await user.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
    await user.login(user.user_id, NEW)


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({"new_password": ""}, "M_WEAK_PASSWORD"),
        ({"new_password": "x" * 513}, "M_WEAK_PASSWORD"),
        ({"new_password": 5}, "M_BAD_JSON"),
        ({"logout_devices": True}, "M_BAD_JSON"),
        ({"new_password": NEW, "logout_devices": "yes"}, "M_BAD_JSON"),
    ],
)
async def test_bad_password_changes(new_user: Any, body: Any, errcode: str) -> None:
    user = await new_user("sloppy")
    await user.request("POST", "/account/password", {**body, "auth": stage(user)}, expect=400, errcode=errcode)


@pytest.mark.parametrize(
    ("auth", "status", "errcode"),
    [
        ({"type": "m.login.password"}, 401, "M_MISSING_PARAM"),
        ({"type": "m.login.password", "identifier": 1, "password": "x"}, 401, "M_MISSING_PARAM"),
        ({"type": "m.login.password", "identifier": {"type": "m.id.user"}, "password": "x"}, 400, "M_MISSING_PARAM"),
        (
            {
                "type": "m.login.password",
                "identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "a@b.c"},
                "password": "x",
            },
            403,
            "M_FORBIDDEN",
        ),
    ],
)
async def test_bad_stages(new_user: Any, auth: Any, status: int, errcode: str) -> None:
    user = await new_user("stages")
    body = {"new_password": NEW, "auth": auth}
    await user.request("POST", "/account/password", body, expect=status, errcode=errcode)


# Closing the account


@pytest.mark.parametrize("erase", [False, True])
async def test_deactivate(server: Any, new_user: Any, connect: Any, erase: bool) -> None:
    user = await new_user("closing")
    witness = await new_user("witness")
    room = await user.create_room(witness)
    await user.request("PUT", f"/profile/{user.user_id}/displayname", {"displayname": "Soon Gone"})
    asked = await user.request("POST", "/account/deactivate", {"erase": erase}, expect=401)
    body = {"erase": erase, "auth": stage(user, session=asked["session"])}
    assert await user.request("POST", "/account/deactivate", body) == {"id_server_unbind_result": "success"}

    await user.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
    client = connect(server)
    login = {"type": "m.login.password", "user": user.user_id, "password": PASSWORD}
    await client.request("POST", "/login", login, expect=403, errcode="M_FORBIDDEN")
    again = {"username": user.localpart, "password": PASSWORD}
    await client.request("POST", "/register", again, expect=400, errcode="M_USER_IN_USE")
    members = (await witness.request("GET", f"{witness.room(room)}/joined_members"))["joined"]
    assert set(members) == {witness.user_id}
    profile = await witness.request("GET", f"/profile/{user.user_id}")
    assert profile == ({} if erase else {"displayname": "Soon Gone"})


async def test_deactivate_without_a_token(server: Any, new_user: Any, connect: Any) -> None:
    user = await new_user("closing-anon")
    await connect(server).request("POST", "/account/deactivate", {"auth": stage(user)})
    await user.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")


# Devices


async def test_devices(server: Any, new_user: Any, connect: Any) -> None:
    user = await new_user("many")
    options = {"device_id": "BOARD", "initial_device_display_name": "Dashboard"}
    async with await user.another_device(**options) as other:
        await other.request("GET", "/account/whoami", headers={"User-Agent": "Tests/1"})
        device = await user.request("GET", "/devices/BOARD")
        assert device["device_id"] == "BOARD"
        assert device["display_name"] == "Dashboard"
        assert device["last_seen_ip"] == "127.0.0.1"
        assert device["last_seen_ts"] > 1_500_000_000_000
        assert device["user_id"] == user.user_id
        assert await device_ids(user) == {"BOARD", user.device_id}

        await user.request("PUT", "/devices/BOARD", {"display_name": "Kitchen"})
        await user.request("PUT", "/devices/BOARD", {})
        assert (await user.request("GET", "/devices/BOARD"))["display_name"] == "Kitchen"
        await user.request("PUT", "/devices/BOARD", {"display_name": "x" * 300}, expect=400, errcode="M_INVALID_PARAM")
        await user.request("PUT", "/devices/BOARD", {"display_name": 1}, expect=400, errcode="M_BAD_JSON")
        await user.request("PUT", "/devices/NONE", {"display_name": "x"}, expect=404, errcode="M_NOT_FOUND")
        await user.request("GET", "/devices/NONE", expect=404, errcode="M_NOT_FOUND")
        # Nobody sees the devices of others.
        stranger = await new_user("stranger")
        await stranger.request("GET", "/devices/BOARD", expect=404, errcode="M_NOT_FOUND")


async def test_delete_a_device(new_user: Any) -> None:
    user = await new_user("tidy")
    async with await user.another_device(device_id="A/ B") as other:
        path = f"/devices/{quote('A/ B', safe='')}"
        asked = await user.request("DELETE", path, {}, expect=401)
        assert (await user.request("DELETE", path, expect=401))["flows"] == asked["flows"]
        # The proof for one device is not good for another.
        body = {"auth": stage(user, session=asked["session"])}
        wrong = await user.raw("DELETE", f"/devices/{user.device_id}", body)
        assert wrong.status_code == 400
        await user.request("DELETE", path, body)
        await other.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
        # It may be gone already.
        await user.request("DELETE", path, {"auth": stage(user)})
    assert await device_ids(user) == {user.device_id}


async def test_delete_devices(new_user: Any) -> None:
    user = await new_user("sweeping")
    async with await user.another_device() as one, await user.another_device() as two:
        wanted = [one.device_id, two.device_id, "NONE", one.device_id]
        asked = await user.request("POST", "/delete_devices", {"devices": wanted}, expect=401)
        body = {"devices": wanted, "auth": stage(user, session=asked["session"])}
        await user.request("POST", "/delete_devices", body)
        for client in (one, two):
            await client.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
    await user.request("POST", "/delete_devices", {}, expect=400, errcode="M_BAD_JSON")
    await user.request("POST", "/delete_devices", {"devices": [1]}, expect=400, errcode="M_BAD_JSON")


async def test_last_seen_survives_a_clean_stop(fresh_server: Any, new_user: Any) -> None:
    user = await new_user("seen")
    await user.request("GET", "/account/whoami", headers={"User-Agent": "Before/1"})
    seen = await user.request("GET", f"/admin/whois/{user.user_id}")
    fresh_server.restart()
    async with await user.another_device() as other:
        device = (await other.request("GET", f"/admin/whois/{user.user_id}"))["devices"][user.device_id]
    assert (
        device["sessions"][0]["connections"][0]["last_seen"]
        >= seen["devices"][user.device_id]["sessions"][0]["connections"][0]["last_seen"]
    )


async def test_whois(server: Any, new_user: Any) -> None:
    user, other, admin = await new_user("me"), await new_user("you"), await new_user("boss", admin=True)
    for client in (user, admin):
        shown = await client.request("GET", f"/admin/whois/{user.user_id}")
        assert shown["user_id"] == user.user_id
        connection = shown["devices"][user.device_id]["sessions"][0]["connections"][0]
        assert connection["ip"] == "127.0.0.1"
        assert connection["last_seen"] > 1_500_000_000_000
        assert connection["user_agent"]
    await other.request("GET", f"/admin/whois/{user.user_id}", expect=403, errcode="M_FORBIDDEN")
    await other.request("GET", "/admin/whois/@nobody:tiny.test", expect=403, errcode="M_FORBIDDEN")
    await admin.request("GET", "/admin/whois/@nobody:tiny.test", expect=404, errcode="M_NOT_FOUND")


async def test_what_guests_may(server: Any, connect: Any) -> None:
    guest = connect(server)
    guest._become(await guest.request("POST", "/register", {}, params={"kind": "guest"}), "")
    await guest.request("GET", "/devices")
    await guest.request("GET", f"/devices/{guest.device_id}")
    await guest.request("PUT", f"/devices/{guest.device_id}", {"display_name": "Peephole"})
    await guest.request("PUT", f"/profile/{guest.user_id}/displayname", {"displayname": "Somebody"})
    avatar = {"avatar_url": "mxc://tiny.test/abc"}
    for method, path, body in (
        ("PUT", f"/profile/{guest.user_id}/avatar_url", avatar),
        ("DELETE", f"/devices/{guest.device_id}", {}),
        ("POST", "/delete_devices", {"devices": []}),
        ("PUT", f"/user/{guest.user_id}/account_data/org.example", {}),
        ("POST", "/account/deactivate", {}),
        ("POST", "/_matrix/client/v1/login/get_token", {}),
    ):
        await guest.request(method, path, body, expect=403, errcode="M_GUEST_ACCESS_FORBIDDEN")
    await guest.request("DELETE", f"/profile/{guest.user_id}/displayname")
    capabilities = (await guest.request("GET", "/capabilities"))["capabilities"]
    assert capabilities["m.profile_fields"] == {"enabled": True, "allowed": ["displayname"]}
    assert capabilities["m.change_password"] == {"enabled": False}
    await guest.request("POST", "/logout")
    await guest.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")


async def test_capabilities(server: Any, new_user: Any) -> None:
    user = await new_user("able")
    capabilities = (await user.request("GET", "/capabilities"))["capabilities"]
    assert capabilities["m.room_versions"]["default"] == "12"
    assert capabilities["m.room_versions"]["available"] == {str(number): "stable" for number in range(1, 13)}
    for name in ("m.change_password", "m.get_login_token", "m.profile_fields", "m.set_displayname", "m.set_avatar_url"):
        assert capabilities[name]["enabled"] is True
    assert capabilities["m.3pid_changes"] == {"enabled": False}
