"""What application services are told: transactions, in order, exactly once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from .bridge import Bridge
from .client import Client
from .conftest import NewUser
from .crypto_device import CryptoDevice
from .harness import TinyServer

DEVICE_LISTS = "org.matrix.msc3202.device_lists"
COUNTS = "org.matrix.msc3202.device_one_time_keys_count"
UNUSED = "org.matrix.msc3202.device_unused_fallback_key_types"
TO_DEVICE = "de.sorunome.msc2409.to_device"


async def test_who_is_told_of_what(server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user("alice")
    async with Bridge("one") as one, Bridge("two") as two:
        client, other = await one.register(server), await two.register(server)
        async with client, other:
            quiet = await alice.create_room()
            await alice.send(quiet, "nobody's")
            room = await alice.create_room(name="ours")
            await alice.send(room, "before")
            ghost = await one.ghost(client, "g")
            await alice.request("POST", f"{alice.room(room)}/invite", ghost)
            invite = await one.until(lambda: one.events and one.events[0])
            assert invite["state_key"] == ghost["user_id"]
            assert invite["room_id"] == room
            shown = {(each["type"], each["state_key"]): each for each in invite["unsigned"]["invite_room_state"]}
            assert shown["m.room.name", ""]["content"] == {"name": "ours"}
            await alice.send(room, "while invited")
            await client.request("POST", f"/join/{room}", {}, params=ghost)
            await alice.send(room, "in")
            await client.request("POST", f"{client.room(room)}/leave", {}, params=ghost)
            await alice.send(room, "out")
            # The last thing that it may be told of, so that everything before has come.
            direct = await alice.create_room()
            await alice.request("POST", f"{alice.room(direct)}/invite", ghost)
            await one.until(lambda: any(event["room_id"] == direct for event in one.events))
            assert one.texts() == ["in"]
            members = [each for each in one.events if each["type"] == "m.room.member"]
            assert [each["content"]["membership"] for each in members] == ["invite", "join", "leave", "invite"]
            assert members[2]["unsigned"]["prev_content"]["membership"] == "join"
            assert two.events == []
            assert len({txn_id for txn_id, _ in one.transactions}) == len(one.transactions)


async def test_rooms_and_aliases(server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user("alice")
    watched = await alice.create_room()
    namespaces = {
        "rooms": [{"exclusive": False, "regex": watched.replace("!", r"\!")}],
        "aliases": [{"exclusive": False, "regex": "#log_.*"}],
    }
    async with Bridge("log", namespaces=namespaces) as log, await log.register(server):
        await alice.send(watched, "by its ID")
        named = await alice.create_room(room_alias_name="log_here")
        await alice.send(named, "by its alias")
        await log.until(lambda: "by its alias" in log.texts())
        assert log.texts() == ["by its ID", "by its alias"]
        redacted = await alice.send(watched, "secret")
        await alice.redact(watched, redacted)
        await alice.request("DELETE", "/directory/room/%23log_here:tiny.test")
        await alice.send(named, "unheard")
        await alice.send(watched, "end")
        await log.until(lambda: "end" in log.texts())
        assert "unheard" not in log.texts()


async def test_a_service_that_was_away(server: TinyServer, new_user: NewUser) -> None:
    """It gets everything in order, each try of a transaction saying the same, in bounded pieces."""
    alice = await new_user("alice")
    async with Bridge("away") as bridge, await bridge.register(server) as client:
        room = await alice.create_room()
        await alice.request("POST", f"{alice.room(room)}/invite", {"user_id": bridge.sender})
        await client.join(room)
        await bridge.until(lambda: any(event.get("state_key") == bridge.sender for event in bridge.events[1:]))
        bridge.status = 500
        numbers = [str(number) for number in range(250)]
        for number in numbers:
            await alice.send(room, number)
        await bridge.until(lambda: any(len(tries) > 1 for tries in bridge.bodies.values()))
        # What is under way stays as it is, whatever becomes of what it tells.
        under_way = next(body for tries in bridge.bodies.values() for body in tries[1:])
        await alice.redact(room, json.loads(under_way)["events"][0]["event_id"])
        listed = await asyncio.to_thread(server.command, "appservice", "list", "--config", str(server.config_file))
        assert "fails (500" in listed.stdout
        server.kill()
        server.start()
        bridge.status = 200
        await client.request("GET", "/account/whoami")  # a sign of life: it need not wait for the next try
        await bridge.until(lambda: len(bridge.texts()) == 250)
        assert bridge.texts() == numbers
        assert all(len(set(tries)) == 1 for tries in bridge.bodies.values())
        assert max(len(body["events"]) for _, body in bridge.transactions) == 100
        assert any(event["type"] == "m.room.redaction" for event in bridge.events)


async def test_an_old_service(server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user("alice")
    async with Bridge("old") as bridge, await bridge.register(server):
        bridge.is_old = True
        room = await alice.create_room()
        await alice.request("POST", f"{alice.room(room)}/invite", {"user_id": bridge.sender})
        await bridge.until(lambda: bridge.events)


@pytest.mark.parametrize(
    ("switch", "key"),
    [("receive_ephemeral", "ephemeral"), ("de.sorunome.msc2409.push_ephemeral", "de.sorunome.msc2409.ephemeral")],
)
async def test_what_passes_by(server: TinyServer, new_user: NewUser, switch: str, key: str) -> None:
    alice, name = await new_user("alice"), f"eph{len(switch)}"
    async with (
        Bridge(name, **{switch: True}) as bridge,
        Bridge(f"{name}deaf") as deaf,
        await bridge.register(server) as client,
        await deaf.register(server) as deaf_client,
    ):
        ghost = await bridge.ghost(client, "g")
        room = (await client.request("POST", "/createRoom", {"invite": [alice.user_id, deaf.sender]}))["room_id"]
        await client.request("POST", f"{client.room(room)}/invite", ghost)
        await client.request("POST", f"/join/{room}", {}, params=ghost)
        await alice.join(room)
        await deaf_client.join(room)
        event_id = await alice.send(room, "hello")

        def told(kind: str) -> list[dict[str, object]]:
            return [edu for part in bridge.part(key) for edu in part if edu["type"] == kind]

        typing = f"{alice.room(room)}/typing/{alice.user_id}"
        await alice.request("PUT", typing, {"typing": True, "timeout": 30000})
        await bridge.until(lambda: told("m.typing"))
        assert told("m.typing")[0] == {
            "type": "m.typing",
            "room_id": room,
            "content": {"user_ids": [alice.user_id]},
        }
        await alice.request("POST", f"{alice.room(room)}/receipt/m.read.private/{event_id}", {})
        await client.request("POST", f"{client.room(room)}/receipt/m.read.private/{event_id}", {}, params=ghost)
        await alice.request("POST", f"{alice.room(room)}/receipt/m.read/{event_id}", {"thread_id": "main"})

        def receipts() -> dict[str, set[str]]:
            found: dict[str, set[str]] = {}
            for edu in told("m.receipt"):
                assert edu["room_id"] == room
                for kind, users in edu["content"][event_id].items():  # type: ignore[index]
                    found.setdefault(kind, set()).update(users)
            return found

        await bridge.until(lambda: "m.read" in receipts())
        assert receipts() == {"m.read": {alice.user_id}, "m.read.private": {ghost["user_id"]}}
        await alice.request("PUT", f"/presence/{alice.user_id}/status", {"presence": "unavailable", "status_msg": "x"})
        await bridge.until(lambda: any(edu["content"].get("status_msg") == "x" for edu in told("m.presence")))  # type: ignore[attr-defined]
        assert all(edu["sender"] != "@stranger:tiny.test" for edu in told("m.presence"))
        await alice.send(room, "end")
        await deaf.until(lambda: "end" in deaf.texts())
        assert deaf.part("ephemeral") == []
        assert deaf.part("de.sorunome.msc2409.ephemeral") == []


async def test_encryption(server: TinyServer, new_user: NewUser) -> None:
    """MSC3202 and MSC4203: messages to the service's devices, their keys, and the devices of others."""
    alice, bob = await new_user("alice"), await new_user("bob")
    async with (
        Bridge("crypt", **{"org.matrix.msc3202": True}) as bridge,
        await bridge.register(server) as client,
    ):
        ghost = await bridge.ghost(client, "g")
        as_device = {**ghost, "device_id": "GHOST"}
        await client.request("PUT", "/devices/GHOST", {}, params=ghost, expect=201)
        device = CryptoDevice(client, "GHOST")
        device.user_id = ghost["user_id"]
        body = {
            "device_keys": device.device_keys(),
            "one_time_keys": device.one_time_keys(0, 3),
            "fallback_keys": device.fallback_key(1),
        }
        await client.request("POST", "/keys/upload", body, params=as_device)
        room = await alice.create_room()
        await alice.request("POST", f"{alice.room(room)}/invite", ghost)
        await client.request("POST", f"/join/{room}", {}, params=ghost)

        def changed() -> list[str]:
            return [user for lists in bridge.part(DEVICE_LISTS) for user in lists["changed"]]

        def left() -> list[str]:
            return [user for lists in bridge.part(DEVICE_LISTS) for user in lists["left"]]

        await bridge.until(lambda: alice.user_id in changed())
        assert bob.user_id not in changed()
        before = changed().count(alice.user_id)
        await CryptoDevice(bob).start()  # shares no room
        await CryptoDevice(alice).start(1)
        await bridge.until(lambda: changed().count(alice.user_id) > before)
        assert bob.user_id not in changed()
        await alice.invite(room, bob)
        await bob.join(room)
        await bridge.until(lambda: bob.user_id in changed())

        wanted = {ghost["user_id"]: {"GHOST": "signed_curve25519"}}
        await alice.request("POST", "/keys/claim", {"one_time_keys": wanted})
        sent = {"messages": {ghost["user_id"]: {"GHOST": {"algorithm": "x", "ciphertext": "y"}}}}
        await alice.request("PUT", "/sendToDevice/m.room.encrypted/1", sent)
        await bridge.until(lambda: bridge.part(TO_DEVICE))
        assert bridge.part(TO_DEVICE) == [
            [
                {
                    "type": "m.room.encrypted",
                    "sender": alice.user_id,
                    "content": {"algorithm": "x", "ciphertext": "y"},
                    "to_user_id": ghost["user_id"],
                    "to_device_id": "GHOST",
                }
            ]
        ]
        assert bridge.part(COUNTS)[-1] == {ghost["user_id"]: {"GHOST": {"signed_curve25519": 2}}}
        assert bridge.part(UNUSED)[-1] == {ghost["user_id"]: {"GHOST": ["signed_curve25519"]}}
        # Whose names are the service's alone gets them this way only.
        synced = await client.request("GET", "/sync", params={**as_device, "timeout": 0})
        assert synced.get("to_device", {}).get("events", []) == []
        for number in range(130):
            sent["messages"][ghost["user_id"]]["GHOST"]["ciphertext"] = str(number)
            await alice.request("PUT", f"/sendToDevice/m.room.encrypted/{number + 2}", sent)

        def ciphertexts() -> list[str]:
            return [each["content"]["ciphertext"] for part in bridge.part(TO_DEVICE) for each in part]

        await bridge.until(lambda: len(ciphertexts()) == 131)
        assert ciphertexts()[1:] == [str(number) for number in range(130)]

        await bob.leave(room)
        await bridge.until(lambda: bob.user_id in left())
        await client.request("POST", f"{client.room(room)}/leave", {}, params=ghost)
        await bridge.until(lambda: alice.user_id in left())


