"""The commands of administrators: by the command line, while the server runs and while it does not, and over HTTP."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from .client import Client, bodies
from .conftest import NewUser
from .harness import TinyServer, free_port

SERVER_CONFIG = {"outgoing": {"allow_private_addresses": True}}
COMMANDS = "/_tinyserver/admin/v1/commands"


def run(server: TinyServer, *arguments: str, fails: bool = False, stdin: str | None = None) -> str:
    """Run a command as a process; what it prints."""
    done = server.command(*arguments, "--config", str(server.config_file), stdin=stdin)
    assert (done.returncode != 0) == fails, (arguments, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return (done.stderr if fails else done.stdout).strip()


def tell(server: TinyServer, *arguments: str, fails: bool = False, stdin: str = "") -> str:
    """Give a command in the process of the tests; what it prints."""
    done = server.give(*arguments, "--config", str(server.config_file), stdin=stdin)
    assert (done.returncode != 0) == fails, (arguments, done.stdout, done.stderr)
    return (done.stderr if fails else done.stdout).strip()


async def log_in(connect: Callable[..., Client], server: TinyServer, user: str, password: str, **expect: Any) -> Client:
    client = connect(server)
    identifier = {"type": "m.id.user", "user": user}
    body = {"type": "m.login.password", "identifier": identifier, "password": password}
    answer = await client.request("POST", "/login", body, **expect)
    client.access_token, client.device_id = answer.get("access_token"), answer.get("device_id", "")
    client.user_id = user
    return client


async def test_accounts(server: TinyServer, new_user: NewUser, connect: Callable[..., Client]) -> None:
    alice, root = await new_user("alice"), await new_user("root", admin=True)
    name = alice.user_id[1:].partition(":")[0]
    listed = tell(server, "user", "list")
    assert alice.user_id in listed
    assert root.user_id in listed
    shown = tell(server, "user", "show", name)
    assert f"user: {alice.user_id}\nis: an ordinary account" in shown
    assert "devices: 1" in shown
    assert root.user_id in tell(server, "user", "list", "--admins")
    assert alice.user_id not in tell(server, "user", "list", "--admins")

    # A page, and the command for the next.
    page = tell(server, "user", "list", "--limit", "1").splitlines()
    assert len(page) == 3
    assert page[2].startswith("More: user list --after @")
    seen = []
    while page[-1].startswith("More: "):
        seen += [line.split()[0] for line in page[1:-1]]
        page = tell(server, *page[-1].removeprefix("More: ").split()).splitlines()
    seen += [line.split()[0] for line in page[1:]]
    assert {alice.user_id, root.user_id} <= set(seen)
    assert len(seen) == len(set(seen))
    assert json.loads(tell(server, "user", "list", "--limit", "1", "--json"))["columns"][0]["name"] == "user"

    # Password, sessions.
    tell(server, "user", "reset-password", name, "--password-stdin", stdin="a-new-password\n")
    await alice.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
    one, two = [await log_in(connect, server, alice.user_id, "a-new-password") for _ in range(2)]
    assert one.device_id in tell(server, "user", "devices", name)
    assert "of 1 device" in tell(server, "user", "logout", name, "--device", one.device_id)
    await one.request("GET", "/account/whoami", expect=401)
    await two.request("GET", "/account/whoami")
    assert "no such device" in tell(server, "user", "logout", name, "--device", one.device_id, fails=True)
    tell(server, "user", "logout", name)
    await two.request("GET", "/account/whoami", expect=401)

    # What is lifted again.
    three = await log_in(connect, server, alice.user_id, "a-new-password")
    room = await three.create_room()
    tell(server, "user", "suspend", name)
    await three.send(room, "x", expect=403, errcode="M_USER_SUSPENDED")
    tell(server, "user", "unsuspend", name)
    await three.send(room, "x")
    tell(server, "user", "lock", name)
    await three.send(room, "x", expect=401, errcode="M_USER_LOCKED")
    tell(server, "user", "unlock", name)
    await three.send(room, "x")
    await three.request("GET", f"/admin/whois/{quote(root.user_id)}", expect=403)
    assert "--yes" in tell(server, "user", "promote", name, fails=True)
    tell(server, "user", "promote", name, "--yes")
    await three.request("GET", f"/admin/whois/{quote(root.user_id)}")
    tell(server, "user", "demote", name, "--yes")
    await three.request("GET", f"/admin/whois/{quote(root.user_id)}", expect=403)

    # The end.
    await three.request("PUT", f"/profile/{quote(alice.user_id)}/displayname", {"displayname": "Alice"})
    assert "name: Alice" in tell(server, "user", "show", name)
    tell(server, "user", "deactivate", name, "--erase", "--yes")
    await three.request("GET", "/account/whoami", expect=401)
    shown = tell(server, "user", "show", name)
    assert "is: closed, erased" in shown
    assert "name:" not in shown
    assert "rooms" in shown
    assert "There is no such account" in tell(server, "user", "suspend", name, fails=True)
    assert "no user of this server" in tell(server, "user", "show", "@x:elsewhere.example", fails=True)


async def test_rooms(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    name = alice.user_id[1:].partition(":")[0]
    room = await alice.create_room(name="Kitchen", room_alias_name=name, preset="public_chat")
    alias = f"#{name}:{server.server_name}"
    await bob.join(room)
    await alice.invite(room, carol)
    listed = [line for line in tell(server, "room", "list").splitlines() if line.startswith(room)]
    assert [line.split() for line in listed] == [[room, "Kitchen", "2", "2", "no"]]
    shown = tell(server, "room", "show", alias)
    assert f"room: {room}\nname: Kitchen" in shown
    assert "encrypted: no" in shown
    assert "blocked: no" in shown
    first, more = tell(server, "room", "members", room, "--limit", "1").splitlines()[1:]
    second = tell(server, *more.removeprefix("More: ").split()).splitlines()[1:]
    assert {first, *second} == {alice.user_id, bob.user_id}
    tell(server, "room", "publish", alias)
    visibility = f"/directory/list/room/{quote(room, safe='')}"
    assert (await bob.request("GET", visibility))["visibility"] == "public"
    tell(server, "room", "unpublish", room)
    assert (await bob.request("GET", visibility))["visibility"] == "private"

    # Closed: everybody is out, invited ones too, hears why, and cannot come back.
    await alice.sync_on()
    await carol.sync_on()
    told = tell(server, "room", "shutdown", alias, "--message", "Too loud.", "--yes")
    assert told == f"{room} is closed; users of this server who had to leave: 3"
    left = await alice.sync_on()
    events = left["rooms"]["leave"][room]["timeline"]["events"]
    own = [event for event in events if event.get("state_key") == alice.user_id]
    assert own[-1]["content"] == {"membership": "leave", "reason": "Too loud."}
    assert room in (await carol.sync_on())["rooms"]["leave"]
    for person in (alice, carol):  # and why
        while not (notices := list((await person.sync()).get("rooms", {}).get("invite", {}))):
            pass  # it may have come with the news of the leaving already
        await person.join(notices[0])
        (why,) = bodies((await person.messages(notices[0]))["chunk"])
        assert why == "The administrators have closed the room Kitchen: Too loud."
    path = f"/join/{quote(room, safe='')}"
    for person in (alice, bob, carol):
        await person.request("POST", path, {}, expect=403, errcode="M_FORBIDDEN")
    await bob.request("GET", f"/directory/room/{quote(alias, safe='')}", expect=404, errcode="M_NOT_FOUND")
    elsewhere = "!nobody-knows-it:elsewhere.example"
    tell(server, "room", "block", elsewhere)
    refused = await bob.request("POST", f"/join/{quote(elsewhere, safe='')}", {}, expect=403, errcode="M_FORBIDDEN")
    assert "blocked" in refused["error"]
    await bob.request("POST", f"/knock/{quote(elsewhere, safe='')}", {}, expect=403, errcode="M_FORBIDDEN")
    blocked = tell(server, "room", "blocked")
    assert room in blocked
    assert "Too loud." in blocked
    assert elsewhere in blocked
    assert "blocked: yes" in tell(server, "room", "show", room)
    assert "no room with the alias" in tell(server, "room", "show", alias, fails=True)
    assert "not a room ID" in tell(server, "room", "shutdown", "nonsense", "--yes", fails=True)

    tell(server, "room", "unblock", room)
    await bob.request("POST", path, {})
    assert room in (await bob.request("GET", "/joined_rooms"))["joined_rooms"]
    assert "not blocked" in tell(server, "room", "unblock", room, fails=True)


async def test_a_blocked_room_with_members(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(preset="public_chat")
    tell(server, "room", "block", room)
    await alice.send(room, "still here")
    await alice.request("PUT", f"/profile/{quote(alice.user_id)}/displayname", {"displayname": "A"})
    member = f"{alice.room(room)}/state/m.room.member/{quote(alice.user_id)}"
    while (await alice.request("GET", member)).get("displayname") != "A":
        pass
    await alice.request("POST", f"{alice.room(room)}/invite", {"user_id": bob.user_id}, expect=403)
    await bob.request("POST", f"/join/{quote(room, safe='')}", {}, expect=403, errcode="M_FORBIDDEN")
    as_state = {"membership": "join"}
    await bob.request("PUT", f"{alice.room(room)}/state/m.room.member/{quote(bob.user_id)}", as_state, expect=403)


async def test_files_and_reports(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    uris = []
    for content in (b"one" * 1000, b"two" * 1000):
        uploaded = await alice.request(
            "POST", "/_matrix/media/v3/upload?filename=x.txt", content=content, headers={"Content-Type": "text/plain"}
        )
        uris.append(uploaded["content_uri"])
    usage = [line.split() for line in tell(server, "media", "usage").splitlines()]
    assert [alice.user_id, "5.9", "KiB"] in usage
    page = tell(server, "media", "list", alice.user_id, "--limit", "1").splitlines()
    assert uris[1] in page[1]
    assert "x.txt" in page[1]
    assert page[2].startswith("More: media list")
    assert uris[0] in tell(server, *page[2].removeprefix("More: ").split())
    path = "/_matrix/client/v1/media/download/" + uris[0].removeprefix("mxc://")
    assert (await bob.raw("GET", path)).content == b"one" * 1000
    tell(server, "media", "quarantine", uris[0])
    await bob.request("GET", path, expect=404, errcode="M_NOT_FOUND")
    # Nor is it when somebody else sends it again.
    again = (await bob.request("POST", "/_matrix/media/v3/upload", content=b"one" * 1000))["content_uri"]
    copy = "/_matrix/client/v1/media/download/" + again.removeprefix("mxc://")
    await alice.request("GET", copy, expect=404, errcode="M_NOT_FOUND")
    assert tell(server, "media", "list", bob.user_id).split()[-1] == "yes"
    tell(server, "media", "release", uris[0])
    assert (await bob.raw("GET", path)).status_code == (await bob.raw("GET", copy)).status_code == 200
    tell(server, "media", "delete", uris[0], "--yes")
    await bob.request("GET", path, expect=404, errcode="M_NOT_FOUND")
    assert "no such file" in tell(server, "media", "delete", uris[0], "--yes", fails=True).lower()
    assert "no mxc:// URI" in tell(server, "media", "release", "file:///etc/passwd", fails=True)
    # What is out of circulation is not asked for elsewhere, either: here the other server cannot be found.
    elsewhere = "/_matrix/client/v1/media/download/other.test/abc"
    await bob.request("GET", elsewhere, expect=502)
    tell(server, "media", "quarantine", "mxc://other.test/abc")
    await bob.request("GET", elsewhere, expect=404, errcode="M_NOT_FOUND")
    assert tell(server, "media", "purge-remote", "--days", "0") == "Deleted 0 copies"
    assert tell(server, "media", "purge-remote", "--days", "9e15") == "Deleted 0 copies"

    room = await alice.create_room()
    event = await alice.send(room, "you are a\x1b[31m fool")
    await alice.invite(room, bob)
    await bob.join(room)
    await bob.request("POST", f"{bob.room(room)}/report/{quote(event)}", {"reason": "rude\nvery"})
    row = next(line for line in tell(server, "report", "list").splitlines() if event in line)
    number = row.split()[0]
    shown = tell(server, "report", "show", number)
    assert f"by: {bob.user_id}" in shown
    assert f"sent by: {alice.user_id}" in shown
    assert "you are a" in shown
    assert "\x1b" not in shown
    assert tell(server, "report", "dismiss", number) == f"Dismissed report {number}"
    assert "There is no such report" in tell(server, "report", "show", number, fails=True)
    await bob.request("POST", f"/users/{quote(alice.user_id)}/report", {"reason": "again"})
    newer = next(line for line in tell(server, "report", "list").splitlines() if alice.user_id in line)
    assert int(newer.split()[0]) > int(number)


async def test_over_http(server: TinyServer, new_user: NewUser) -> None:
    root, second, alice = await new_user("root", admin=True), await new_user("root", admin=True), await new_user("a")

    def command(name: str, /, **arguments: Any) -> dict[str, Any]:
        return {"command": name, "arguments": arguments}

    await alice.request("POST", COMMANDS, command("user list"), expect=403, errcode="M_FORBIDDEN")
    answer = await root.request("POST", COMMANDS, command("user list", limit=500))
    assert [alice.user_id] == [row[0] for row in answer["rows"] if row[0] == alice.user_id]
    assert answer["columns"][1] == {"name": "made", "unit": "time"}
    await root.request("POST", COMMANDS, command("user suspend", user=alice.user_id))
    await root.request("POST", COMMANDS, command("user suspend", user=second.user_id), expect=403)
    await root.request("POST", COMMANDS, command("user demote", user=root.user_id), expect=403)
    made = await root.request("POST", COMMANDS, command("user create", name="by-http"))
    assert made["text"].startswith(f"Created @by-http:{server.server_name}\nThe password is ")
    for wrong in (
        command("user list", nonsense=1),
        command("user show"),
        command("user show", user=3),
        command("user show", user=""),
        command("user list", limit=0),
        command("user list", limit=True),
        command("user list", limit=-1),
        command("user list", all="yes"),
        command("token create", days=0),
        command("token create", uses=1.5),
    ):
        await root.request("POST", COMMANDS, wrong, expect=400, errcode="M_INVALID_PARAM")
    for name, argument in (
        ("user show", "user"),
        ("user list", "after"),
        ("user create", "name"),
        ("room show", "room"),
        ("room list", "after"),
        ("room blocked", "after"),
        ("media delete", "file"),
        ("media list", "user"),
        ("federation retry", "server"),
        ("token create", "token"),
        ("token remove", "token"),
        ("report show", "number"),
        ("report list", "before"),
    ):
        for junk in ("\ud800", "@\ud800:x", "!\0", "#\udfff", "mxc://\0/x", 2**70, 1e300, -1, [], None):
            body = {"command": name, "arguments": {argument: junk}}
            await root.request("POST", COMMANDS, body, expect=(200, 400, 403, 404))
    await root.request("POST", COMMANDS, command("rm -rf"), expect=404, errcode="M_NOT_FOUND")
    await root.request("POST", COMMANDS, {"arguments": {}}, expect=400, errcode="M_BAD_JSON")
    await root.request("POST", "/_tinyserver/local/commands", command("user list"), expect=404)


async def test_a_server_that_does_not_run(make_server: Any, connect: Callable[..., Client]) -> None:
    server = make_server()
    run(server, "user", "create", "alice", "--password-stdin", stdin="the-password\n")
    alice = await log_in(connect, server, f"@alice:{server.server_name}", "the-password")
    room, other = await alice.create_room(), await alice.create_room()
    stats = tell(server, "server", "stats")
    assert "people: 1" in stats
    assert "memory: " in stats
    assert tell(server, "server", "version").startswith("tinyserver ")
    dead = f"127.0.0.1:{free_port()}"
    assert "not known to fail" in tell(server, "federation", "retry", dead, fails=True)
    await alice.request("POST", f"{alice.room(room)}/invite", {"user_id": f"@x:{dead}"}, expect=(403, 404, 502, 504))
    if dead in tell(server, "federation", "status"):
        assert tell(server, "federation", "retry", dead) == f"{dead} is tried again"
    server.stop()

    created = run(server, "user", "create", "Bob", "--admin", "--password-stdin", stdin="his-password\n")
    assert created == f"Created @bob:{server.server_name} (administrator)"
    assert "@bob" in await asyncio.to_thread(tell, server, "user", "list", "--admins")
    closed = await asyncio.to_thread(tell, server, "room", "shutdown", room, "--yes")
    assert closed.endswith("had to leave: 1")
    await asyncio.to_thread(tell, server, "user", "lock", "bob")
    # As if the server had been killed while a room was being emptied.
    with sqlite3.connect(server.data_dir / "tinyserver.db") as database:
        database.execute("INSERT INTO blocked_rooms (room_id, ts, reason, emptying) VALUES (?, 1, 'x', 1)", (other,))
    database.close()
    server.start()
    while other in (await alice.request("GET", "/joined_rooms"))["joined_rooms"]:
        pass
    assert room not in (await alice.request("GET", "/joined_rooms"))["joined_rooms"]
    await log_in(connect, server, f"@bob:{server.server_name}", "his-password", expect=401, errcode="M_USER_LOCKED")
