"""Two servers between which everything fails: in the end both have the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from .storm import DEEDS, storm


async def test_two_servers_come_to_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = await storm(tmp_path, count=2, version="11", deeds=DEEDS, seed=2)
    with capsys.disabled():
        print("\n" + figures)
