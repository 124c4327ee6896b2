"""Application services: their files, the namespaces that are theirs, and what they do for their users."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from .client import Client, joined
from .conftest import MakeServer, NewUser
from .harness import TinyServer

TOKEN, OTHER_TOKEN = "as-token-of-the-bridge", "as-token-of-the-other"
SERVICE = "m.login.application_service"
OLD_DEVICE = "org.matrix.msc3202.device_id"
_numbers = itertools.count(1)

Connect = Callable[..., Client]


def registration(name: str, token: str, more: str = "") -> str:
    return f"""
id: {name}
url: http://127.0.0.1:9/
as_token: {token}
hs_token: hs-{name}
sender_localpart: {name}bot
namespaces:
  users:
    - {{exclusive: true, regex: '@{name}_.*:tiny\\.test'}}
    - {{exclusive: false, regex: '@shared_.*'}}
  aliases:
    - {{exclusive: true, regex: '#{name}_.*'}}
  rooms: []
{more}
"""


def write(directory: Path, *texts: str) -> dict[str, Any]:
    """A configuration with registration files of these texts."""
    files = []
    for index, text in enumerate(texts):
        (directory / f"{index}.yaml").write_text(text)
        files.append(str(directory / f"{index}.yaml"))
    return {"appservices": {"files": files}}


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyServer]:
    directory = tmp_path_factory.mktemp("server")
    config = write(directory, registration("irc", TOKEN), registration("xmpp", OTHER_TOKEN))
    server = TinyServer(directory, config=config)
    server.start()
    try:
        yield server
        server.stop()
    finally:
        server.kill()
    server.log.check()


@pytest.fixture
def service(server: TinyServer, connect: Connect) -> Client:
    return connect(server, TOKEN)


async def ghost(service: Client, name: str = "irc") -> str:
    """A new user of the service, without a device."""
    body = {"type": SERVICE, "username": f"{name}_{next(_numbers)}", "inhibit_login": True}
    answer = await service.request("POST", "/register", body)
    assert "access_token" not in answer
    return str(answer["user_id"])


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["{"], "not valid YAML"),
        (["[]"], "mapping"),
        ([registration("irc", TOKEN).replace("hs_token:", "x:")], "hs_token"),
        ([registration("irc", "12345")], "needs quotes"),
        ([registration("irc", TOKEN).replace("@irc_.*", "(?=@)")], r"users\[0\].regex"),
        ([registration("irc", TOKEN).replace("http://127.0.0.1:9/", "ftp://x")], "'url'"),
        ([registration("irc", TOKEN), registration("irc", OTHER_TOKEN)], "the id irc"),
        ([registration("irc", TOKEN), registration("xmpp", TOKEN)], "the same as_token"),
        ([], "cannot be read"),
    ],
)
def test_files_that_cannot_be_used(make_server: MakeServer, tmp_path: Path, texts: list[str], said: str) -> None:
    config = write(tmp_path, *texts) if texts else {"appservices": {"files": [str(tmp_path / "none.yaml")]}}
    server = make_server(start=False, config=config)
    server.init()
    mark = server.launch()
    assert server.wait_exit() == 1
    told = server.log.text(mark)
    assert "appservices.files" in told
    server.log.wait_for(said, process=server._process, since=mark)  # type: ignore[arg-type]
    assert TOKEN not in told


def test_the_first_account_is_still_to_be_made(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(config=write(tmp_path, registration("irc", TOKEN)))
    assert "no account yet" in server.log.text()


async def test_acting_for_users(service: Client) -> None:
    assert await service.request("GET", "/account/whoami") == {"user_id": "@ircbot:tiny.test", "is_guest": False}
    user = await ghost(service)
    me = await service.request("GET", "/account/whoami", params={"user_id": user})
    assert me == {"user_id": user, "is_guest": False}
    in_query = {"user_id": user, "access_token": TOKEN}
    service.access_token = None
    assert (await service.request("GET", "/account/whoami", params=in_query))["user_id"] == user


@pytest.mark.parametrize(
    "user_id", ["@somebody:tiny.test", "@irc_nobody:tiny.test", "@xmppbot:tiny.test", "@irc_1:other.test", "irc_1", "@"]
)
async def test_acting_for_others_is_forbidden(service: Client, user_id: str) -> None:
    params = {"user_id": user_id}
    await service.request("GET", "/account/whoami", params=params, expect=403, errcode="M_FORBIDDEN")


async def test_acting_for_devices(service: Client) -> None:
    user = {"user_id": await ghost(service)}
    unknown = {**user, "device_id": "GHOST"}
    await service.request("GET", "/account/whoami", params=unknown, expect=400, errcode="M_UNKNOWN_DEVICE")
    for name, status in (("a", 201), ("bridge", 200)):
        await service.request("PUT", "/devices/GHOST", {"display_name": name}, params=user, expect=status)
    for name in ("device_id", OLD_DEVICE):
        me = await service.request("GET", "/account/whoami", params={**user, name: "GHOST"})
        assert me["device_id"] == "GHOST"
    listed = await service.request("GET", "/devices", params=user)
    assert [(each["device_id"], each["display_name"]) for each in listed["devices"]] == [("GHOST", "bridge")]
    await service.request("DELETE", "/devices/GHOST", {}, params=user)
    await service.request("GET", "/devices/GHOST", params=user, expect=404, errcode="M_NOT_FOUND")


async def test_without_a_device_nothing_fails(service: Client) -> None:
    user = {"user_id": await ghost(service)}
    await service.request("GET", "/sync", params={**user, "timeout": 0})
    await service.request("PUT", "/sendToDevice/m.x/1", {"messages": {}}, params=user)
    await service.request("POST", "/keys/upload", {}, params=user, expect=(200, 400, 403))
    signatures = {user["user_id"]: {}}
    await service.request("POST", "/keys/signatures/upload", signatures, params=user, expect=(200, 400, 403))
    await service.request("POST", "/logout", params=user)
    await service.request("GET", "/account/whoami", params=user)


async def test_names_are_reserved(service: Client, server: TinyServer, connect: Connect, new_user: NewUser) -> None:
    anybody, other = connect(server), connect(server, OTHER_TOKEN)
    body = {"username": "irc_mine", "password": "wonderland-1865"}
    await anybody.request("POST", "/register", body, expect=400, errcode="M_EXCLUSIVE")
    bot = {**body, "username": "ircbot"}
    await anybody.request("POST", "/register", bot, expect=400, errcode="M_EXCLUSIVE")
    available = {"username": "irc_mine"}
    await anybody.request("GET", "/register/available", params=available, expect=400, errcode="M_EXCLUSIVE")
    for name in ("irc_mine", "ircbot", "else"):
        body = {"type": SERVICE, "username": name}
        await other.request("POST", "/register", body, expect=400, errcode="M_EXCLUSIVE")
    # A namespace that is not exclusive is anybody's.
    await anybody.register_open("shared_person")
    taken = {"type": SERVICE, "username": "shared_person"}
    await service.request("POST", "/register", taken, expect=400, errcode="M_USER_IN_USE")


async def test_aliases_are_reserved(service: Client, server: TinyServer, connect: Connect, new_user: NewUser) -> None:
    alice, other, alias = await new_user("alice"), connect(server, OTHER_TOKEN), "#irc_room:tiny.test"
    path, room = f"/directory/room/{quote(alias)}", await alice.create_room()
    await alice.request("PUT", path, {"room_id": room}, expect=400, errcode="M_EXCLUSIVE")
    wanted = {"room_alias_name": "irc_room"}
    for client in (alice, other):
        await client.request("POST", "/createRoom", wanted, expect=400, errcode="M_EXCLUSIVE")
    made = await service.request("POST", "/createRoom", wanted)
    assert (await alice.request("GET", path))["room_id"] == made["room_id"]
    await alice.request("DELETE", path, expect=400, errcode="M_EXCLUSIVE")
    await service.request("DELETE", path)


async def test_register_and_log_in(service: Client, server: TinyServer, connect: Connect) -> None:
    assert {"type": SERVICE} in (await connect(server).request("GET", "/login"))["flows"]
    made = await service.request("POST", "/register", {"type": SERVICE, "username": "irc_session", "device_id": "ONE"})
    assert made["device_id"] == "ONE"
    session = connect(server, made["access_token"])
    assert (await session.request("GET", "/account/whoami"))["user_id"] == "@irc_session:tiny.test"
    for user in ("irc_session", made["user_id"]):
        body = {"type": SERVICE, "identifier": {"type": "m.id.user", "user": user}}
        again = await service.request("POST", "/login", body)
        assert again["user_id"] == made["user_id"]
        assert again["access_token"] != made["access_token"]
    outside = {"type": SERVICE, "identifier": {"type": "m.id.user", "user": "xmppbot"}}
    await service.request("POST", "/login", outside, expect=400, errcode="M_EXCLUSIVE")
    nobody = {"type": SERVICE, "identifier": {"type": "m.id.user", "user": "irc_absent"}}
    await service.request("POST", "/login", nobody, expect=403, errcode="M_FORBIDDEN")
    for token, errcode in (("wrong", "M_UNKNOWN_TOKEN"), (None, "M_MISSING_TOKEN"), (made["access_token"], None)):
        client = connect(server, token)
        for path in ("/login", "/register"):
            asked = {**body, "username": "irc_more"}
            await client.request("POST", path, asked, expect=401, errcode=errcode or "M_UNKNOWN_TOKEN")


@pytest.mark.parametrize(
    ("username", "errcode"), [(None, "M_MISSING_PARAM"), ("", "M_INVALID_USERNAME"), ("irc_:x", "M_INVALID_USERNAME")]
)
async def test_bad_names(service: Client, username: str | None, errcode: str) -> None:
    body = {"type": SERVICE, "username": username}
    await service.request("POST", "/register", body, expect=400, errcode=errcode)


async def test_events_with_a_time(service: Client, new_user: NewUser) -> None:
    room = (await service.request("POST", "/createRoom", {}))["room_id"]
    sent = {"msgtype": "m.text", "body": "old"}
    path = f"{service.room(room)}/send/m.room.message"
    ids = [(await service.request("PUT", f"{path}/once", sent, params={"ts": "1234567"}))["event_id"] for _ in "ab"]
    assert ids[0] == ids[1]
    topic = f"{service.room(room)}/state/m.room.topic/"
    ids[1] = (await service.request("PUT", topic, {"topic": "x"}, params={"ts": "1234567"}))["event_id"]
    for event_id in ids:
        event = await service.request("GET", f"{service.room(room)}/event/{quote(event_id)}")
        assert event["origin_server_ts"] == 1234567
    for bad in ("-1", "x", "1.5", "9" * 30):
        params = {"ts": bad}
        await service.request("PUT", f"{path}/bad", sent, params=params, expect=400, errcode="M_INVALID_PARAM")
    await service.sync_on()
    later = {"ts": "7654321", "org.matrix.msc4140.delay": "1"}
    await service.request("PUT", f"{path}/later", sent, params=later)
    body = {"delay_ms": 1, "content": sent}
    path = f"/_matrix/client/v3{service.room(room)}/delayed_event/m.room.message"
    await service.request("PUT", f"{path}/later-still", body, params={"ts": "7654321"})

    def times(answer: Any) -> list[int]:
        return [each["origin_server_ts"] for each in joined(answer, room).get("timeline", {}).get("events", [])]

    found: list[int] = []
    while len(found) < 2:
        found += await service.sync_until(times)
    assert found == [7654321] * 2
    alice = await new_user("alice")
    own = await alice.create_room()
    answer = await alice.request("PUT", f"{alice.room(own)}/send/m.room.message/1", sent, params={"ts": "1234567"})
    event = await alice.request("GET", f"{alice.room(own)}/event/{quote(answer['event_id'])}")
    assert event["origin_server_ts"] > 1234567


async def test_rate_limits(make_server: MakeServer, tmp_path: Path, connect: Connect) -> None:
    few = {"per_second": 0.001, "burst": 2}
    config = write(tmp_path, registration("irc", TOKEN), registration("xmpp", OTHER_TOKEN, "rate_limited: false"))
    server = make_server(config={**config, "rate_limits": {"enabled": True, "message": few, "registration": few}})
    limited, free = connect(server, TOKEN), connect(server, OTHER_TOKEN)
    users = [await ghost(limited) for _ in range(4)]
    others = [await ghost(free, "xmpp") for _ in range(4)]
    for client, user, allowed in (
        (limited, users[0], 2),
        (limited, "@ircbot:tiny.test", 4),
        (free, others[0], 4),
    ):
        params = {"user_id": user}
        room = (await client.request("POST", "/createRoom", {}, params=params))["room_id"]
        for number in range(4):
            path = f"{client.room(room)}/send/m.room.message/{number}"
            await client.request("PUT", path, {"body": "x"}, params=params, expect=200 if number < allowed else 429)
    anybody, body = connect(server), {"username": "somebody", "password": "wonderland-1865"}
    for status in (401, 401, 429):
        await anybody.request("POST", "/register", body, expect=status)


async def test_the_servers_own_account_is_no_services(
    make_server: MakeServer, tmp_path: Path, connect: Connect, new_user: NewUser
) -> None:
    server = make_server(config=write(tmp_path, registration("irc", TOKEN).replace("@shared_.*", "@.*")))
    root, service = await new_user("root", server=server, admin=True), connect(server, TOKEN)
    own = f"@tinyserver:{server.server_name}"
    await root.sync_until(lambda answer: answer.get("rooms", {}).get("invite"))  # by that account
    await service.request("GET", f"/account/whoami?user_id={quote(own)}", expect=403, errcode="M_FORBIDDEN")
    await service.request("GET", f"/account/whoami?user_id={quote(root.user_id)}")
    login = {"type": SERVICE, "identifier": {"type": "m.id.user", "user": own}}
    await service.request("POST", "/login", login, expect=400, errcode="M_EXCLUSIVE")
    fresh = make_server(config=write(tmp_path, registration("irc", TOKEN).replace("@shared_.*", "@.*")))
    body = {"type": SERVICE, "username": "tinyserver", "inhibit_login": True}
    await connect(fresh, TOKEN).request("POST", "/register", body, expect=400, errcode="M_EXCLUSIVE")
