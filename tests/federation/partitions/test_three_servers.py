"""Three servers between which everything fails: in the end all have the same."""

from __future__ import annotations

from pathlib import Path

from .storm import on_request, storm


@on_request
async def test_three_servers_come_to_the_same(tmp_path: Path) -> None:
    await storm(tmp_path, count=3, version="12", deeds=2000, seed=3)
