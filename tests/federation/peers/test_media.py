"""Files between the two servers."""

from __future__ import annotations

import io
import os
import sqlite3
from pathlib import Path
from typing import Any

from PIL import Image

from ...server.client import Client
from ...server.harness import TinyServer
from ..network import Authority
from .conftest import NewUser, Pair, tiny_server
from .eventually import eventually
from .synapse import Synapse

UPLOAD = "/_matrix/media/v3/upload"
MEDIA = "/_matrix/client/v1/media"


async def upload(client: Client, content: bytes, content_type: str, name: str) -> str:
    headers = {"Content-Type": content_type}
    answer = await client.request("POST", UPLOAD, content=content, headers=headers, params={"filename": name})
    return str(answer["content_uri"]).removeprefix("mxc://")


async def get(client: Client, kind: str, place: str, **params: Any) -> Any:
    answer = await client.raw("GET", f"{MEDIA}/{kind}/{place}", params=params)
    assert answer.status_code == 200, answer.text
    return answer


def photo() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((1600, 1200), 80).convert("RGB").save(file, "JPEG")
    return file.getvalue()


async def test_files_cross(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    for content, kind, name in (
        (os.urandom(3_000_000), "application/zip", "archive.zip"),
        (b"--\r\n--x\r\n\r\n" * 9, "text/plain", "Übung.txt"),
    ):
        place = await upload(alice, content, kind, name)
        answer = await get(bob, "download", place)
        assert answer.content == content
        assert answer.headers["content-type"].startswith(kind)
        if name.isascii():
            assert name in answer.headers["content-disposition"]
        else:
            assert "%C3%9Cbung.txt" in answer.headers["content-disposition"]


async def test_thumbnails_cross(pair: Pair, new_user: NewUser) -> None:
    alice, bob = await new_user(pair.host, "alice"), await new_user(pair.guest, "bob")
    place = await upload(alice, photo(), "image/jpeg", "photo.jpg")
    answer = await get(bob, "thumbnail", place, width=320, height=240, method="scale")
    assert Image.open(io.BytesIO(answer.content)).size == (320, 240)


async def test_what_is_not_there(pair: Pair, new_user: NewUser) -> None:
    bob = await new_user(pair.guest, "bob")
    answer = await bob.raw("GET", f"{MEDIA}/download/{pair.host.server_name}/nothing")
    assert (answer.status_code, answer.json()["errcode"]) == (404, "M_NOT_FOUND")


async def test_copies_go_and_come_back(
    synapse: Synapse, authority: Authority, new_user: NewUser, tmp_path: Path
) -> None:
    """A small cache holds only what was asked for last; what has gone is fetched again; uploads stay."""
    server: TinyServer = tiny_server(tmp_path, authority)
    server.write_config({"media": {"remote_cache": "1 MiB"}})

    async def room_is_made() -> bool:
        return stored(server) <= 900_000 + 1024**2

    try:
        server.start()
        alice, bob = await new_user(synapse, "alice"), await new_user(server, "bob")
        own = await upload(bob, os.urandom(900_000), "video/mp4", "own.mp4")
        contents = [os.urandom(400_000) for _ in range(4)]
        places = [await upload(alice, content, "video/mp4", "a.mp4") for content in contents]
        for place, content in zip(places, contents, strict=True):
            assert (await get(bob, "download", place)).content == content
        # What was fetched in the last minute is left alone, so that whoever waits for it gets it.
        assert stored(server) == 900_000 + 4 * 400_000
        server.kill()
        age_copies(server)
        server.start()
        late = await upload(alice, os.urandom(100_000), "video/mp4", "late.mp4")
        await get(bob, "download", late)
        await eventually(room_is_made)
        for place, content in zip(places, contents, strict=True):
            assert (await get(bob, "download", place)).content == content
        await get(bob, "download", own)
        server.stop()
    finally:
        server.kill()
    server.log.check()


def stored(server: TinyServer) -> int:
    """Bytes in files."""
    return sum(path.stat().st_size for path in (server.data_dir / "media").rglob("*") if path.is_file())


def age_copies(server: TinyServer) -> None:
    """As if the copies had been asked for an hour ago."""
    with sqlite3.connect(server.data_dir / "tinyserver.db") as connection:
        connection.execute("UPDATE media SET used = used - 3600000")
    connection.close()
