"""Two servers between which everything fails: in the end both have the same."""

from __future__ import annotations

from pathlib import Path

from .storm import on_request, storm


@on_request
async def test_two_servers_come_to_the_same(tmp_path: Path) -> None:
    await storm(tmp_path, count=2, version="11", deeds=2000, seed=2)
