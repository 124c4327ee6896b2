"""Simplified sliding sync with matrix-js-sdk."""

from __future__ import annotations

from ..server.harness import TinyServer
from .conftest import MakeScenario


async def test_sliding_sync(fresh_server: TinyServer, make_scenario: MakeScenario) -> None:
    await make_scenario(tiny=fresh_server).run("sliding")
