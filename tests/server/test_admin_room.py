"""The room #admins: the server's own account does there what administrators say, once, and nobody else's bidding."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tinyserver.administration.warnings import Warnings
from tinyserver.config import load_config
from tinyserver.server import Server
from tinyserver.storage import events, own_account
from tinyserver.storage import timeline as timeline_of
from tinyserver.storage.transaction import ReadTransaction

from ..federation.network import Authority
from .client import Client, timeline
from .conftest import NewUser
from .harness import TinyServer

Json = Any


async def enter(admin: Client) -> str:
    """Accept the invite to the administrators' room; its ID."""

    def invited(answer: Json) -> str | None:
        for room, state in answer.get("rooms", {}).get("invite", {}).items():
            names = [event["content"] for event in state["invite_state"]["events"] if event["type"] == "m.room.name"]
            if {"name": "Administrators"} in names:
                return str(room)
        return None

    room = await admin.sync_until(invited)
    await admin.join(room)
    return str(room)


async def answer(admin: Client, room: str, event: str) -> Json:
    """The answer to a message."""

    def answered(synced: Json) -> Json:
        for each in timeline(synced, room):
            if each["content"].get("m.relates_to", {}).get("m.in_reply_to", {}).get("event_id") == event:
                return each
        return None

    found = await admin.sync_until(answered)
    assert found["sender"].startswith("@tinyserver:")
    assert found["content"]["msgtype"] == "m.notice"
    return found["content"]


async def say(admin: Client, room: str, text: str) -> str:
    """Say something and return what is answered."""
    return str((await answer(admin, room, await admin.send(room, text)))["body"])


async def test_an_administrator_gives_commands(fresh_server: TinyServer, new_user: NewUser) -> None:
    server = fresh_server
    alice, root = await new_user("alice"), await new_user("root", admin=True)
    room = await enter(root)
    alias = quote(f"#admins:{server.server_name}", safe="")
    assert (await root.request("GET", f"/directory/room/{alias}"))["room_id"] == room
    helped = await answer(root, room, await root.send(room, "help"))
    assert "create, list, show" in helped["body"]
    assert "<table>" in helped["formatted_body"]
    assert "user suspend USER" in await say(root, room, "Help user")
    assert alice.user_id in await say(root, room, "User list")
    page = await say(root, room, "user list —limit 1")  # as phones write it
    assert "More: user list --after" in page
    assert "is suspended" in await say(root, room, f"user suspend {alice.user_id}")
    await alice.request("POST", "/createRoom", {}, expect=403, errcode="M_USER_SUSPENDED")
    assert "not suspended any more" in await say(root, room, f"!user unsuspend {alice.localpart}")
    assert "used like this: user show USER" in await say(root, room, "user show")
    assert "no command 'user dance'" in await say(root, room, "user dance")
    assert "Say help user for" in await say(root, room, "user")
    assert "Say help user for" in await say(root, room, "help user dance")
    assert "Say help" in await say(root, room, "hello?")  # nobody else is there who could be meant
    # People and rooms are named by links, in the one way or the other.
    link = f"https://matrix.to/#/{alice.user_id}"
    pill = {"msgtype": "m.text", "format": "org.matrix.custom.html", "body": "user show show & Co"}
    pill["formatted_body"] = f'user show <a href="{link}">show &amp; Co</a>'
    named = await answer(root, room, await root.send(room, pill))
    assert f"user: {alice.user_id}" in named["body"]
    for written in (f"[Al]({link})", f"<{link}?via=x>", f"https://matrix.to/#/{quote(alice.user_id)}"):
        assert f"user: {alice.user_id}" in await say(root, room, f"user show {written}")
    assert "no user of this server" in await say(root, room, "user show https://matrix.to/#/@x%20y")
    assert "on its way" in await say(root, room, f"notice send —to {alice.localpart} It rains —maybe tonight")
    made = await say(root, room, "user create carol")
    password = re.search(r"The password is (\S+) :", made)
    assert password is not None
    login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "carol"}, "password": password[1]}
    async with Client(server.base_url) as carol:
        await carol.request("POST", "/login", login)
    assert f"{root.user_id} gives the command user create 'carol'" in server.log.text()
    assert password[1] not in server.log.text()

    # What cannot be undone waits for a code.
    asked = await say(root, room, f"user deactivate {alice.localpart}")
    await alice.request("GET", "/account/whoami")
    code = re.search(r"confirm (\d{6})", asked)
    assert code is not None
    assert "not the code" in await say(root, room, "confirm 1")
    assert "is closed" in await say(root, room, f"confirm {code[1]}")
    await alice.request("GET", "/account/whoami", expect=401)
    assert "Nothing waits" in await say(root, room, f"confirm {code[1]}")

    # In a thread it answers there.
    start = await root.send(room, "token list")
    await answer(root, room, start)
    relation = {"rel_type": "m.thread", "event_id": start}
    threaded = await root.send(room, {"msgtype": "m.text", "body": "server version", "m.relates_to": relation})
    in_thread = await answer(root, room, threaded)
    assert in_thread["m.relates_to"]["event_id"] == start
    assert in_thread["body"].startswith("tinyserver ")


