"""Thumbnails: of the right size, upright, and none for what is dangerous."""

from __future__ import annotations

import io
import os
import signal
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from .client import Client
from .conftest import NewUser
from .harness import TinyServer
from .test_media import upload

SERVER_CONFIG = {"media": {"max_image_pixels": 2_000_000}}


def picture(width: int, height: int, kind: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    """A picture whose left half is red and whose right half is blue."""
    image = Image.new(mode, (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def film(width: int, height: int, kind: str, frames: int = 4) -> bytes:
    images = [Image.new("RGB", (width, height), (50 * number, 0, 0)) for number in range(frames)]
    file = io.BytesIO()
    images[0].save(file, kind, save_all=True, append_images=images[1:], duration=120, loop=0)
    return file.getvalue()


async def thumbnail(client: Client, uri: str, **params: Any) -> httpx.Response:
    path = f"/_matrix/client/v1/media/thumbnail/{uri.removeprefix('mxc://')}"
    return await client.raw("GET", path, params=params)


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"].startswith('inline; filename="thumbnail.')
    return Image.open(io.BytesIO(answer.content))


@pytest.mark.parametrize(
    ("width", "height", "method", "expected"),
    [
        (32, 32, "crop", (32, 32)),
        (64, 64, "crop", (96, 96)),
        (100, 100, "scale", (320, 240)),
        (320, 240, "scale", (320, 240)),
        (500, 100, "scale", (640, 480)),
        (700, 700, "scale", (1067, 800)),
        (200, 90, "crop", (400, 180)),
        (90, 401, "crop", (180, 800)),
        (9000, 4500, "crop", (1200, 900)),
        (5000, 5000, "scale", (1200, 900)),
    ],
)
async def test_sizes(
    new_user: NewUser, server: TinyServer, width: int, height: int, method: str, expected: tuple[int, int]
) -> None:
    alice = await new_user("alice")
    uri = await upload(alice, picture(1200, 900), "image/jpeg")
    answer = await thumbnail(alice, uri, width=width, height=height, method=method)
    assert opened(answer).size == expected
    assert opened(answer).format == "JPEG"
    again = await thumbnail(alice, uri, width=width, height=height, method=method)
    assert again.content == answer.content


async def test_small_pictures_are_not_blown_up(new_user: NewUser, server: TinyServer) -> None:
    alice = await new_user("alice")
    content = picture(20, 10, "PNG")
    answer = await thumbnail(alice, await upload(alice, content, "image/png"), width=800, height=600)
    assert answer.content == content
    cropped = await thumbnail(alice, await upload(alice, content, "image/png"), width=15, height=15, method="crop")
    assert opened(cropped).size == (20, 10)


async def test_pictures_stand_upright(new_user: NewUser, server: TinyServer) -> None:
    alice = await new_user("alice")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: the left half is then the upper one
    uri = await upload(alice, picture(1200, 800, exif=exif), "image/jpeg")
    shown = opened(await thumbnail(alice, uri, width=320, height=240)).convert("RGB")
    assert shown.size == (320, 480)
    upper, lower = shown.getpixel((160, 20)), shown.getpixel((160, 460))
    assert isinstance(upper, tuple)
    assert isinstance(lower, tuple)
    assert upper[0] > 200 > 50 > upper[2]
    assert lower[2] > 200 > 50 > lower[0]
    assert not shown.getexif()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
async def test_moving_pictures(new_user: NewUser, server: TinyServer, kind: str) -> None:
    alice = await new_user("alice")
    uri = await upload(alice, film(640, 480, kind), f"image/{kind.lower()}")
    still = opened(await thumbnail(alice, uri, width=320, height=240))
    assert getattr(still, "n_frames", 1) == 1
    moving = opened(await thumbnail(alice, uri, width=320, height=240, animated="true"))
    assert (moving.size, getattr(moving, "n_frames", 1), moving.format) == ((320, 240), 4, "WEBP")
    small = await upload(alice, film(20, 20, kind), f"image/{kind.lower()}")
    assert getattr(opened(await thumbnail(alice, small, width=32, height=32)), "n_frames", 1) == 1


async def test_transparency_stays(new_user: NewUser, server: TinyServer) -> None:
    alice = await new_user("alice")
    image = Image.new("RGBA", (500, 500), (0, 255, 0, 60))
    file = io.BytesIO()
    image.save(file, "PNG")
    shown = opened(await thumbnail(alice, await upload(alice, file.getvalue()), width=96, height=96, method="crop"))
    assert (shown.format, shown.size) == ("PNG", (96, 96))
    pixel = shown.convert("RGBA").getpixel((50, 50))
    assert isinstance(pixel, tuple)
    assert pixel[3] == 60


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "status", "errcode"),
    [
        (b"no picture at all", 400, "M_UNKNOWN"),
        (b"", 400, "M_UNKNOWN"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>', 400, "M_UNKNOWN"),
        (picture(800, 600)[:3000], 400, "M_UNKNOWN"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 5000, 400, "M_UNKNOWN"),
        (b"GIF89a" + b"\xff" * 5000, 400, "M_UNKNOWN"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n", 400, "M_UNKNOWN"),
        (picture(300, 300, "TIFF"), 400, "M_UNKNOWN"),
        (png(60_000, 60_000, zlib.compress(b"\0" * 1_000_000)), 413, "M_TOO_LARGE"),
        (picture(1500, 1500, "PNG"), 413, "M_TOO_LARGE"),
        (png(1000, 1000, b"garbage"), 400, "M_UNKNOWN"),
    ],
    ids=range(11),
)
async def test_what_gets_none(new_user: NewUser, server: TinyServer, content: bytes, status: int, errcode: str) -> None:
    alice = await new_user("alice")
    uri = await upload(alice, content, "image/png")
    for _ in range(2):
        answer = await thumbnail(alice, uri, width=96, height=96, method="crop")
        assert (answer.status_code, answer.json()["errcode"]) == (status, errcode)
    # The workshop works on.
    good = await upload(alice, picture(640, 480))
    opened(await thumbnail(alice, good, width=96, height=96, method="crop"))


@pytest.mark.parametrize("params", [{}, {"width": 0, "height": 5}, {"width": -1, "height": 1}, {"width": "x"}])
async def test_sizes_that_are_none(new_user: NewUser, server: TinyServer, params: dict[str, Any]) -> None:
    alice = await new_user("alice")
    answer = await thumbnail(alice, await upload(alice, picture(640, 480)), **params)
    assert answer.status_code == 400
    assert answer.json()["errcode"] in ("M_INVALID_PARAM", "M_MISSING_PARAM")


def workshop_of(server: TinyServer) -> int:
    """The process that works on pictures."""
    pids = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    (found,) = [pid for pid in pids if b"picture_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(found)


async def test_the_workshop_is_killed_while_it_has_nothing_to_do(new_user: NewUser, server: TinyServer) -> None:
    """As by a system that is short of memory. The next picture is not to blame."""
    alice = await new_user("alice")
    uris = [await upload(alice, picture(640 + number, 480)) for number in range(2)]
    opened(await thumbnail(alice, uris[0], width=96, height=96, method="crop"))
    os.kill(workshop_of(server), signal.SIGKILL)
    opened(await thumbnail(alice, uris[1], width=96, height=96, method="crop"))


async def test_pictures_that_are_also_something_else(new_user: NewUser, server: TinyServer) -> None:
    """What hides behind a picture does not come out at the other end."""
    alice = await new_user("alice")
    uri = await upload(alice, picture(640, 480) + b"<script>alert(1)</script>PK\x03\x04", "image/jpeg")
    answer = await thumbnail(alice, uri, width=96, height=96, method="crop")
    assert b"script" not in answer.content
    assert opened(answer).size == (96, 96)