async def test_devices_that_also_sync(server: TinyServer, new_user: NewUser) -> None:
    """Where names are not the service's alone, a message to a device comes both ways."""
    alice = await new_user("alice")
    namespaces = {"users": [{"exclusive": False, "regex": "@both_.*"}]}
    async with (
        Bridge("both", receive_ephemeral=True, namespaces=namespaces) as bridge,
        await bridge.register(server) as client,
    ):
        ghost = await bridge.ghost(client, "g")
        await client.request("PUT", "/devices/OWN", {}, params=ghost, expect=201)
        sent = {"messages": {ghost["user_id"]: {"*": {"x": 1}}}}
        await alice.request("PUT", "/sendToDevice/org.example.x/1", sent)
        told = await bridge.until(lambda: bridge.part(TO_DEVICE))
        synced = await client.request("GET", "/sync", params={**ghost, "device_id": "OWN", "timeout": 0})
        (event,) = synced["to_device"]["events"]
        assert told == [[{**event, "to_user_id": ghost["user_id"], "to_device_id": "OWN"}]]


async def test_adding_and_removing(fresh_server: TinyServer, new_user: NewUser, tmp_path: Path) -> None:
    alice, file = await new_user("alice"), tmp_path / "registration.yaml"

    async def command(*arguments: str) -> CompletedProcess[str]:
        options = ("--config", str(fresh_server.config_file))
        return await asyncio.to_thread(fresh_server.give, "appservice", *arguments, *options)

    async with Bridge("come") as bridge, Client(fresh_server.base_url, bridge.as_token) as client:
        file.write_text(json.dumps(bridge.registration()))
        assert "its user is @comebot:tiny.test" in (await command("add", str(file))).stdout
        room = (await client.request("POST", "/createRoom", {"invite": [alice.user_id]}))["room_id"]
        await alice.join(room)
        fresh_server.restart()
        await alice.send(room, "after a restart")
        await bridge.until(lambda: "after a restart" in bridge.texts())
        listed = await command("list")
        assert f"come  {bridge.sender}, http://127.0.0.1:{bridge.port}" in listed.stdout
        assert bridge.as_token not in listed.stdout
        stored = b"".join(file.read_bytes() for file in fresh_server.data_dir.iterdir() if file.is_file())
        assert bridge.hs_token.encode() in stored
        assert bridge.as_token.encode() not in stored
        assert (await command("remove", "come")).returncode == 0
        await client.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
        await alice.send(room, "not told")
        again = await command("remove", "come")
        assert again.returncode == 1
        assert "no such application service" in again.stderr
        # Also without a server, and again with another token.
        fresh_server.stop()
        client.access_token = bridge.as_token = "another-token"
        file.write_text(json.dumps(bridge.registration()))
        assert (await command("add", str(file))).returncode == 0
        fresh_server.start()
        assert (await client.request("GET", "/account/whoami"))["user_id"] == bridge.sender
        await alice.send(room, "told")
        await bridge.until(lambda: "told" in bridge.texts())
        assert "not told" not in bridge.texts()
        # What is done while no server runs is told by the next one.
        fresh_server.stop()
        shutdown = ("room", "shutdown", room, "--yes", "--config", str(fresh_server.config_file))
        done = await asyncio.to_thread(fresh_server.give, *shutdown)
        assert done.returncode == 0, done.stderr
        fresh_server.start()
        await bridge.until(
            lambda: [
                event
                for event in bridge.events
                if event.get("state_key") == bridge.sender and event["content"]["membership"] == "leave"
            ]
        )
        file.write_text("id: x")
        refused = await command("add", str(file))
        assert refused.returncode == 1
        assert "url" in refused.stderr
