"""Fixtures: a real server process, somebody there, and a scripted peer that she lets into her rooms."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest
import pytest_asyncio

from ..server.client import Client
from ..server.harness import TinyServer
from .network import Authority
from .peers.conftest import tiny_server
from .scripted_peer import RemoteRoom, ScriptedPeer, scripted_peer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[TinyServer]:
    made = tiny_server(tmp_path_factory.mktemp("tiny"), authority)
    try:
        made.start()
        yield made
        made.stop()
    finally:
        made.kill()


@pytest.fixture
def server(running: TinyServer) -> Iterator[TinyServer]:
    yield running
    running.answer()
    running.log.check()


@pytest_asyncio.fixture
async def alice(server: TinyServer) -> AsyncIterator[Client]:
    client = Client(server.base_url)
    yield await client.register(f"alice-{time.monotonic_ns()}")
    await client.close()


@pytest_asyncio.fixture
async def peer(server: TinyServer, authority: Authority) -> AsyncIterator[ScriptedPeer]:
    async with scripted_peer(authority, server) as made:
        yield made


def stored_events(server: TinyServer, room_id: str) -> int:
    with closing(sqlite3.connect(f"file:{server.data_dir / 'tinyserver.db'}?mode=ro", uri=True)) as db:
        query = (
            "SELECT count(*) FROM events WHERE room = (SELECT nid FROM rooms WHERE room_id = ?) AND place IS NOT NULL"
        )
        return int(db.execute(query, (room_id,)).fetchone()[0])


async def entered(alice: Client, peer: ScriptedPeer) -> RemoteRoom:
    return await peer.join(await alice.create_room(preset="public_chat", room_version="11"))
