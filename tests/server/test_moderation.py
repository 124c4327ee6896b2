"""Suspended accounts can hardly act, locked ones not at all, and both find everything as it was afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from .client import Client
from .conftest import NewUser
from .harness import TinyServer

SERVER_CONFIG = {"rate_limits": {"enabled": False}}
SUSPENDED: dict[str, Any] = {"expect": 403, "errcode": "M_USER_SUSPENDED"}
LOCKED: dict[str, Any] = {"expect": 401, "errcode": "M_USER_LOCKED"}


def admin_path(what: str, user: str) -> str:
    return f"/_matrix/client/v1/admin/{what}/{quote(user, safe='')}"


async def log_in(connect: Callable[..., Client], server: TinyServer, user: Client, **expectation: Any) -> Client:
    other = connect(server)
    identifier = {"type": "m.id.user", "user": user.user_id}
    body = {"type": "m.login.password", "identifier": identifier, "password": user.password}
    answer = await other.request("POST", "/login", body, **expectation)
    other.access_token = answer.get("access_token")
    other.user_id = user.user_id
    return other


async def test_a_suspended_user_reads_leaves_and_redacts(
    new_user: NewUser, connect: Callable[..., Client], server: TinyServer
) -> None:
    root, alice, bob = await new_user("root", admin=True), await new_user("alice"), await new_user("bob")
    room, others = await alice.create_room(), await bob.create_room()
    await alice.invite(room, bob)
    await bob.join(room)
    await bob.invite(others, alice)
    own, foreign = await alice.send(room, "mine"), await bob.send(room, "his")
    me = quote(alice.user_id, safe="")
    path = admin_path("suspend", alice.user_id)
    assert await root.request("GET", path) == {"suspended": False}
    assert await root.request("PUT", path, {"suspended": True}) == {"suspended": True}
    assert await root.request("GET", path) == {"suspended": True}

    again = await log_in(connect, server, alice)
    for session in (alice, again):
        await session.send(room, "no", **SUSPENDED)
        await session.put_state(room, "m.room.name", {"name": "no"}, **SUSPENDED)
        await session.put_state(others, "m.room.member", {"membership": "join"}, alice.user_id, **SUSPENDED)
        await session.put_state(room, "m.room.member", {"membership": "invite"}, root.user_id, **SUSPENDED)
        await session.redact(room, foreign, **SUSPENDED)
        await session.request("POST", f"/join/{quote(others, safe='')}", {}, **SUSPENDED)
        await session.request("POST", f"{alice.room(others)}/join", {}, **SUSPENDED)
        await session.request("POST", f"/knock/{quote(others, safe='')}", {}, **SUSPENDED)
        await session.request("POST", f"{alice.room(room)}/invite", {"user_id": root.user_id}, **SUSPENDED)
        await session.request("POST", f"{alice.room(room)}/kick", {"user_id": bob.user_id}, **SUSPENDED)
        await session.request("POST", "/createRoom", {}, **SUSPENDED)
        await session.request("PUT", f"/profile/{me}/displayname", {"displayname": "no"}, **SUSPENDED)
        await session.request("DELETE", f"/profile/{me}/displayname", **SUSPENDED)
        delayed = f"{alice.room(room)}/send/m.room.message/{alice.transaction()}?org.matrix.msc4140.delay=9999"
        await session.request("PUT", delayed, {"body": "no"}, **SUSPENDED)

    assert room in (await again.sync())["rooms"]["join"]
    later = await bob.send(room, "heard")
    assert later in [event["event_id"] for event in (await alice.messages(room))["chunk"]]
    await alice.redact(room, own)
    await alice.request("POST", f"{alice.room(others)}/leave", {})
    await again.request("POST", "/logout", {})
    await root.request("PUT", path, {"suspended": False})
    await alice.send(room, "back")


async def test_what_was_delayed_is_not_sent_while_suspended(new_user: NewUser) -> None:
    root, alice = await new_user("root", admin=True), await new_user("alice")
    room = await alice.create_room()
    delayed = f"{alice.room(room)}/send/m.room.message/{alice.transaction()}?org.matrix.msc4140.delay=600000"
    delay_id = (await alice.request("PUT", delayed, {"body": "late"}))["delay_id"]
    await root.request("PUT", admin_path("suspend", alice.user_id), {"suspended": True})
    act = f"/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}"
    await alice.request("POST", act, {"action": "send"}, **SUSPENDED)
    bodies = [event["content"].get("body") for event in (await alice.messages(room))["chunk"]]
    assert "late" not in bodies


async def test_a_locked_user_keeps_the_session(
    new_user: NewUser, connect: Callable[..., Client], server: TinyServer
) -> None:
    root, alice = await new_user("root", admin=True), await new_user("alice")
    leaver = await log_in(connect, server, alice)
    path = admin_path("lock", alice.user_id)
    assert await root.request("PUT", path, {"locked": True}) == {"locked": True}
    assert await root.request("GET", path) == {"locked": True}
    refused = await alice.request("GET", "/sync", **LOCKED)
    assert refused["soft_logout"] is True
    await alice.request("GET", "/account/whoami", **LOCKED)
    await alice.request("GET", "/capabilities", **LOCKED)
    await log_in(connect, server, alice, **LOCKED)
    await leaver.request("POST", "/logout", {})
    await root.request("PUT", path, {"locked": False})
    assert (await alice.request("GET", "/account/whoami"))["device_id"] == alice.device_id
    await leaver.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")


async def test_who_may_moderate_whom(new_user: NewUser) -> None:
    root, second, alice = await new_user("root", admin=True), await new_user("root", admin=True), await new_user("a")
    server_name = alice.user_id.split(":", 1)[1]
    for what, key in (("suspend", "suspended"), ("lock", "locked")):
        body = {key: True}
        unknown = admin_path(what, f"@nobody-at-all:{server_name}")
        for method, sent in (("GET", None), ("PUT", body)):
            for user in (alice.user_id, root.user_id, f"@nobody-at-all:{server_name}", "@x:elsewhere.example"):
                await alice.request(method, admin_path(what, user), sent, expect=403, errcode="M_FORBIDDEN")
            await root.request(method, unknown, sent, expect=404, errcode="M_NOT_FOUND")
            for user in ("@x:elsewhere.example", "nonsense"):
                await root.request(method, admin_path(what, user), sent, expect=400, errcode="M_INVALID_PARAM")
            await root.request(method, admin_path(what, second.user_id), sent, expect=403, errcode="M_FORBIDDEN")
        await root.request("PUT", admin_path(what, root.user_id), body, expect=403, errcode="M_FORBIDDEN")
        await root.request("PUT", admin_path(what, alice.user_id), {}, expect=400, errcode="M_BAD_JSON")
        await root.request("PUT", admin_path(what, alice.user_id), {key: "yes"}, expect=400, errcode="M_BAD_JSON")
        unstable = f"/_matrix/client/unstable/uk.timedout.msc4323/admin/{what}/{quote(alice.user_id, safe='')}"
        assert await root.request("GET", unstable) == {key: False}
    shown = (await root.request("GET", "/capabilities"))["capabilities"]
    assert shown["m.account_moderation"] == {"suspend": True, "lock": True}
    assert "m.account_moderation" not in (await alice.request("GET", "/capabilities"))["capabilities"]
