"""`world`: the parts of accounts on an empty database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from .world import World


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Open for registration, with the shared secret "secret"."""
    made = World(tmp_path)
    made.db.start()
    yield made
    await made.close()
