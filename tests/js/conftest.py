"""Fixtures: Node with its packages, and scenarios on a server of the module or of the test alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..server.conftest import fresh_server, make_server, module_server, server
from ..server.harness import TinyServer
from .installation import NotInstallable, install
from .scenario import Scenario
from .scenario import Server as AnyServer

__all__ = ["fresh_server", "make_server", "module_server", "server"]

MakeScenario = Callable[..., Scenario]


@pytest.fixture(scope="session")
def node() -> Path:
    """Node, with the packages that scenarios use; without it these tests are skipped."""
    try:
        return install()
    except NotInstallable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def make_scenario(node: Path) -> MakeScenario:
    """`make_scenario(tiny=server, ...)`: a scenario on these servers."""

    def make(**servers: AnyServer) -> Scenario:
        return Scenario(node, servers)

    return make


@pytest.fixture
def scenario(server: TinyServer, make_scenario: MakeScenario) -> Scenario:
    """A scenario on the module's server."""
    return make_scenario(tiny=server)
