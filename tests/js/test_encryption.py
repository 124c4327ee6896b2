"""End-to-end encryption with matrix-js-sdk and its Rust crypto: nobody is unable to decrypt."""

from __future__ import annotations

import pytest

from .scenario import Scenario


@pytest.mark.parametrize("name", ["verification", "rooms", "backup", "devices"])
async def test_encryption(scenario: Scenario, name: str) -> None:
    await scenario.run(name)
