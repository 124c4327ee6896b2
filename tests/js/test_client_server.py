"""What people do all day with a web client, unencrypted: the server's part of it is seen from matrix-js-sdk."""

from __future__ import annotations

import pytest

from .scenario import Scenario


@pytest.mark.parametrize("name", ["conversations", "spaces"])
async def test_client_server(scenario: Scenario, name: str) -> None:
    await scenario.run(name)
