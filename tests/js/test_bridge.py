"""A bridge with matrix-bot-sdk."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from ..server.harness import TinyServer, free_port
from .scenario import Scenario


async def test_bridge(scenario: Scenario, server: TinyServer, tmp_path: Path) -> None:
    async def add_service(registration: dict[str, Any]) -> None:
        file = tmp_path / "registration.yaml"
        file.write_text(json.dumps(registration))
        options = ("--config", str(server.config_file))
        done = await asyncio.to_thread(server.command, "appservice", "add", str(file), *options)
        assert done.returncode == 0, done.stderr

    scenario.handlers["add_service"] = add_service
    await scenario.run("bridge", port=free_port())
