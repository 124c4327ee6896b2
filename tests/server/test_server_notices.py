"""Notices of the server: a room for each user that they can leave but not refuse, and each notice once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest

from .client import Client, bodies, joined, timeline
from .conftest import NewUser
from .harness import TinyServer
from .sliding import SlidingSync

SERVER_CONFIG = {"admin_contact": "mailto:root@tiny.test", "registration": {"allow_guests": True}}
COMMANDS = "/_tinyserver/admin/v1/commands"
CANNOT: dict[str, Any] = {"expect": 403, "errcode": "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"}


async def give(admin: Client, name: str, /, expect: int = 200, **arguments: Any) -> str:
    answer = await admin.request("POST", COMMANDS, {"command": name, "arguments": arguments}, expect=expect)
    return str(answer["text"] if expect == 200 else answer["error"])


async def invited(user: Client) -> str:
    """The room that the server has invited the user to."""

    def room(answer: Any) -> str | None:
        for found, state in answer.get("rooms", {}).get("invite", {}).items():
            own = [event for event in state["invite_state"]["events"] if event.get("state_key") == user.user_id]
            if own and own[-1]["sender"].startswith("@tinyserver:"):
                return str(found)
        return None

    return str(await user.sync_until(room))


@pytest.mark.parametrize("version", ["1", "11", "12"])
async def test_a_notice(make_server: Any, new_user: NewUser, version: str) -> None:
    server = make_server(config={**SERVER_CONFIG, "rooms": {"default_version": version}})
    root, alice = await new_user("root", server=server, admin=True), await new_user("alice", server=server)
    await give(root, "notice send", to=alice.localpart, text="The server moves.")
    room = await invited(alice)
    at = alice.room(room)
    member = f"{at}/state/m.room.member/{quote(alice.user_id)}"
    await alice.request("POST", f"{at}/leave", {}, **CANNOT)
    await alice.request("PUT", member, {"membership": "leave"}, **CANNOT)
    await alice.join(room)
    answer = await alice.sync_until(lambda synced: joined(synced, room) and synced)
    tags = [event for event in joined(answer, room)["account_data"]["events"] if event["type"] == "m.tag"]
    assert tags[0]["content"] == {"tags": {"m.server_notice": {}}}
    (event,) = [event for event in timeline(answer, room) if event["type"] == "m.room.message"]
    assert event["content"] == {
        "msgtype": "m.server_notice",
        "body": "The server moves.",
        "server_notice_type": "tinyserver.announcement",
        "admin_contact": "mailto:root@tiny.test",
    }
    await alice.send(room, "hello?", expect=403)
    await alice.request("POST", f"{at}/invite", {"user_id": root.user_id}, expect=403)
    await alice.put_state(room, "m.room.name", {"name": "mine"}, expect=403)
    if version != "12":
        return

    # It can be left, and the next notice comes in the same room.
    await alice.request("POST", f"{at}/leave", {})
    await give(root, "notice send", to=alice.user_id, text="It has moved.")
    assert await invited(alice) == room
    await alice.request("POST", f"{at}/leave", {}, **CANNOT)
    await alice.join(room)
    answer = await alice.sync_until(lambda synced: joined(synced, room) and synced)
    assert bodies(timeline(answer, room))[-1] == "It has moved."

    # Whoever is closed is not kept in it, nor told anything more.
    await alice.request("POST", f"{at}/leave", {})
    await give(root, "notice send", to=alice.user_id, text="again")
    await invited(alice)
    await give(root, "user deactivate", user=alice.localpart)
    with closing(sqlite3.connect(server.data_dir / "tinyserver.db")) as database:
        kept = "SELECT count(*) FROM memberships JOIN names ON names.nid = user WHERE name = ? AND membership > 1"
        assert database.execute(kept, (alice.user_id,)).fetchone() == (0,)
    await give(root, "notice send", to=alice.user_id, text="again", expect=404)


async def test_sliding_sync_knows_the_room(new_user: NewUser) -> None:
    root, alice = await new_user("root", admin=True), await new_user("alice")
    sliding = SlidingSync(alice, "main", extensions={"account_data": {"enabled": True}})
    tags: list[Any] = []

    def note(answer: Any) -> Any:
        for room, events in answer["extensions"].get("account_data", {}).get("rooms", {}).items():
            tags.extend((room, event["content"]) for event in events if event["type"] == "m.tag")
        return answer["rooms"]

    await sliding.until(lambda answer: note(answer) is not None)
    await give(root, "notice send", to=alice.user_id, text="Hear")
    (room,) = await sliding.until(note)
    await alice.join(room)
    await sliding.until(lambda answer: "timeline" in note(answer).get(room, {}))
    await sliding.sync()
    assert (room, {"tags": {"m.server_notice": {}}}) in tags


async def test_what_cannot_be_sent(server: TinyServer, new_user: NewUser, connect: Callable[..., Client]) -> None:
    root, alice = await new_user("root", admin=True), await new_user("alice")
    assert "either" in await give(root, "notice send", text="x", expect=400)
    await give(root, "notice send", text="x", to=alice.localpart, all=True, expect=400)
    await give(root, "notice send", text="   ", to=alice.localpart, expect=400)
    await give(root, "notice send", text="x", to="nobody-at-all", expect=404)
    await give(root, "notice send", text="x", to="tinyserver", expect=404)
    await give(root, "notice cancel", number=999, expect=404)
    guest = await connect(server).request("POST", "/register", {}, params={"kind": "guest"})
    await give(root, "notice send", text="x", to=guest["user_id"], expect=404)
    while await give(root, "notice list") != "All notices have been sent.":
        pass
    # Who wants no invites hears of it as soon as they want some again.
    path = f"/user/{quote(alice.user_id)}/account_data/m.invite_permission_config"
    await alice.request("PUT", path, {"default_action": "block"})
    await give(root, "notice send", text="y", to=alice.localpart)
    while await give(root, "notice list") != "All notices have been sent.":
        pass
    assert not (await alice.sync()).get("rooms", {}).get("invite")
    await alice.request("PUT", path, {})
    await alice.join(await invited(alice))


def texts(server: TinyServer) -> list[tuple[str, int]]:
    """(user, how many notices they have) of everybody who has some."""
    with closing(sqlite3.connect(server.data_dir / "tinyserver.db")) as database:
        return database.execute(
            "SELECT u.name, count(*) FROM notice_rooms n JOIN names u ON u.nid = n.user JOIN events e "
            "ON e.room = n.room JOIN names t ON t.nid = e.type WHERE t.name = 'm.room.message' GROUP BY u.name"
        ).fetchall()


async def test_everybody_gets_it_once(fresh_server: TinyServer, new_user: NewUser) -> None:
    server = fresh_server
    root = await new_user("root", admin=True)
    users = [root, *await asyncio.gather(*(new_user("user") for _ in range(20)))]
    await give(root, "notice send", text="to all", all=True)
    for _ in range(3):
        before = sum(count for _, count in texts(server))
        while sum(count for _, count in texts(server)) < min(before + 4, len(users)):
            await root.request("GET", "/account/whoami")
        await asyncio.to_thread(server.kill)
        server.start()
    while await give(root, "notice list") != "All notices have been sent.":
        pass
    assert sorted(texts(server)) == sorted((user.user_id, 1) for user in users)
    server.stop()
    done = server.command(
        "notice", "send", "--all", "Said", "while", "it", "rests", "--config", str(server.config_file)
    )
    assert done.stdout == "Notice 2 is on its way to everybody\n"
    server.start()
    while await give(root, "notice list") != "All notices have been sent.":
        pass
    assert sorted(texts(server)) == sorted((user.user_id, 2) for user in users)
