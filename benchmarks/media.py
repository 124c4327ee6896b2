"""What files cost the server: a file of 1 GB up and down, and thumbnails of large photos while people chat.

python -m benchmarks.media [--gigabytes 1] [--photos 200]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from PIL import Image

from .compare.server import Server
from .compare.tinyserver import TinyServer
from .compare.user import User, json_filter

_UPLOAD = "/_matrix/media/v3/upload"
_BLOCK = bytes(range(256)) * 1024
_MESSAGES_PER_SECOND = 10


class MediaServer(TinyServer):
    """A tinyserver that takes files of any size."""

    async def configure(self) -> None:
        await super().configure()
        config = self.directory / "tinyserver.toml"
        config.write_text(config.read_text() + '\n[media]\nmax_upload = "8 GiB"\n')


class MemoryWatch:
    """The largest memory of the server and its children during an `async with` block, and its rise in MB."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.before = server.memory().rss
        self.peak = self.before

    @property
    def rise(self) -> float:
        return (self.peak - self.before) / 1e6

    async def watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._server.memory().rss)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def watched(server: Server) -> AsyncIterator[MemoryWatch]:
    watch = MemoryWatch(server)
    task = asyncio.create_task(watch.watch())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def large_file(server: Server, http: httpx.AsyncClient, size: int) -> list[str]:
    async def content() -> AsyncIterator[bytes]:
        for _ in range(size // len(_BLOCK)):
            yield _BLOCK

    rows = []
    async with watched(server) as watch:
        with server.measure() as spent:
            answer = await http.post(_UPLOAD, content=content())
        answer.raise_for_status()
    rows.append(f"upload of {size / 1e9:.1f} GB: {spent.wall:.1f} s, CPU {spent.cpu:.1f} s, RSS +{watch.rise:.1f} MB")
    place = answer.json()["content_uri"].removeprefix("mxc://")
    async with watched(server) as watch:
        received = 0
        with server.measure() as spent:
            async with http.stream("GET", f"/_matrix/client/v1/media/download/{place}") as download:
                async for piece in download.aiter_raw():
                    received += len(piece)
    assert received == size // len(_BLOCK) * len(_BLOCK)
    rows.append(f"download of it: {spent.wall:.1f} s, CPU {spent.cpu:.1f} s, RSS +{watch.rise:.1f} MB")
    return rows


def photo(width: int, height: int) -> bytes:
    """A picture that compresses as photos do: about 4 bits a pixel."""
    noise = Image.effect_noise((width // 4, height // 4), 60).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    noise.convert("RGB").save(file, "JPEG", quality=88)
    return file.getvalue()


async def chat(sender: User, receiver: User, room: str, latencies: list[float]) -> None:
    """Messages at a steady pace; how long each takes until it stands in the other's sync."""
    sync_filter = json_filter({"room": {"timeline": {"limit": 50}}})
    since = (await receiver.sync(None, 0, sync_filter))["next_batch"]
    sent: dict[str, float] = {}

    async def receive() -> None:
        nonlocal since
        while True:
            answer = await receiver.sync(since, 10_000, sync_filter)
            since = answer["next_batch"]
            for changed in answer.get("rooms", {}).get("join", {}).values():
                for event in changed["timeline"]["events"]:
                    mark = event["content"].get("body", "").rpartition("#")[2]
                    if mark in sent:
                        latencies.append(time.perf_counter() - sent.pop(mark))

    receiving = asyncio.create_task(receive())
    try:
        number = 0
        while True:
            number += 1
            sent[str(number)] = time.perf_counter()
            await sender.send(room, number)
            await asyncio.sleep(1 / _MESSAGES_PER_SECOND)
    finally:
        receiving.cancel()


async def photos(server: Server, http: httpx.AsyncClient, sender: User, receiver: User, count: int) -> list[str]:
    content = await asyncio.to_thread(photo, 5472, 3648)
    room = await sender.create_room("12", receiver)
    places = []
    for number in range(count):  # each one different
        answer = await http.post(_UPLOAD, content=content + number.to_bytes(4), headers={"Content-Type": "image/jpeg"})
        answer.raise_for_status()
        places.append(answer.json()["content_uri"].removeprefix("mxc://"))
    latencies: list[float] = []
    chatting = asyncio.create_task(chat(sender, receiver, room, latencies))
    turns = asyncio.Semaphore(8)

    async def thumbnail(place: str) -> None:
        async with turns:
            path = f"/_matrix/client/v1/media/thumbnail/{place}?width=800&height=600&method=scale"
            (await http.get(path)).raise_for_status()

    async with watched(server) as watch:
        with server.measure() as spent:
            await asyncio.gather(*map(thumbnail, places))
    chatting.cancel()
    await asyncio.gather(chatting, return_exceptions=True)
    p95 = statistics.quantiles(latencies, n=20)[-1] * 1000
    return [
        f"{count} thumbnails of photos of 20 megapixels ({len(content) / 1e6:.1f} MB each): {spent.wall:.1f} s,"
        f" CPU {spent.cpu:.1f} s, RSS of all processes +{watch.rise:.1f} MB",
        f"messages meanwhile: {len(latencies)}, p50 {statistics.median(latencies) * 1000:.1f} ms, p95 {p95:.1f} ms",
    ]


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.media", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--photos", type=int, default=200)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="tinyserver-media-") as directory:
        server = MediaServer(Path(directory))
        await server.configure()
        await server.start()
        try:
            sender, receiver = await User.register(server.http, "alice"), await User.register(server.http, "bob")
            headers = {"Authorization": f"Bearer {sender.token}"}
            base_url = f"http://127.0.0.1:{server.port}"
            async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=600, trust_env=False) as http:
                print(f"idle: RSS {server.memory().rss / 1e6:.1f} MB")
                for row in await large_file(server, http, int(options.gigabytes * 1e9)):
                    print(row)
                for row in await photos(server, http, sender, receiver, options.photos):
                    print(row)
        finally:
            await server.stop()


if __name__ == "__main__":
    asyncio.run(main())
