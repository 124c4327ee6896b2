"""Fixtures: `world` is tinyserver's side with nobody else on the internet; `make_world` takes options."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest_asyncio

from .world import World
from .world import world as new_world

MakeWorld = Callable[..., Awaitable[World]]


@pytest_asyncio.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[MakeWorld]:
    async with AsyncExitStack() as stack:

        async def make(**options: Any) -> World:
            return await stack.enter_async_context(new_world(tmp_path, **options))

        yield make


@pytest_asyncio.fixture
async def world(make_world: MakeWorld) -> World:
    return await make_world()
