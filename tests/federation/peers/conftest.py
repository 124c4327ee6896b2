"""Fixtures: one Synapse and one tinyserver that know each other, for all tests of this folder.

`pair` gives who hosts the room and who comes from the other server, in both directions.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from benchmarks.compare.server import BenchmarkError
from benchmarks.compare.synapse import Synapse as SynapseInstallation

from ...server.client import Client
from ...server.harness import TinyServer, free_port
from ..network import Authority
from .synapse import Synapse

# Where the benchmark keeps its Synapse too.
INSTALLATIONS = Path(__file__).parents[3] / ".bench"

AnyServer = Synapse | TinyServer
NewUser = Callable[..., Awaitable[Client]]
MakeTiny = Callable[..., TinyServer]

_numbers = itertools.count(1)


on_tinyserver = pytest.mark.parametrize("pair", ["on tinyserver"], indirect=True)
on_synapse = pytest.mark.parametrize("pair", ["on Synapse"], indirect=True)


@dataclass(frozen=True)
class Pair:
    """Two servers: a room is made on `host`, people come from `guest`."""

    host: AnyServer
    guest: AnyServer


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that all servers of these tests trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def synapse_python() -> Path:
    """The interpreter of an installed Synapse; without one these tests are skipped."""
    INSTALLATIONS.mkdir(exist_ok=True)
    try:
        return asyncio.run(SynapseInstallation.install(INSTALLATIONS)) / "bin" / "python"
    except (BenchmarkError, TimeoutError) as error:
        pytest.skip(f"Synapse cannot be installed here: {error}")


@pytest.fixture(scope="session")
def session_synapse(
    synapse_python: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Synapse]:
    server = Synapse(tmp_path_factory.mktemp("synapse"), synapse_python, authority)
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.kill()


def tiny_server(
    directory: Path,
    authority: Authority,
    host: str = "localhost",
    *,
    port: int | None = None,
    reached_at: int | None = None,
) -> TinyServer:
    """A tinyserver that listens over TLS at `port` for other servers; they look for it at the port `reached_at`."""
    port = port or free_port()
    certificate, key = authority.issue("localhost")
    outgoing = {"extra_ca_files": [str(authority.ca_file)], "allow_private_addresses": True}
    config = {"outgoing": outgoing, "identity": {"servers": ["*"]}}
    server = TinyServer(directory, server_name=f"localhost:{reached_at or port}", config=config)
    server.init_with_federation(port, certificate, key, media=True)
    return server


@pytest.fixture(scope="session")
def session_tiny(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyServer]:
    server = tiny_server(tmp_path_factory.mktemp("tiny"), authority)
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.kill()
    server.log.check()


def _watched(server: AnyServer) -> Iterator[AnyServer]:
    mark = server.log.mark()
    assert server.running, f"the server died in an earlier test:\n{server.log.text()[-4000:]}"
    yield server
    print(server.log.text(mark)[-30_000:])  # shown only if the test fails


@pytest.fixture
def synapse(session_synapse: Synapse) -> Iterator[AnyServer]:
    """The running Synapse."""
    yield from _watched(session_synapse)


@pytest.fixture
def tiny(session_tiny: TinyServer) -> Iterator[AnyServer]:
    """The running tinyserver; the test fails if it logs an unhandled error meanwhile."""
    yield from _watched(session_tiny)
    session_tiny.answer()
    session_tiny.log.check()


@pytest.fixture(params=["on tinyserver", "on Synapse"])
def pair(request: pytest.FixtureRequest, tiny: TinyServer, synapse: Synapse) -> Pair:
    """The host is tinyserver, then Synapse."""
    return Pair(tiny, synapse) if request.param == "on tinyserver" else Pair(synapse, tiny)


@pytest_asyncio.fixture
async def new_user() -> AsyncIterator[NewUser]:
    """`await new_user(server, "alice")`: a new account with a name that starts so, logged in."""
    clients: list[Client] = []

    async def make(server: AnyServer, name: str = "user", **options: Any) -> Client:
        clients.append(Client(server.base_url, checked=not isinstance(server, Synapse)))
        return await clients[-1].register(f"{name}-{next(_numbers)}", **options)

    yield make
    for client in clients:
        await client.close()
