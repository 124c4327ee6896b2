"""Fixtures of the tests that talk to a real server process.

`server` is one process for the whole test module; a module sets its config by a global `SERVER_CONFIG = {...}` (laid
over the generated one), or, with a mail server, by a function `config_with(mails)`, and its environment by
`SERVER_ENVIRONMENT`. Tests on it keep apart by making their own users: `new_user`.
`fresh_server` is a process for one test alone, to be killed and restarted; `make_server` makes several.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from ..mail_server import MailServer
from .client import Client
from .harness import TinyServer

_numbers = itertools.count(1)

NewUser = Callable[..., Awaitable[Client]]
MakeServer = Callable[..., TinyServer]


def _options(module: Any) -> dict[str, Any]:
    return {
        "config": getattr(module, "SERVER_CONFIG", None),
        "environment": getattr(module, "SERVER_ENVIRONMENT", None),
    }


@pytest.fixture(scope="module")
def mails() -> Iterator[MailServer]:
    """A mail server for the module."""
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def module_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyServer]:
    """The module's server process; tests use `server`, which also looks at the log."""
    options = _options(request.module)
    if hasattr(request.module, "config_with"):
        options["config"] = request.module.config_with(request.getfixturevalue("mails"))
    server = TinyServer(tmp_path_factory.mktemp("server"), **options)
    server.start()
    try:
        yield server
        server.stop()
    finally:
        server.kill()
    server.log.check()


@pytest.fixture
def server(module_server: TinyServer) -> Iterator[TinyServer]:
    """The module's running server; the test fails if the server logs an unhandled error meanwhile."""
    mark = module_server.log.mark()
    assert module_server.running, f"the server died in an earlier test:\n{module_server.log.text()[-4000:]}"
    yield module_server
    if module_server.running:
        module_server.answer()
    print(module_server.log.text(mark))  # shown only if the test fails
    module_server.log.check()


@pytest.fixture
def make_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeServer]:
    """`make_server(config=..., environment=..., server_name=..., start=True)`: servers for one test."""
    servers: list[TinyServer] = []

    def make(*, start: bool = True, **options: Any) -> TinyServer:
        made = TinyServer(tmp_path_factory.mktemp("server"), **{**_options(request.module), **options})
        servers.append(made)
        if start:
            made.start()
        return made

    yield make
    try:
        for made in servers:
            made.stop()
    finally:
        for made in servers:
            made.kill()
            print(made.log.text())
    for made in servers:
        made.log.check()


@pytest.fixture
def fresh_server(make_server: MakeServer) -> TinyServer:
    """A running server for this test alone."""
    return make_server()


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Callable[..., Client]]:
    """`connect(server)`: an anonymous client, closed at the end of the test; further arguments go to `Client`."""
    clients: list[Client] = []

    def make(server: TinyServer, *arguments: Any, **options: Any) -> Client:
        clients.append(Client(server.base_url, *arguments, **options))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
def new_user(connect: Callable[..., Client], request: pytest.FixtureRequest) -> NewUser:
    """`await new_user("alice")`: a new account with a name that starts so, logged in.

    It lives on `fresh_server` if the test asked for one, else on the module's `server`, or where `server=` says.
    `admin=True` makes an administrator.
    """

    async def make(name: str = "user", *, server: TinyServer | None = None, admin: bool = False) -> Client:
        if server is None:
            own = "fresh_server" if "fresh_server" in request.fixturenames else "server"
            server = request.getfixturevalue(own)
        return await connect(server).register(f"{name}-{next(_numbers)}", admin=admin)

    return make
