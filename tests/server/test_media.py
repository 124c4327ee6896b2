"""Files: sent, found again, kept once, never harmful."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..federation.peers.eventually import eventually
from .client import Client
from .conftest import MakeServer, NewUser
from .harness import TinyServer

UPLOAD = "/_matrix/media/v3/upload"
DOWNLOAD = "/_matrix/client/v1/media/download"
SERVER_CONFIG = {"media": {"max_upload": "1 MiB"}}


async def upload(
    client: Client, content: bytes, content_type: str | None = "text/plain", name: str | None = None, **expectation: Any
) -> Any:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await client.request(
        "POST", UPLOAD, content=content, headers=headers, params={"filename": name}, **expectation
    )
    return answer.get("content_uri", answer)


async def download(client: Client, uri: str, suffix: str = "", **headers: str) -> httpx.Response:
    return await client.raw("GET", f"{DOWNLOAD}/{uri.removeprefix('mxc://')}{suffix}", headers=headers)


def files(server: TinyServer) -> list[Path]:
    return [path for path in (server.data_dir / "media").rglob("*") if path.is_file()]


async def test_what_is_sent_is_found(new_user: NewUser, server: TinyServer, connect: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    content = os.urandom(300_000)
    uri = await upload(alice, content, "application/pdf", "War and Peace.pdf")
    answer = await download(bob, uri)
    assert answer.status_code == 200
    assert answer.content == content
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"] == 'attachment; filename="War and Peace.pdf"'
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "*"
    named = await download(bob, uri, "/Krieg%20%26%20Frieden%20ü.pdf")
    assert named.headers["content-disposition"] == "attachment; filename*=utf-8''Krieg%20%26%20Frieden%20%C3%BC.pdf"
    head = await bob.raw("HEAD", f"{DOWNLOAD}/{uri.removeprefix('mxc://')}")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "300000")
    # Nobody gets it without an account, not even at the old address.
    stranger = connect(server)
    assert (await download(stranger, uri)).status_code == 401
    path = f"/_matrix/media/v3/download/{uri.removeprefix('mxc://')}"
    await stranger.request("GET", path, expect=404, errcode="M_NOT_FOUND")
    # Without a type and a name it has neither.
    plain = await download(bob, await upload(alice, b"x", None))
    assert plain.headers["content-type"] == "application/octet-stream"
    assert plain.headers["content-disposition"] == "attachment"
    assert (await download(bob, await upload(alice, b"", "text/plain"))).content == b""


async def test_parts_and_copies_that_are_known(new_user: NewUser, server: TinyServer) -> None:
    alice = await new_user("alice")
    content = bytes(range(256)) * 2000
    uri = await upload(alice, content, "video/mp4")
    whole = await download(alice, uri)
    etag = whole.headers["etag"]
    assert whole.headers["content-disposition"] == "inline"
    for asked, start, stop in (("0-9", 0, 10), ("511990-", 511_990, 512_000), ("-5", 511_995, 512_000)):
        part = await download(alice, uri, Range=f"bytes={asked}")
        assert part.status_code == 206
        assert part.content == content[start:stop]
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/512000"
    beyond = await download(alice, uri, Range="bytes=512000-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */512000")
    for nonsense in ("bytes=5-2,7-9", "lines=1-2", "bytes=-"):
        assert (await download(alice, uri, Range=nonsense)).status_code == 200
    assert (await download(alice, uri, Range="bytes=0-9", **{"If-Range": '"other"'})).status_code == 200
    head = await alice.raw("HEAD", f"{DOWNLOAD}/{uri.removeprefix('mxc://')}", headers={"Range": "bytes=0-9"})
    assert (head.status_code, head.headers["content-length"]) == (200, "512000")
    assert (await download(alice, uri, **{"If-None-Match": f'"x", W/{etag}'})).status_code == 304


async def test_a_file_is_kept_once_and_survives(new_user: NewUser, fresh_server: TinyServer) -> None:
    alice = await new_user("alice")
    content = os.urandom(100_000)
    first, second = await upload(alice, content), await upload(alice, content)
    assert first != second
    assert len(files(fresh_server)) == 1
    fresh_server.kill()
    fresh_server.start()
    assert (await download(alice, first)).content == (await download(alice, second)).content == content


async def test_limits(new_user: NewUser, server: TinyServer, connect: Any) -> None:
    alice = await new_user("alice")
    for path in ("/_matrix/client/v1/media/config", "/_matrix/media/v3/config"):
        assert await alice.request("GET", path) == {"m.upload.size": 1024**2}
    before = len(files(server))

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 10_000

    await upload(alice, b"x" * (1024**2 + 1), expect=413, errcode="M_TOO_LARGE")
    headers = {"Authorization": f"Bearer {alice.access_token}"}
    answer = await alice.http.post(UPLOAD, content=endless(), headers=headers)
    assert answer.status_code == 413
    await upload(connect(server), b"x", expect=401, errcode="M_MISSING_TOKEN")
    assert len(files(server)) == before


async def test_quota(new_user: NewUser, make_server: MakeServer) -> None:
    server = make_server(config={"media": {"quota": "150 KiB"}})
    alice, bob = await new_user("alice", server=server), await new_user("bob", server=server)
    await upload(alice, os.urandom(100_000))
    await upload(alice, os.urandom(100_000), expect=403, errcode="M_FORBIDDEN")
    await upload(bob, os.urandom(100_000))
    assert len(files(server)) == 2


async def test_uploads_that_are_announced(new_user: NewUser, server: TinyServer) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    announced = await alice.request("POST", "/_matrix/media/v1/create")
    uri = announced["content_uri"]
    path = f"{UPLOAD}/{uri.removeprefix('mxc://')}"
    # Whoever asks before it is there waits for it, but not for ever.
    place = f"{DOWNLOAD}/{uri.removeprefix('mxc://')}"
    await bob.request("GET", place, params={"timeout_ms": 0}, expect=504, errcode="M_NOT_YET_UPLOADED")
    waiting = asyncio.create_task(bob.raw("GET", place, params={"timeout_ms": 30_000}))
    await bob.request("PUT", path, content=b"not mine", expect=403, errcode="M_FORBIDDEN")
    await alice.request("PUT", path, content=b"here it is", headers={"Content-Type": "text/plain"})
    assert (await waiting).content == b"here it is"
    await alice.request("PUT", path, content=b"again", expect=409, errcode="M_CANNOT_OVERWRITE_MEDIA")
    nothing = f"{UPLOAD}/{uri.removeprefix('mxc://')}x"
    await alice.request("PUT", nothing, content=b"x", expect=404, errcode="M_NOT_FOUND")
    done = await upload(alice, b"x")
    direct = f"{UPLOAD}/{done.removeprefix('mxc://')}"
    await alice.request("PUT", direct, content=b"x", expect=409, errcode="M_CANNOT_OVERWRITE_MEDIA")
    # Announcing without ever uploading comes to an end.
    for _ in range(100):
        last = await bob.raw("POST", "/_matrix/media/v1/create")
    assert last.status_code == 200
    await bob.request("POST", "/_matrix/media/v1/create", expect=429, errcode="M_LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    "place",
    [
        "tiny.test/../../etc/passwd",
        "tiny.test/..%2F..%2Fsigning.key",
        "tiny.test/a%00b",
        "tiny.test/é",
        "tiny.test/" + "a" * 300,
        "tiny.test/unknown",
        "%2e%2e/x",
        "127.0.0.1/../x",
        "nobody.test/abc",
        "a b/c",
    ],
)
async def test_ways_out_of_the_repository(new_user: NewUser, server: TinyServer, place: str) -> None:
    alice = await new_user("alice")
    answer = await alice.raw("GET", f"{DOWNLOAD}/{place}")
    assert answer.status_code in (400, 404, 502)
    assert answer.json()["errcode"] in ("M_NOT_FOUND", "M_UNRECOGNIZED", "M_INVALID_PARAM", "M_UNKNOWN")


@pytest.mark.parametrize(
    ("content_type", "name", "kept_type", "disposition"),
    [
        ("text/html", "a.html", "text/html", 'attachment; filename="a.html"'),
        ("image/svg+xml", "a.svg", "image/svg+xml", 'attachment; filename="a.svg"'),
        ("image/png;,text/html", "a.png", "image/png;,text/html", 'attachment; filename="a.png"'),
        ("IMAGE/PNG", "../../a.png", "IMAGE/PNG", 'inline; filename="a.png"'),
        ("text/plain; charset=utf-8", "..\\x.txt", "text/plain; charset=utf-8", 'inline; filename="x.txt"'),
        ("nonsense", 'a"; x="b', "application/octet-stream", "attachment; filename*=utf-8''a%22%3B%20x%3D%22b"),
        ("a/b" + "c" * 400, "a\r\nSet-Cookie: x", "application/octet-stream", 'attachment; filename="aSet-Cookie: x"'),
        ("text/plain", "\u202egnp.exe", "text/plain", 'inline; filename="gnp.exe"'),
        ("text/plain", "/", "text/plain", "inline"),
        # What Macs call their screenshots, and a family.
        ("image/png", "9.41\u202fAM.png", "image/png", "inline; filename*=utf-8''9.41%E2%80%AFAM.png"),
        (
            "image/png",
            "\U0001f468\u200d\U0001f467",
            "image/png",
            "inline; filename*=utf-8''%F0%9F%91%A8%E2%80%8D%F0%9F%91%A7",
        ),
    ],
)
async def test_hostile_names_and_types(
    new_user: NewUser, server: TinyServer, content_type: str, name: str, kept_type: str, disposition: str
) -> None:
    alice = await new_user("alice")
    answer = await download(alice, await upload(alice, b"<script>alert(1)</script>", content_type, name))
    assert answer.headers["content-type"] == kept_type
    assert answer.headers["content-disposition"] == disposition


async def test_an_upload_that_breaks_off_leaves_nothing(new_user: NewUser, fresh_server: TinyServer) -> None:
    alice = await new_user("alice")

    async def some_file() -> bool:
        return bool(files(fresh_server))

    async def no_file() -> bool:
        return not files(fresh_server)

    reader, writer = await asyncio.open_connection("127.0.0.1", fresh_server.port)
    head = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.access_token}\r\nContent-Length: 999999"
    writer.write(f"{head}\r\n\r\n".encode() + b"x" * 300_000)
    await writer.drain()
    await eventually(some_file)
    writer.close()
    await eventually(no_file)
    assert await reader.read() == b""


async def test_old_addresses_where_the_configuration_allows_them(
    new_user: NewUser, make_server: MakeServer, connect: Any
) -> None:
    server = make_server(config={"media": {"unauthenticated": True}})
    alice = await new_user("alice", server=server)
    uri = await upload(alice, b"for everybody")
    for prefix in ("/_matrix/media/v3", "/_matrix/media/r0", "/_matrix/media/v1"):
        path = f"{prefix}/download/{uri.removeprefix('mxc://')}"
        assert (await connect(server).raw("GET", path)).content == b"for everybody"