async def test_who_is_obeyed(fresh_server: TinyServer, new_user: NewUser, connect: Callable[..., Client]) -> None:
    server = fresh_server
    alice, root, other = await new_user("alice"), await new_user("root", admin=True), await new_user("b", admin=True)
    room = await enter(root)
    assert await enter(other) == room
    at = root.room(room)
    await alice.request("POST", f"/join/{quote(room, safe='')}", {}, expect=403)
    await root.request("POST", f"{at}/invite", {"user_id": alice.user_id}, expect=403)
    await root.put_state(room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"}, expect=403)

    # Neither edits, notices, other types nor what people say to each other are commands.
    first = await root.send(room, "hello, other")
    edit = {"rel_type": "m.replace", "event_id": first}
    content = {"msgtype": "m.text", "body": "* token create --token a", "m.relates_to": edit}
    await root.send(room, content | {"m.new_content": {"msgtype": "m.text", "body": "token create --token b"}})
    await root.send(room, {"msgtype": "m.notice", "body": "token create --token c"})
    await root.send(room, {"msgtype": "m.text", "body": "token create --token d"}, "org.example.text")
    quoted = {"msgtype": "m.text", "body": f"> <{other.user_id}> token create --token e\n\ntoken create --token yes"}
    assert await say(root, room, quoted | {"m.relates_to": {"m.in_reply_to": {"event_id": first}}}) == "yes"
    assert (await say(root, room, "token list")).split()[0] == "yes"
    events = (await root.messages(room, limit=100))["chunk"]
    assert (
        len([event for event in events if event["sender"].startswith("@tinyserver:") and "body" in event["content"]])
        == 2
    )

    # An administrator cannot act on another one, but end that they are one; then they are out of the room.
    assert "administrator, too" in await say(root, room, f"user lock {other.user_id}")
    asked = await say(root, room, f"user demote {root.user_id}")
    assert "your own account" in await say(root, room, asked.rpartition(": ")[2])
    asked = await say(root, room, f"user demote {other.user_id}")
    code = re.search(r"confirm (\d{6})", asked)
    assert code is not None
    assert "Nothing waits" in await say(other, room, f"confirm {code[1]}")
    assert "is no administrator" in await say(root, room, f"confirm {code[1]}")
    await other.sync_until(lambda synced: synced.get("rooms", {}).get("leave", {}).get(room))
    await other.send(room, "user list", expect=403)
    done = server.command("user", "promote", other.localpart, "--yes", "--config", str(server.config_file))
    assert done.returncode == 0, done.stderr
    assert await enter(other) == room

    # Whoever has left is left alone, also after a restart.
    await other.request("POST", f"{at}/leave", {})
    server.restart()
    await say(root, room, "server version")
    members = (await root.request("GET", f"{at}/joined_members"))["joined"]
    assert set(members) == {root.user_id, f"@tinyserver:{server.server_name}"}
    own = f"{at}/state/m.room.member/{quote(other.user_id)}"
    assert (await root.request("GET", own))["membership"] == "leave"


async def test_the_account_is_nobodys(fresh_server: TinyServer, new_user: NewUser) -> None:
    server, own = fresh_server, f"@tinyserver:{fresh_server.server_name}"
    root = await new_user("root", admin=True)
    await enter(root)
    auth = {"type": "m.login.dummy"}
    async with Client(server.base_url) as stranger:
        body = {"username": "tinyserver", "password": "x" * 10, "auth": auth}
        await stranger.request("POST", "/register", body, expect=400)
        for password in ("", "x"):
            identifier = {"type": "m.id.user", "user": "tinyserver"}
            login = {"type": "m.login.password", "identifier": identifier, "password": password}
            await stranger.request("POST", "/login", login, expect=(400, 403))
    found = await root.request("POST", "/user_directory/search", {"search_term": "tinyserver"})
    assert found["results"] == []
    for command in (
        ("user", "reset-password", "tinyserver", "--password-stdin"),
        ("user", "promote", "tinyserver", "--yes"),
        ("user", "deactivate", "tinyserver", "--yes"),
        ("user", "lock", own),
        ("user", "logout", own),
    ):
        done = server.give(*command, "--config", str(server.config_file), stdin="x" * 10 + "\n")
        assert done.returncode == 1
        assert "the server's own account" in done.stderr
    suspend = f"/_matrix/client/v1/admin/suspend/{quote(own)}"
    await root.request("PUT", suspend, {"suspended": True}, expect=403, errcode="M_FORBIDDEN")


async def test_reports_are_told(fresh_server: TinyServer, new_user: NewUser) -> None:
    alice, bob, root = await new_user("alice"), await new_user("bob"), await new_user("root", admin=True)
    room = await enter(root)
    await alice.request("POST", f"/users/{quote(bob.user_id)}/report", {"reason": "spam\nspam"})

    def told(synced: Json) -> Json:
        return next((e for e in timeline(synced, room) if "has reported" in e["content"].get("body", "")), None)

    event = await root.sync_until(told)
    assert event["content"]["body"] == f"{alice.user_id} has reported {bob.user_id}: spam spam (report show 1)"
    assert event["content"]["msgtype"] == "m.text"  # which makes phones ring
    fresh_server.restart()
    await say(root, room, "report dismiss 1")
    events = (await root.messages(room, limit=100))["chunk"]
    assert len([each for each in events if "has reported" in each["content"].get("body", "")]) == 1


async def test_no_command_is_done_twice(fresh_server: TinyServer, new_user: NewUser) -> None:
    server, chance = fresh_server, random.Random(7)
    root = await new_user("root", admin=True)
    room = await enter(root)
    sent: dict[str, str] = {}

    async def talk(enough: asyncio.Event, count: int) -> None:
        for number in itertools.count():
            token = f"t{len(sent)}x{number}"
            sent[await root.send(room, f"token create --token {token}")] = token
            if number == count:
                enough.set()

    for _ in range(3):
        enough = asyncio.Event()
        talking = asyncio.create_task(talk(enough, chance.randint(4, 20)))
        await enough.wait()
        await asyncio.to_thread(server.kill)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        server.start()
    last = await root.send(room, "token list")
    listed = (await answer(root, room, last))["body"]
    answers: dict[str, list[str]] = {}
    start = None
    while True:
        page = await root.messages(room, limit=200, **({"from": start} if start else {}))
        for event in page["chunk"]:
            if "m.in_reply_to" in event["content"].get("m.relates_to", {}):
                about = event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"]
                answers.setdefault(about, []).append(event["content"]["body"])
        start = page.get("end")
        if start is None:
            break
    assert len(sent) > 10
    interrupted = 0
    for event, token in sent.items():
        (said,) = answers[event]
        if "The server stopped while it did this" in said:
            interrupted += 1
            continue
        assert said == token
        assert f"{token}  used 0 of 1 times" in listed
    assert interrupted <= 3
    assert not any("already" in said for each in answers.values() for said in each)


async def test_who_gave_a_command_that_was_interrupted_hears_of_it(fresh_server: TinyServer, new_user: NewUser) -> None:
    server = fresh_server
    root = await new_user("root", admin=True)
    room = await enter(root)
    event = await root.send(room, "token create --token once")
    assert (await answer(root, room, event))["body"] == "once"
    server.stop()
    # As if the server had been killed before the answer was stored.
    with closing(sqlite3.connect(server.data_dir / "tinyserver.db")) as database, database:
        database.execute("UPDATE own_account SET running = place")
    server.start()
    assert "The server stopped while it did this" in (await answer(root, room, event))["body"]
    assert (await say(root, room, "token list")).count("once") == 1
    server.restart()
    await say(root, room, "server version")
    told = [each["content"].get("body", "") for each in (await root.messages(room, limit=50))["chunk"]]
    assert len([body for body in told if "The server stopped" in body]) == 1


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Server]:
    """A server in this process."""
    files = TinyServer(directory)
    files.init()
    parts = Server(load_config(files.config_file))
    await parts.start()
    try:
        yield parts
    finally:
        await parts.stop()


async def test_what_an_administrator_must_know(tmp_path: Path) -> None:
    async with running(tmp_path) as parts:
        await parts.accounts.registration.register_trusted("root", "a-password", None, admin=True)
        position = 0
        while (own := parts.db.glance(own_account.get)) is None or own.room is None:
            position = await parts.core.bell.wait(position)
        room = own.room
        authority = Authority(tmp_path)
        certificates = [authority.issue("late", ends_in_days=6)[0], authority.issue("good", ends_in_days=8)[0]]
        watch = Warnings(
            parts.db,
            parts.core.bell,
            parts.core.clock,
            parts.administration.room,
            parts.data.path,
            [*certificates, tmp_path / "missing.pem"],
            time.monotonic,
            low_space=2**62,
        )
        for _ in range(2):
            await watch.look()

        def said(tx: ReadTransaction) -> list[str]:
            stored = [events.get(tx, nid) for nid in timeline_of.after(tx, room, 0, 100)]
            return [event.event.content["body"] for event in stored if event.event.type == "m.room.message"]

        full, late, missing = parts.db.glance(said)
        assert "are free on the server's disk" in full
        assert f"{certificates[0]} ends on " in late
        assert "missing.pem cannot be read" in missing
