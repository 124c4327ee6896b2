"""What administrators close stays closed, whatever other servers do."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from ..server.client import Client
from .partitions.cluster import cluster

COMMANDS = "/_tinyserver/admin/v1/commands"


async def test_a_room_of_another_server_is_shut_down(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as servers:
        urls = [server.base_url for server in servers.servers]
        async with Client(urls[0]) as alice, Client(urls[1]) as bob, Client(urls[1]) as root:
            await alice.register("alice", admin=True)
            await bob.register("bob")
            await root.register("root", admin=True)
            room = await alice.create_room(preset="public_chat")
            path = f"/join/{quote(room, safe='')}"
            await bob.request("POST", path, {}, params={"server_name": "s0.test"})
            command = {"command": "room shutdown", "arguments": {"room": room, "message": "Out of here"}}
            told = await root.request("POST", COMMANDS, command)
            assert told["text"].endswith("had to leave: 1")
            own = f"{alice.room(room)}/state/m.room.member/{quote(bob.user_id)}"
            while (member := await alice.request("GET", own))["membership"] != "leave":
                pass
            assert member["reason"] == "Out of here"

            # Neither by themselves nor invited do they come back.
            for way in (path, f"/knock/{quote(room, safe='')}"):
                refused = await bob.request("POST", way, {}, params={"server_name": "s0.test"}, expect=403)
                assert "blocked" in refused["error"]
            invite = {"user_id": bob.user_id}
            refused = await alice.request("POST", f"{alice.room(room)}/invite", invite, expect=403)
            assert "blocked" in refused["error"]
            assert room not in (await bob.sync()).get("rooms", {}).get("invite", {})
            await root.request("POST", COMMANDS, {"command": "room unblock", "arguments": {"room": room}})
            await alice.request("POST", f"{alice.room(room)}/invite", invite)
            await bob.request("POST", path, {})

            # The room of another server's administrators is for nobody else.
            alias = quote("#admins:s0.test", safe="")
            await root.request("POST", f"/join/{alias}", {}, expect=(403, 404))
        await servers.stop()
