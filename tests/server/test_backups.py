"""`tinyserver backup` and `restore`: a server that was lost goes on from its backup, and its devices with it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .client import Client, bodies
from .conftest import NewUser
from .harness import TinyServer


def run(server: TinyServer, *arguments: str, fails: bool = False) -> str:
    done = server.command(*arguments)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if fails else done.stdout


async def test_a_lost_server_comes_back(
    fresh_server: TinyServer, new_user: NewUser, connect: Callable[..., Client], tmp_path: Path
) -> None:
    server = fresh_server
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob, preset="public_chat")
    await alice.send(room, "before")
    key = {"key": "A" * 43, "signatures": {alice.user_id: {f"ed25519:{alice.device_id}": "A" * 86}}}
    upload = {"one_time_keys": {f"signed_curve25519:AAAA{number}": key for number in range(5)}}
    counts = (await alice.request("POST", "/keys/upload", upload))["one_time_key_counts"]
    assert counts["signed_curve25519"] == 5
    content = b"a picture" * 1000
    uri = (await alice.request("POST", "/_matrix/media/v3/upload", content=content))["content_uri"]
    await bob.sync_on()
    sent: list[str] = []

    async def talk() -> None:
        while True:
            sent.append(await alice.send(room, "meanwhile"))

    talking = asyncio.create_task(talk())
    config = ("--config", str(server.config_file))
    backup = tmp_path / "usb" / "backup"
    try:
        told = await asyncio.to_thread(run, server, "backup", str(backup), *config)
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
    assert str(backup) in told
    assert sent
    assert {file.stat().st_mode & 0o077 for file in backup.rglob("*")} == {0}
    assert [file.name for file in backup.parent.iterdir()] == ["backup"]
    assert "exists already" in run(server, "backup", str(backup), *config, fails=True)

    # What happens afterwards is lost, but devices have been told of it.
    lost = await alice.send(room, "lost")
    await bob.sync_event(room, lost)
    server.kill()
    assert "exists already" in run(server, "restore", str(backup), "--data", str(server.data_dir), fails=True)
    shutil.rmtree(server.data_dir)
    run(server, "restore", str(backup), "--data", str(server.data_dir))
    server.start()

    new = await alice.send(room, "new")
    event = await bob.sync_event(room, new)
    assert event["content"]["body"] == "new"
    seen = bodies((await bob.messages(room, limit=1000))["chunk"])
    assert seen[-1] == "before"
    assert seen[0] == "new"
    assert "lost" not in seen
    found = await bob.raw("GET", "/_matrix/client/v1/media/download/" + uri.removeprefix("mxc://"))
    assert found.content == content
    counted = (await alice.sync())["device_one_time_keys_count"]
    assert counted.get("signed_curve25519", 0) == 0
    claim = {"one_time_keys": {alice.user_id: {alice.device_id: "signed_curve25519"}}}
    assert (await bob.request("POST", "/keys/claim", claim))["one_time_keys"] == {}

    # And again, from a server that does not run, under the same name.
    server.stop()
    again = tmp_path / "again"
    run(server, "backup", str(again), *config)
    shutil.rmtree(server.data_dir)
    run(server, "restore", str(again), "--data", str(server.data_dir))
    server.start()
    last = await alice.send(room, "last")
    await bob.sync_event(room, last)
    profile = f"/profile/{quote(alice.user_id)}"
    assert isinstance(await bob.request("GET", profile), dict)


def test_what_is_no_backup(make_server: Any, tmp_path: Path) -> None:
    server = make_server(start=False)
    server.init()
    config = ("--config", str(server.config_file))
    assert "no database" in run(server, "backup", str(tmp_path / "x"), *config, fails=True)
    assert not (tmp_path / "x").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no backup" in run(server, "restore", str(empty), "--data", str(tmp_path / "data"), fails=True)
    server.start()
    run(server, "backup", str(tmp_path / "whole"), *config)
    database = tmp_path / "whole" / "tinyserver.db"
    with database.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 20_000)
    assert "damaged" in run(server, "restore", str(tmp_path / "whole"), "--data", str(tmp_path / "data"), fails=True)
    assert not (tmp_path / "data" / "tinyserver.db").exists()
    assert "is running" in run(server, "restore", str(tmp_path / "whole"), "--data", str(server.data_dir), fails=True)
