"""matrix-js-sdk with its Rust crypto on tinyserver and on Synapse: all devices of both sides decrypt everything."""

from __future__ import annotations

from ...js.conftest import MakeScenario, make_scenario, node
from .conftest import Pair

__all__ = ["make_scenario", "node"]


async def test_encryption_over_outages(pair: Pair, make_scenario: MakeScenario) -> None:
    await make_scenario(host=pair.host, guest=pair.guest).run("federation", timeout=300)
